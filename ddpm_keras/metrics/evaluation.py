"""Every measure of one set of samples, each beside its value for real images."""

import dataclasses

import numpy as np

from ddpm_keras.metrics.copies import COPY_RATIO, memorisation
from ddpm_keras.metrics.fid import frechet_distance
from ddpm_keras.metrics.kid import kernel_distance
from ddpm_keras.metrics.prdc import overlap
from ddpm_keras.metrics.whitening import whitening


@dataclasses.dataclass(frozen=True)
class Result:
    """A number of an evaluation.

    Attributes:
        value: The measure of the samples, or of the model.
        error: Its standard error, or `None`.
        reference: The same measure where nothing is wrong: between two halves of the
            real images, or of training images left out, or of held-out images. `None`
            where there is none.
        reference_error: The standard error of that, or `None`.
    """

    value: float
    error: float | None = None
    reference: float | None = None
    reference_error: float | None = None


# Of the first words of results; `closer` and `copies` should be as the reference.
BETTER = {
    **dict.fromkeys(("kid", "fid", "bpd"), "lower"),
    **dict.fromkeys(("precision", "recall", "density", "coverage"), "higher"),
    "label": "higher",
}


def better(name):
    """Say which values of a result are better: lower, higher, or None for neither."""
    return BETTER.get(name.partition(" ")[0])


def with_error(value, error):
    """Format a number and its standard error; either may be `None`."""
    if value is None:
        return ""
    return f"{value:.4g}" if error is None else f"{value:.4g} ± {error:.2g}"


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Images and their features.

    Attributes:
        images: uint8 array of shape `(num_images, height, width, channels)`.
        features: Array of shape `(num_images, dims)`, or `None` when no measure needs
            them.
    """

    images: np.ndarray
    features: np.ndarray | None = None

    def __len__(self):
        return len(self.images)

    def pick(self, places):
        """Return the `ImageSet` at `places`, a slice or an index array."""
        features = None if self.features is None else self.features[places]
        return ImageSet(self.images[places], features)


def whiten(reference, *sets):
    """Whiten the features of `ImageSet`s by those of another, which may be among them.

    Returns:
        A list of `ImageSet`s; see `ddpm_keras.metrics.whitening`.
    """
    transform = whitening(reference.features)
    return [dataclasses.replace(s, features=transform(s.features)) for s in sets]


def compare(metrics, real, samples):
    """Measure the distance of samples from real images, and between halves of these.

    Args:
        metrics: Names: `kid`, `fid`, `prdc`; others are ignored.
        real: `ImageSet` of real images in random order; give twice as many as there are
            samples, so that each half has as many.
        samples: `ImageSet` of samples.

    Returns:
        A dict of `Result`s, one or several for each metric.
    """
    half = len(real) // 2
    halves = real.pick(slice(half)), real.pick(slice(half, 2 * half))
    results = _distances(metrics, real, samples)
    references = _distances(metrics, *halves)
    return {name: Result(*results[name], *references[name]) for name in results}


def _distances(metrics, real, samples):
    """Return a dict from names to pairs of a value and its standard error or None."""
    values = {}
    if "kid" in metrics:
        distance = kernel_distance(real.features, samples.features)
        values["kid"] = (distance.mean, distance.standard_error)
    if "fid" in metrics:
        values["fid"] = (frechet_distance(real.features, samples.features), None)
    if "prdc" in metrics:
        # They depend on the number of images, and need as many of each set.
        number = slice(min(len(real), len(samples)))
        real, samples = real.pick(number), samples.pick(number)
        shares = dataclasses.asdict(overlap(real.features, samples.features))
        values |= {name: (share, None) for name, share in shares.items()}
    return values


def find_copies(training, samples, mirrored=None, seed=0, verbose=1):
    """Look for training images among samples, in pixels and in features.

    Args:
        training: `ImageSet` of all training images.
        samples: `ImageSet` of samples.
        mirrored: `ImageSet` of the mirrored training images, where training mirrors.
        seed: Seed of the choice of training images left out.
        verbose: 1 shows progress.

    Returns:
        A dict of `Result`s, and a dict with a `Memorisation` each for `pixels` and
        `features`.
    """
    sets = [images for images in (training, samples, mirrored) if images is not None]
    vectors = {
        "pixels": [s.images for s in sets],
        "features": [s.features for s in sets],
    }
    findings = {
        space: memorisation(*some, seed=seed, verbose=verbose)
        for space, some in vectors.items()
    }
    results = {
        f"{name} in {space}": Result(
            getattr(found, name), reference=getattr(found, f"{name}_expected")
        )
        for space, found in findings.items()
        for name in ("closer", "copies")
    }
    return results, findings


def count_by_class(findings, labels, names):
    """Count the samples of each class, and those that are near to a training image.

    Args:
        findings: Dict from spaces to `Memorisation`s, as of `find_copies`.
        labels: Label of each sample.
        names: Class names, by label.

    Returns:
        A dict from the names of the classes that were sampled to dicts of counts: of
        samples, and in each space of those that count as `closer` and as `copies`.
    """
    counts = {}
    for label in np.unique(labels):
        own = labels == label
        counts[names[label]] = {"samples": int(own.sum())} | {
            f"{name} in {space}": int((found.ratios[own] < limit).sum())
            for space, found in findings.items()
            for name, limit in (("closer", 1.0), ("copies", COPY_RATIO))
        }
    return counts


def summarise_bits(likelihood):
    """Summarise a `Likelihood`: mean bound and standard error, for both variances.

    Returns:
        A dict of `Result`s; the error of a single image is `None`.
    """
    results = {}
    for variance in likelihood.terms:
        totals = likelihood.total(variance)
        number, error = len(totals), None
        if number > 1:
            error = float(totals.std(ddof=1) / np.sqrt(number))
        results[f"bpd {variance}"] = Result(float(totals.mean()), error)
    return results
