"""Reads safetensors files that may be damaged or hostile.

The library checks that the arrays fill the file without gaps and without overlap. What
it does not bound is the header, nor what a configuration in it asks for.
"""

from functools import partial

from safetensors import SafetensorError, safe_open

from ddpm_keras.config import Config
from ddpm_keras.errors import InputError
from ddpm_keras.networks import NETWORKS
from ddpm_keras.weights.stored import Stored

# A network's header stays far below this; the library would parse 100 MB.
MAX_HEADER_BYTES = 1_000_000
# Beyond these, images or tables of numbers would fill the memory.
MAX_SIDE = 4096
MAX_TIMESTEPS = 100_000


def read_safetensors(path):
    """The arrays of a safetensors file: a dict from names to `Stored`.

    Raises:
        InputError: When the file is damaged.
    """
    file = _open(path)
    return {name: _stored(file, name) for name in file.keys()}


def read_config(path):
    """The `Config` in a safetensors file.

    Raises:
        InputError: When the file is damaged, holds none that is valid, or one of a
            network so large that it cannot be the file's.
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


def check_network(path, config):
    """Compare the network of a configuration with the arrays in a file.

    Before the network is built: a small file with the configuration of a huge network
    would take all memory. Weights are compared one by one and not counted, for a
    configuration may ask for any number of them.

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


def _open(path):
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER_BYTES:
        raise InputError(
            f"{path}: its header claims {length:,} bytes, above {MAX_HEADER_BYTES:,}; "
            "use another copy"
        )
    try:
        return safe_open(path, framework="numpy")
    except SafetensorError as error:
        raise InputError(f"{path}: damaged; use another copy") from error


def _stored(file, name):
    found = file.get_slice(name)
    dtype = found.get_dtype()
    if dtype in ("F16", "F32"):
        dtype = "float32"  # as which `_read` returns it
    return Stored(tuple(found.get_shape()), dtype, partial(_read, file, name))


def _read(file, name):
    return file.get_tensor(name).astype("float32", copy=False)
