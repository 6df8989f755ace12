"""Weights in files: written as safetensors, read from that and from Keras' formats.

- safetensors, as `save_weights` writes it with the configuration inside, or a run
  folder that holds it: `safetensors_file`;
- a Keras 2 checkpoint in TensorFlow's format, by its prefix: `tf_checkpoint` reads it,
  and `keras2` tells which array is which weight;
- Keras 2 `.h5`: `hdf5` and `keras2`;
- Keras 3 `.weights.h5`: `hdf5` and `keras3`.

A file may come from anyone. Nothing in it is executed or unpickled, types and sizes are
checked before data are read, and nothing is assigned unless everything fits.
"""

import contextlib
import hashlib
import re
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from ddpm_keras.errors import InputError
from ddpm_keras.files import written_whole
from ddpm_keras.networks import build_network
from ddpm_keras.weights import safetensors_file
from ddpm_keras.weights.content import find_format
from ddpm_keras.weights.stored import check_fit, shown

RUN_WEIGHTS = "weights.safetensors"  # the EMA network's, in a run folder


def save_weights(network, path, config, dtype="float32"):
    """Write a network's weights and its configuration to a `.safetensors` file.

    Args:
        network: The `keras.Model` that `build_unet` built from `config`.
        path: Where to. The file appears whole or not at all.
        config: The `Config` of the run.
        dtype: `"float32"`, or `"float16"` for half the size: 11 bits of each number.

    Raises:
        InputError: When a weight is beyond what float16 holds.
    """
    arrays = {}
    for weight in network.weights:
        array = weight.numpy()
        if np.abs(array).max(initial=0) > np.finfo(dtype).max:
            raise InputError(
                f"{path}: {weight.path} has numbers that {dtype} cannot hold; "
                "use float32"
            )
        arrays[weight.path] = np.ascontiguousarray(array, dtype)
    metadata = {"config": config.model_dump_json()}
    with written_whole(path) as temporary:
        # Not with `save_file`, whose error on a full disk is no OSError.
        temporary.write_bytes(save(arrays, metadata))


def load_weights(network, path):
    """Load weights of any format above; nothing is assigned unless all of them fit.

    Args:
        network: The `keras.Model` that `build_unet` returns.
        path: A weights file, a run folder that holds one, or the prefix of a
            TensorFlow checkpoint. Of a whole `DiffusionModel` the EMA network is taken.

    Raises:
        InputError: When the file cannot be read, or holds another network's weights;
            the first arrays that differ are named, with both shapes.
    """
    path = find_weights(path)
    with _readable(path):
        stored = _READERS[find_format(path)](path, network)
        check_fit(path, stored, network)
        arrays = {name: array.read() for name, array in stored.items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise InputError(f"{path}: {name} is not finite; use other weights")
    for weight in network.weights:
        weight.assign(arrays[weight.path])


def load_network(path, config):
    """Build the network of a configuration and load a file's weights into it.

    Args:
        path: As for `load_weights`.
        config: The `Config` of the network.

    Returns:
        The `keras.Model`.

    Raises:
        InputError: As for `load_weights`, or when there is no such network.
    """
    path = find_weights(path)
    with _readable(path):
        if find_format(path) == "safetensors":
            safetensors_file.check_network(path, config)
    try:
        network = build_network(config)
    except ValueError as error:  # such as an activation that Keras does not know
        raise InputError(f"{path}: {error}") from error
    load_weights(network, path)
    return network


def read_config(path):
    """The `Config` that the weights of a file or run folder were trained with.

    Raises:
        InputError: When the file cannot be read or holds no configuration.
    """
    path = find_weights(path)
    with _readable(path):
        if find_format(path) == "safetensors":
            return safetensors_file.read_config(path)
    raise InputError(
        f"{path}: weights of Keras hold no configuration; name one with --config"
    )


def find_weights(path):
    """The file that a path names: itself, or the weights in a run folder.

    Of a checkpoint in TensorFlow's format, which is several files, the prefix.

    Raises:
        InputError: When there is none.
    """
    path = Path(path)
    if path.is_dir():
        if (path / RUN_WEIGHTS).is_file():
            return path / RUN_WEIGHTS
        other = (
            "name a run folder that training has saved weights to, or a weights file"
        )
        for index in sorted(path.glob("*.index")):
            other = f"name the checkpoint in it, {index.with_suffix('')}"
        raise InputError(f"{path}: no {RUN_WEIGHTS} in this folder; {other}")
    prefix = re.sub(r"\.(index|data-\d{5}-of-\d{5})$", "", str(path))
    if Path(f"{prefix}.index").is_file():
        return Path(prefix)
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder; check the path")
    return path


def fingerprint(network):
    """The first 12 hex digits of the SHA-256 of a network's weights."""
    digest = hashlib.sha256()
    for weight in network.weights:
        digest.update(weight.numpy().tobytes())
    return digest.hexdigest()[:12]


def _read_safetensors(path, network):
    return safetensors_file.read_safetensors(path)


def _read_tensorflow(path, network):
    from ddpm_keras.weights.keras2 import from_checkpoint
    from ddpm_keras.weights.tf_checkpoint import read_checkpoint

    return from_checkpoint(read_checkpoint(path), network)


def _read_hdf5(path, network):
    from ddpm_keras.weights import keras2, keras3
    from ddpm_keras.weights.hdf5 import read_hdf5

    stored, layers, names = read_hdf5(path)
    if layers is None:
        return keras3.from_hdf5(stored, names, network)
    try:
        return keras2.from_hdf5(stored, layers, network)
    except KeyError as error:
        missing = shown(error.args[0])
        raise InputError(
            f"{path}: damaged, {missing} is missing; use another copy"
        ) from error


_READERS = {
    "safetensors": _read_safetensors,
    "tensorflow": _read_tensorflow,
    "hdf5": _read_hdf5,
}


@contextlib.contextmanager
def _readable(path):
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from error
