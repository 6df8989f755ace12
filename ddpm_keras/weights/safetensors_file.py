"""A reader for safetensors files that may be damaged or hostile.

The library is not used to read: it maps the file into memory, and a file that is cut
short meanwhile would end the process. Nor does it limit the size of the header.

A file is the length of the header in 8 bytes, the header as JSON, and the arrays, which
fill the rest without gaps or overlap.
"""

import json
import math
import os
import re
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ddpm_keras.config import Config
from ddpm_keras.errors import InputError
from ddpm_keras.networks import NETWORKS, network_size
from ddpm_keras.weights.stored import Stored, damaged

# A network's header stays far below this.
MAX_HEADER_BYTES = 1_000_000
# Beyond these, images, attention or the tables of the diffusion would fill the memory.
MAX_PIXELS = 1024**2
MAX_ATTENDED = 128**2
MAX_TIMESTEPS = 100_000
# The types that are read; NumPy's name and the bytes of a number.
DTYPES = {"F16": ("<f2", 2), "F32": ("<f4", 4)}
# Keys that name places on the machine of the training, which no file may carry.
PLACES = ("data_dir", "cache_dir", "initial_weights")


class TrainingImages(NamedTuple):
    """What weights were trained on.

    Attributes:
        number: Number of images.
        digest: Their `Images.digest`, 64 hex digits.
    """

    number: int
    digest: str

    def to_text(self) -> str:
        """Write it as in a file: `"1020 images 5793...77db"`."""
        return f"{self.number} images {self.digest}"


def read_safetensors(path: Path) -> dict[str, Stored]:
    """Read which arrays a safetensors file holds.

    Raises:
        InputError: When the file is damaged.
    """
    return _read_header(path)[0]


def metadata_of(
    config: Config, training_images: TrainingImages | None
) -> dict[str, str]:
    """Return the metadata of a file: a configuration without places, and the images."""
    config = config.model_copy(update=dict.fromkeys(PLACES))
    metadata = {"config": config.model_dump_json()}
    if training_images is not None:
        metadata["training_images"] = training_images.to_text()
    return metadata


def read_config(path: Path) -> Config:
    """Read the configuration in a safetensors file.

    Raises:
        InputError: When the file is damaged, or holds no valid configuration, or one
            whose images or diffusion are too large.
    """
    text = _read_header(path)[1].get("config")
    if text is None:
        raise InputError(f"{path}: holds no configuration; name one with --config")
    try:
        config = Config.model_validate(_read_json(text))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: its configuration is not valid; name another with --config"
        ) from error
    height, width, _ = config.image_shape
    attended = network_size(config).attended
    for key, number, most, what in (
        ("img_size", height * width, MAX_PIXELS, "pixels"),
        ("img_size", attended, MAX_ATTENDED, "pixels that attend to each other"),
        ("total_timesteps", config.total_timesteps, MAX_TIMESTEPS, "timesteps"),
    ):
        if number > most:
            raise InputError(
                f"{path}: its configuration has {key} {getattr(config, key)}, above "
                f"{most:,} {what}; name another with --config"
            )
    return config


def read_training_images(path: Path) -> TrainingImages | None:
    """Read what the weights in a safetensors file were trained on, if it says so.

    Raises:
        InputError: When the file is damaged, or its record is malformed.
    """
    text = _read_header(path)[1].get("training_images")
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,12}) images ([0-9a-f]{64})", text)
    if not found:
        raise damaged(path, "damaged, its record of training images is malformed")
    return TrainingImages(int(found[1]), found[2])


def check_network(path: Path, config: Config) -> None:
    """Compare the network of a configuration with a file, before it is built.

    Otherwise a small file with the configuration of a huge network would fill the
    memory. The first difference ends the comparison, since the configuration may ask
    for any number of weights.

    Raises:
        InputError: When an expected weight is missing, or of another shape.
    """
    arrays = read_safetensors(path)
    expected = NETWORKS[config.network].expected_weights
    for name, shape in expected(**config.network_arguments()):
        found = arrays[name].shape if name in arrays else None
        if found != shape:
            raise InputError(
                f"{path}: weights of another network than the configuration's: "
                f"{name} is {found or 'missing'}, not {shape}"
            )


def _read_header(path: Path) -> tuple[dict[str, Stored], dict[str, str]]:
    """Return the arrays of a file and its metadata."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER_BYTES:
            claim = f"its header claims {length:,} bytes, above {MAX_HEADER_BYTES:,}"
            raise damaged(path, claim)
        text = file.read(length)
        size = os.fstat(file.fileno()).st_size
    try:
        header = _read_json(text.decode())
        metadata = header.pop("__metadata__", {})
        arrays = {n: _describe(path, 8 + length, e) for n, e in header.items()}
        spans = sorted(entry["data_offsets"] for entry in header.values())
        starts, ends = [0, *(end for _, end in spans)], [start for start, _ in spans]
        if starts != [*ends, size - 8 - length] or not _is_text(metadata):
            raise ValueError("gaps, overlaps or other metadata than text")
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        RecursionError,
    ) as error:
        raise damaged(path) from error
    return arrays, metadata


def _describe(path: Path, data: int, entry: dict[str, Any]) -> Stored:
    """Return the array of an entry of the header; `data` is where all arrays begin."""
    dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, start, end)):
        raise ValueError("a size or place that is no number")
    if dtype in DTYPES and math.prod(shape) * DTYPES[dtype][1] != end - start:
        raise ValueError("size and shape do not agree")
    read = partial(_read, path, dtype, shape, data + start)
    # Both are float32 once they are read.
    return Stored(tuple(shape), "float32" if dtype in DTYPES else str(dtype), read)


def _read(path: Path, dtype: str, shape: list[int], offset: int) -> np.ndarray:
    count = math.prod(shape)
    array = np.fromfile(path, DTYPES[dtype][0], count, offset=offset)
    if array.size != count:
        raise damaged(path)
    return array.reshape(shape).astype("float32", copy=False)


def _read_json(text: str) -> dict[str, Any]:
    """Read an object whose keys differ, and so do those of the objects in it."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a repeated key")
        return found

    return json.loads(text, object_pairs_hook=unique)


def _is_text(metadata: dict[str, str]) -> bool:
    return all(type(value) is str for value in metadata.values())
