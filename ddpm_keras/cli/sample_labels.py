"""The labels of `ddpm-sample`: which image has which, and how they are shown."""

import dataclasses
from argparse import Namespace
from typing import Any

import numpy as np

from ddpm_keras.config import Config
from ddpm_keras.errors import InputError, printable
from ddpm_keras.labels import (
    NO_LABEL,
    Labels,
    between_labels,
    random_labels,
    read_labels,
)


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The seed and the label of each image.

    Attributes:
        seeds: Int array of shape `(num_images,)`.
        labels: What `ReverseProcess.batches` takes; None without labels.
        names: The class name of each image, or an empty tuple.
        rows: Names of the rows of a grid, or an empty tuple.
    """

    seeds: np.ndarray
    labels: Labels | np.ndarray | None = None
    names: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()

    def take(self, places: np.ndarray) -> "Chosen":
        """Select images by an int array; there must be a label for each, or none."""
        return dataclasses.replace(
            self,
            seeds=self.seeds[places],
            labels=None if self.labels is None else self.labels[places],
            names=tuple(self.names[k] for k in places) if self.names else (),
        )

    @property
    def text(self) -> dict[str, Any]:
        """Text to store in files of all images."""
        return {"labels": ", ".join(dict.fromkeys(self.names))} if self.names else {}


def list_labels(config: Config) -> None:
    """Print number and name of every class."""
    for label, name in enumerate(_names("--list-labels", config)):
        print(f"{label:4d}  {printable(name)}")


def choose_labels(args: Namespace, config: Config, seeds: np.ndarray) -> Chosen:
    """Give each image its seed and its label.

    Raises:
        InputError: When the weights know no such class, or none at all.
    """
    if args.interpolate_labels:
        names = _names("--interpolate-labels", config)
        flag, ends = "--interpolate-labels", args.interpolate_labels
        first, second = (_read_one(flag, end, names) for end in ends)
        labels = between_labels(first, second, len(seeds))
        shown = f"{names[first]} to {names[second]}"
        same = np.full(len(seeds), seeds[0])
        return Chosen(same, labels, (shown,) * len(seeds))
    if args.labels is None and not config.class_names:
        return Chosen(seeds)
    names = _names("--labels", config)
    if args.labels == "none":
        return Chosen(seeds, np.full(len(seeds), NO_LABEL))
    if args.labels in (None, "random"):
        labels = random_labels(seeds, np.ones(len(names)))
        if args.interpolate:  # the images share one label, as they share the noise
            labels = np.full(len(seeds), labels[0])
        return Chosen(seeds, labels, tuple(names[k] for k in labels))
    classes = _read("--labels", args.labels, names)
    if args.interpolate and len(classes) > 1:
        raise InputError("--labels: --interpolate takes one label")
    labels = np.repeat(classes, len(seeds)).astype("int32")
    rows = tuple(names[k] for k in classes)
    return Chosen(
        np.tile(seeds, len(classes)), labels, tuple(names[k] for k in labels), rows
    )


def _names(flag: str, config: Config) -> list[str]:
    if not config.class_names:
        raise InputError(
            f"{flag}: these weights know no classes; train with --class_labels true"
        )
    return config.class_names


def _read_one(flag: str, text: str, names: list[str]) -> int:
    labels = _read(flag, text, names)
    if len(labels) != 1:
        raise InputError(
            f"{flag}: {text!r} names {len(labels)} classes; name one (in quotes, if "
            "there is a comma in its name)"
        )
    return labels[0]


def _read(flag: str, text: str, names: list[str]) -> list[int]:
    try:
        return read_labels(text, names)
    except ValueError as error:
        raise InputError(f"{flag}: {error} (--list-labels shows all)") from error
