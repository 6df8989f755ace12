"""The real images with which samples are compared."""

import dataclasses
import re
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_keras.cli.flags import find_config
from ddpm_keras.config import Config
from ddpm_keras.config_file import load_config
from ddpm_keras.data import load_images
from ddpm_keras.data.images import Images, split_indices
from ddpm_keras.data.pixels import shown_shape
from ddpm_keras.errors import InputError, LabelsError, short, warn
from ddpm_keras.metrics import METRICS
from ddpm_keras.runs.folder import CONFIG

# A data set of TFDS itself: no namespace, such as huggingface:mnist, no path, and no
# address.
PLAIN_NAME = re.compile(r"\w+(/[\w.-]+)?(:[\d.*]+)?")


def choose_data(args: Namespace, config: Config) -> Config:
    """Return the configuration whose data keys name the training images.

    Without `--data` it is that of the run folder or file of the weights, which may come
    from a stranger: neither leads to another machine, nor a file to a folder of this
    one.

    Raises:
        InputError: When there is none, or it names such a place.
    """
    run = Path(args.weights, CONFIG)
    if args.data is None and args.config is not None:
        return config
    if args.data is None and not run.is_file():
        if config.dataset_name == "folder" or config.data_dir is not None:
            raise InputError(
                "--data: the weights were trained on images in a folder; name it, or "
                "other images"
            )
        return _only_plain(config, args.weights)
    path = run if args.data is None else Path(args.data)
    if path.is_dir() and not (path / CONFIG).is_file():
        return config.model_copy(
            update={"dataset_name": "folder", "data_dir": str(path)}
        )
    if args.data is not None:
        path = path / CONFIG if path.is_dir() else find_config(args.data, "--data")
    data_config = load_config(path)
    shape, wanted = data_config.image_shape, config.image_shape
    if shape != wanted:
        raise InputError(
            f"--data: {path} has images of {shown_shape(shape)}, and the network makes "
            f"{shown_shape(wanted)}; name a configuration with its size"
        )
    return data_config if args.data is not None else _only_plain(data_config, path)


def _only_plain(config: Config, source: Path | str) -> Config:
    for key in ("dataset_name", "data_dir"):
        value = getattr(config, key) or ""
        plain = PLAIN_NAME.fullmatch(value) if key == "dataset_name" else True
        if not plain or "://" in value:
            raise InputError(
                f"--data: {source} has {key} {short(repr(value))}, which is read only "
                "where you name it yourself; name images of yours"
            )
    return config.model_copy(update={"cache_dir": None})  # nor written anywhere


def load_real(
    args: Namespace, data_config: Config, names: list[str] | None = None
) -> tuple[Images, Images]:
    """Load the training and the held-out images.

    Args:
        args: The flags.
        data_config: The configuration whose data keys name the images.
        names: The classes that the weights know, in whose order labels are numbered;
            images of another class have the label -1. Default: no labels.

    Raises:
        InputError: When there are too few for the metrics.
    """
    images = _load(data_config, names)
    indices = split_indices(images.ids, data_config.validation_fraction)
    training, held_out = (images.take(part) for part in indices)
    compares = any(METRICS[name].of_real for name in args.metrics)
    if args.against == "held-out" and not len(held_out) and compares:
        raise InputError(
            "--against: no image was held out (validation_fraction is 0); use training"
        )
    compared = training if args.against == "training" else held_out
    for name, metric in METRICS.items():
        # Twice as many: halves of the real images are compared as well.
        fewest = 2 * metric.fewest if metric.of_real else 0
        if name in args.metrics and len(compared) < fewest:
            raise InputError(
                f"--data: {name} needs {fewest} or more {args.against} images; there "
                f"are {len(compared)}"
            )
    if "nn" in args.metrics and len(training) < 3:
        raise InputError(
            f"--data: nn needs 3 or more training images; there are {len(training)}"
        )
    return training, held_out


def _load(config: Config, names: list[str] | None) -> Images:
    plain = config.model_copy(update={"class_labels": False, "class_names": None})
    if not names:
        return load_images(plain)
    try:
        images = load_images(plain.model_copy(update={"class_labels": True}))
    except LabelsError as error:
        warn(f"{error}; samples get their classes at random")
        found = load_images(plain)
        return dataclasses.replace(found, names=tuple(names))
    return images.with_names(names)


def count_classes(args: Namespace, training: Images) -> np.ndarray:
    """Count the training images of each class; 1 each where they have no labels.

    Where they show fewer than two classes, `labels` cannot be measured: it is left out
    of the metrics.

    Raises:
        InputError: When it was asked for.
    """
    known = [] if training.labels is None else training.labels[training.labels >= 0]
    counts = np.bincount(known, minlength=len(training.names)).astype(int)
    if np.count_nonzero(counts) < 2 and "labels" in args.metrics:
        if args.asked_for:
            raise InputError(
                "--data: the images show fewer than two of the classes that the "
                "weights know; name others, or leave labels out of --metrics"
            )
        args.metrics.discard("labels")
    return counts if counts.any() else np.ones(len(training.names), int)


def describe_data(config: Config, training: Images, held_out: Images) -> dict[str, Any]:
    """Describe the real images for the protocol of an evaluation."""
    names = ("dataset_name", "splits", "data_dir", "validation_fraction", "seed")
    return {name: getattr(config, name) for name in names} | {
        "training_images": len(training),
        "held_out_images": len(held_out),
        "size": shown_shape(training.pixels.shape[1:]),
        "resize": "drawn at this size"
        if config.dataset_name == "petals"
        else "centre crop, antialiased bilinear",
    }
