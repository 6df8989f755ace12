"""Every measure of one set of samples, each beside what it gives for real images."""

import dataclasses

import numpy as np

from ddpm_keras.metrics.copies import memorisation
from ddpm_keras.metrics.fid import frechet_distance
from ddpm_keras.metrics.kid import kernel_distance
from ddpm_keras.metrics.prdc import overlap
from ddpm_keras.metrics.swd import sliced_wasserstein


@dataclasses.dataclass(frozen=True)
class Result:
    """A number of an evaluation.

    `reference` is the same measure where nothing is wrong: of two halves of the real
    images, or of training images left out. Errors are standard errors; `None` where
    there is none.
    """

    value: float
    error: float | None = None
    reference: float | None = None
    reference_error: float | None = None


def with_error(value, error):
    """A number and its standard error as text; either may be `None`."""
    if value is None:
        return ""
    return f"{value:.4g}" if error is None else f"{value:.4g} ± {error:.2g}"


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Images, uint8 `(num_images, height, width, channels)`, and their features.

    `features` has shape `(num_images, dims)`, or is `None` where no measure needs them.
    """

    images: np.ndarray
    features: np.ndarray | None = None

    def __len__(self):
        return len(self.images)

    def pick(self, places):
        """The images at some places, a slice or an index array."""
        features = None if self.features is None else self.features[places]
        return ImageSet(self.images[places], features)


def compare(metrics, real, samples, seed=0):
    """Measure the distance of samples from real images, and of the latter's halves.

    Args:
        metrics: Of `kid`, `fid`, `swd`, `prdc`; others are passed over.
        real: `ImageSet` of real images in random order; twice as many as there are
            samples make halves of their number.
        samples: `ImageSet` of samples.
        seed: Of every random choice.

    Returns:
        A dict of `Result`s, one or several for each metric.
    """
    half = len(real) // 2
    results = _distances(metrics, real, samples, seed)
    references = _distances(
        metrics, real.pick(slice(half)), real.pick(slice(half, 2 * half)), seed
    )
    return {
        name: Result(*result, *references[name]) for name, result in results.items()
    }


def _distances(metrics, real, samples, seed):
    """A dict from names to pairs of a value and its standard error, if any."""
    values = {}
    if "kid" in metrics:
        distance = kernel_distance(real.features, samples.features, seed=seed)
        values["kid"] = (distance.mean, distance.standard_error)
    if "fid" in metrics:
        values["fid"] = (frechet_distance(real.features, samples.features), None)
    # The others depend on the number of images, and ask for as many of each set.
    number = slice(min(len(real), len(samples)))
    real, samples = real.pick(number), samples.pick(number)
    if "swd" in metrics:
        distances = sliced_wasserstein(real.images, samples.images, seed)
        for level, distance in distances.items():
            values[f"swd {level}"] = (distance, None)
    if "prdc" in metrics:
        shares = overlap(real.features, samples.features)
        for name, share in dataclasses.asdict(shares).items():
            values[name] = (share, None)
    return values


def find_copies(training, samples, mirrored=None, seed=0):
    """Look for training images among samples, in pixels and in features.

    Args:
        training: `ImageSet` of all training images.
        samples: `ImageSet` of samples.
        mirrored: `ImageSet` of the mirrored training images, where training mirrors.
        seed: Of the choice of training images left out.

    Returns:
        A dict of `Result`s, and a dict of a `Memorisation` each for `pixels` and
        `features`.
    """
    results, findings = {}, {}
    for space in ("pixels", "features"):
        vectors = [
            None if images is None else _vectors(images, space)
            for images in (training, samples, mirrored)
        ]
        found = findings[space] = memorisation(*vectors, seed=seed)
        for name in ("closer", "copies"):
            results[f"{name} in {space}"] = Result(
                getattr(found, name), reference=getattr(found, f"{name}_expected")
            )
    return results, findings


def _vectors(images, space):
    if space == "features":
        return images.features
    return images.images.reshape(len(images), -1)


def summarise_bits(likelihood):
    """The mean bound and its standard error over images, for both variances.

    Args:
        likelihood: A `Likelihood`.

    Returns:
        A dict of `Result`s.
    """
    results = {}
    for variance in likelihood.terms:
        totals = likelihood.total(variance)
        error = totals.std(ddof=1) / np.sqrt(len(totals)) if len(totals) > 1 else None
        results[f"bpd {variance}"] = Result(
            float(totals.mean()), None if error is None else float(error)
        )
    return results
