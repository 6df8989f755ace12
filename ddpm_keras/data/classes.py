"""Classes of images: which class each image has, and the names of the classes."""

import json
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_keras.errors import InputError, LabelsError, short
from ddpm_keras.labels import MAX_CLASSES

MAX_NAME_LENGTH = 200  # characters
MAX_NAMES_BYTES = 200_000  # so that configurations and weights can hold them
# Written by the data set tools of StyleGAN and EDM (github.com/NVlabs/edm).
DATASET_JSON = "dataset.json"


def number_classes(
    classes: Sequence[Hashable], name_of: Callable[[Any], str] = str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Number the classes that images have from 0, in their sorted order.

    Args:
        classes: The class of each image: all of them texts, or all of them ints.
        name_of: Function from a class to its name.

    Returns:
        The label of each image, an int32 array of shape `(num_images,)`; and the class
        names, by label. Every class has an image.

    Raises:
        InputError: When there are too many classes, or names that are empty, too long
            or not distinct.
    """
    present = sorted(set(classes))
    if len(present) > MAX_CLASSES:
        raise LabelsError(
            f"class_labels: the images have {len(present):,} classes; join some of "
            f"them, up to {MAX_CLASSES:,} are possible"
        )
    label_of = {a_class: label for label, a_class in enumerate(present)}
    labels = np.array([label_of[a_class] for a_class in classes], "int32")
    return labels, _checked_names([name_of(a_class) for a_class in present])


def check_class_names(names: Sequence[str], wanted: Sequence[str]) -> None:
    """Raise an `InputError` unless a data set's class names are those wanted."""
    if tuple(names) == tuple(wanted):
        return
    pairs = zip(names, wanted, strict=False)
    first = next(
        (k for k, (name, want) in enumerate(pairs) if name != want),
        min(len(names), len(wanted)),
    )
    has, want = (
        repr(some[first]) if first < len(some) else "missing"
        for some in (names, wanted)
    )
    raise InputError(
        f"class_names: the data set's classes are {short(', '.join(names))}; class "
        f"{first} is {has} there and {want} in class_names; correct these, or leave "
        "the key out"
    )


def find_classes(folder: str, ids: Sequence[str]) -> list[str] | list[int]:
    """Find the class of each image of a folder, without reading the images.

    It is the image's number in `dataset.json` of the folder, if that file exists:
    `{"labels": [["00000/img00000000.png", 6], ...]}`. Otherwise it is the name of the
    first-level subfolder that holds the image, at any depth.

    Args:
        folder: The folder.
        ids: Paths of the images relative to it, with "/".

    Returns:
        Names, or with `dataset.json` numbers, in the order of `ids`.

    Raises:
        InputError: When an image has no class, or `dataset.json` cannot be used.
    """
    path = Path(folder, DATASET_JSON)
    if path.is_file():
        return _listed_classes(path, ids)
    outside = next((image for image in ids if "/" not in image), None)
    if outside is not None:
        raise LabelsError(
            f"class_labels: {outside!r} in {folder} lies outside of a class folder; "
            "put each image into a subfolder named after its class, or leave the key "
            "out"
        )
    return [image.partition("/")[0] for image in ids]


def _listed_classes(path: Path, ids: Sequence[str]) -> list[int]:
    """Return the numbers that `dataset.json` gives these images."""
    try:
        listed = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = str(getattr(error, "strerror", None) or error).splitlines()[0]
        raise LabelsError(
            f"class_labels: cannot read {path} ({reason}); mend it, or remove it and "
            "put each class into a subfolder"
        ) from error
    entries = listed.get("labels") if isinstance(listed, dict) else None
    if entries is None:
        raise LabelsError(
            f"class_labels: {path} has no labels; list [file, class number] of each "
            "image, or remove it and put each class into a subfolder"
        )
    if not isinstance(entries, list):
        entries = [entries]  # and refuse it as an entry
    for entry in entries:
        if not _is_entry(entry):
            raise LabelsError(
                f"class_labels: labels of {path} must be pairs of a file and its class "
                f"number, 0 or more; received {short(json.dumps(entry))}"
            )
    class_of = dict(entries)
    missing = next((image for image in ids if image not in class_of), None)
    if missing is not None:
        raise LabelsError(
            f"class_labels: {missing!r} is not listed in {path}; add its class number, "
            "or move the image away"
        )
    return [class_of[image] for image in ids]


def _is_entry(entry: Any) -> bool:
    """Check that an entry is a list of a file's name and a class number."""
    if not isinstance(entry, list) or len(entry) != 2:
        return False
    name, number = entry
    return isinstance(name, str) and type(number) is int and 0 <= number < 2**31


def _checked_names(names: Sequence[str]) -> tuple[str, ...]:
    """Make class names printable, and refuse those that cannot be used."""
    shown: dict[str, str] = {}
    for name in names:
        text = "".join(c if c.isprintable() else "?" for c in name.strip())
        if not text:
            raise LabelsError(
                f"class_labels: {name!r} is no class name; rename the class"
            )
        if len(text) > MAX_NAME_LENGTH:
            raise LabelsError(
                f"class_labels: the class name {short(repr(text))} has {len(text)} "
                f"characters; shorten it to {MAX_NAME_LENGTH}"
            )
        if text in shown:
            raise LabelsError(
                f"class_labels: the classes {short(repr(shown[text]))} and "
                f"{short(repr(name))} have the same name; rename one"
            )
        shown[text] = name
    size = sum(len(text.encode()) for text in shown)
    if size > MAX_NAMES_BYTES:
        raise LabelsError(
            f"class_labels: the names of the {len(shown):,} classes have {size:,} "
            f"bytes; shorten them to {MAX_NAMES_BYTES:,} in all"
        )
    return tuple(shown)
