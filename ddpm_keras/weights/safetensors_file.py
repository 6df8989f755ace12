"""A reader for safetensors files that may be damaged or hostile.

The library checks that the arrays fill the file without gaps or overlap. It does not
limit the size of the header, nor of the network in the configuration.
"""

import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from ddpm_keras.config import Config
from ddpm_keras.errors import InputError
from ddpm_keras.networks import NETWORKS
from ddpm_keras.weights.stored import Stored, damaged

# A network's header stays far below this; the library would parse 100 MB.
MAX_HEADER_BYTES = 1_000_000
# Beyond these, images or the tables of the diffusion would fill the memory.
MAX_SIDE = 4096
MAX_TIMESTEPS = 100_000


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
    file = _open(path)
    return {name: _describe(file, name) for name in file.keys()}


def read_config(path: Path) -> Config:
    """Read the configuration in a safetensors file.

    Raises:
        InputError: When the file is damaged, or holds no valid configuration, or one
            whose images or diffusion are too large.
    """
    file = _open(path)
    text = (file.metadata() or {}).get("config")
    if text is None:
        raise InputError(f"{path}: holds no configuration; name one with --config")
    try:
        config = Config.model_validate_json(text)
    except ValueError as error:
        raise InputError(
            f"{path}: its configuration is not valid; name another with --config"
        ) from error
    for key, value, most in (
        ("img_size", max(config.image_shape), MAX_SIDE),
        ("total_timesteps", config.total_timesteps, MAX_TIMESTEPS),
    ):
        if value > most:
            raise InputError(
                f"{path}: its configuration has {key} {value}, above {most}; name "
                "another with --config"
            )
    return config


def read_training_images(path: Path) -> TrainingImages | None:
    """Read what the weights in a safetensors file were trained on, if it says so.

    Raises:
        InputError: When the file is damaged, or its record is malformed.
    """
    text = (_open(path).metadata() or {}).get("training_images")
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
    file = _open(path)
    names = set(file.keys())
    expected = NETWORKS[config.network].expected_weights
    for name, shape in expected(**config.network_arguments()):
        found = name in names and tuple(file.get_slice(name).get_shape())
        if found != shape:
            raise InputError(
                f"{path}: weights of another network than the configuration's: "
                f"{name} is {found or 'missing'}, not {shape}"
            )


def _open(path: Path) -> safe_open:
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER_BYTES:
        claim = f"its header claims {length:,} bytes, above {MAX_HEADER_BYTES:,}"
        raise damaged(path, claim)
    try:
        return safe_open(path, framework="numpy")
    except SafetensorError as error:
        raise damaged(path) from error


def _describe(file: safe_open, name: str) -> Stored:
    found = file.get_slice(name)
    dtype = found.get_dtype()
    if dtype in ("F16", "F32"):
        dtype = "float32"  # `_read` converts it
    return Stored(tuple(found.get_shape()), dtype, partial(_read, file, name))


def _read(file: safe_open, name: str) -> np.ndarray:
    return file.get_tensor(name).astype("float32", copy=False)
