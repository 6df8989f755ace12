"""Which labels to sample, and the mixtures of predictions that guidance makes of them.

NumPy only, so that the command line needs no Keras for it.
"""

import csv
import dataclasses

import numpy as np

from ddpm_keras.errors import nearest, require, short

NO_LABEL = -1
MAX_CLASSES = 10_000


@dataclasses.dataclass(frozen=True, eq=False)
class Labels:
    """For each image, the labels whose predictions are mixed.

    Attributes:
        labels: int32 array of shape `(num_images, k)`; `NO_LABEL` for none.
        weights: float32 array of that shape; None where k is 1.
    """

    labels: np.ndarray
    weights: np.ndarray | None = None

    def __len__(self):
        return len(self.labels)

    @property
    def passes(self):
        """Predictions of the network that each image needs."""
        return self.labels.shape[1]

    def take(self, places):
        """Select images by an int array."""
        weights = None if self.weights is None else self.weights[places]
        return Labels(self.labels[places], weights)

    def guided(self, scale):
        """Add "no label", for classifier-free guidance of this scale.

        Ho and Salimans 2022, equation 6 (https://arxiv.org/abs/2207.12598). Scale 1 is
        the prediction with labels, and 0 that without.
        """
        if scale == 1:
            return self
        none = np.full_like(self.labels[:, :1], NO_LABEL)
        if scale == 0:
            return Labels(none)
        weights = np.ones_like(self.labels) if self.weights is None else self.weights
        return Labels(
            np.concatenate([none, self.labels], axis=1),
            np.concatenate(
                [np.full(none.shape, 1.0 - scale), scale * weights], axis=1
            ).astype("float32"),
        )


def make_labels(labels, num_images, num_classes):
    """Check labels, and give each image one.

    Args:
        labels: An int for all images, an int array of shape `(num_images,)`, or a
            `Labels`; 0 to `num_classes - 1`, or `NO_LABEL`.
        num_images: Number of images.
        num_classes: Number of classes that the network knows; 0 without labels.

    Returns:
        A `Labels` of `num_images` images.

    Raises:
        ArgumentError: When they do not fit.
    """
    require(num_classes > 0, "The network has no labels.", labels=labels)
    if isinstance(labels, Labels):
        made = labels
    else:
        array = np.asarray(labels)
        require(
            array.dtype.kind in "iu" and array.ndim < 2,
            "`labels` must be an integer, or one for each image.",
            labels=labels,
        )
        made = Labels(np.atleast_1d(array).astype("int32")[:, None])
        if array.ndim == 0:
            made = made.take(np.zeros(num_images, int))
    require(
        len(made) == num_images,
        f"`labels` must be an integer, or {num_images}, one for each image.",
        labels=len(made),
    )
    check_labels(made.labels, num_classes)
    return made


def check_labels(labels, num_classes):
    """Raise `ArgumentError` unless an array's labels are known, or `NO_LABEL`."""
    lowest, highest = np.min(labels), np.max(labels)
    require(
        lowest >= NO_LABEL and highest < num_classes,
        f"`labels` must be 0 to {num_classes - 1}, or {NO_LABEL} for none.",
        labels=int(lowest if lowest < NO_LABEL else highest),
    )


def between_labels(first, second, count):
    """Mix the predictions for two labels, from all of the first to all of the second.

    Returns:
        `Labels` of `count` images.
    """
    share = np.linspace(0.0, 1.0, count, dtype="float32")
    labels = np.tile(np.int32([[first, second]]), (count, 1))
    return Labels(labels, np.stack([1.0 - share, share], axis=1))


def spread_labels(num_images, num_classes):
    """Spread images evenly over the classes, in their order: an int32 array."""
    return (np.arange(num_images) * num_classes // num_images).astype("int32")


def check_guidance(scale, interval):
    """Raise `ArgumentError` when a scale or an interval is not possible."""
    require(
        np.isfinite(scale) and scale >= 0,
        "`guidance_scale` must be 0 or more.",
        guidance_scale=scale,
    )
    low, high = interval
    require(
        0 <= low < high <= 1,
        "`guidance_interval` must be two numbers, 0 <= low < high <= 1.",
        guidance_interval=interval,
    )


def guided_steps(timesteps, total, interval):
    """Say which steps are inside an interval of noise levels.

    Kynkäänniemi et al. 2024 (https://arxiv.org/abs/2404.07724).

    Args:
        timesteps: Timesteps that the steps start from, an int array `(steps,)`.
        total: Number of timesteps of the process.
        interval: `(low, high)`, as shares of the process: 0 is the clean image, 1 pure
            noise.

    Returns:
        A bool array of shape `(steps,)`.
    """
    share = (timesteps + 1) / total
    return (interval[0] < share) & (share <= interval[1])


def read_labels(text, names):
    """Read class names or numbers, separated by commas or lines; "all" is every class.

    Args:
        text: Such as `"sunflower,tiger lily,7"`, in any case; of classes that differ
            in case only, the one as written, else the first.
        names: The class names, by label.

    Returns:
        A list of labels.

    Raises:
        ValueError: When there is no such class; the message names the nearest.
    """
    if text == "all":
        return list(range(len(names)))
    # A name may contain a comma: quoted, as in CSV.
    rows = csv.reader(text.splitlines(), skipinitialspace=True)
    words = [word for row in rows for word in row]
    require(len(words) > 0, "name one class or more.", labels=text)
    return [_read_label(word.strip(), names) for word in words]


def _read_label(word, names):
    if word in names:  # two classes may differ in case only
        return names.index(word)
    lower = [name.casefold() for name in names]
    if word.casefold() in lower:
        return lower.index(word.casefold())
    if word.isdecimal() and len(word) < 10 and int(word) < len(names):
        return int(word)
    near = nearest(word.casefold(), lower)
    hint = f"did you mean {names[lower.index(near)]!r}?" if near else "none is similar"
    raise ValueError(
        f"there is no class {short(repr(word))} among the {len(names)}; {hint}"
    )


def random_labels(seeds, frequencies):
    """Draw one label for each seed, which depends on the seed alone.

    Args:
        seeds: Ints, 0 or more.
        frequencies: How often each label is drawn, in proportion: an array of shape
            `(num_classes,)`.

    Returns:
        An int32 array of shape `(len(seeds),)`.
    """
    ends = np.cumsum(frequencies) / np.sum(frequencies)
    draws = [np.random.default_rng([int(seed), 1]).random() for seed in seeds]
    # Labels that never occur have an end equal to the one before, and are passed over.
    return np.searchsorted(ends, draws, side="right").astype("int32")
