"""Network weights in files: written as safetensors, read from Keras formats as well.

- safetensors with the configuration inside, also in a run folder: `safetensors_file`;
- Keras 2 checkpoints in TensorFlow's format, by prefix: `tf_checkpoint`, `keras2`;
- Keras 2 `.h5`: `hdf5`, `keras2`; Keras 3 `.weights.h5`: `hdf5`, `keras3`.

Files are not trusted. Nothing in them is executed or unpickled, types and sizes are
checked before data are read, and nothing is assigned unless everything fits.
"""

import contextlib
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save

from ddpm_keras.config import Config
from ddpm_keras.errors import InputError
from ddpm_keras.files import force_to_disk, written_whole
from ddpm_keras.networks import build_network, check_memory
from ddpm_keras.weights import safetensors_file
from ddpm_keras.weights.formats import find_format
from ddpm_keras.weights.safetensors_file import TrainingImages
from ddpm_keras.weights.stored import Stored, check_fit, damaged, shown

if TYPE_CHECKING:
    import keras

RUN_WEIGHTS = "weights.safetensors"  # the EMA network's weights in a run folder


def save_weights(
    network: "keras.Model",
    path: str | Path,
    config: Config,
    dtype: str = "float32",
    training_images: TrainingImages | None = None,
) -> None:
    """Write a network's weights and its configuration to a `.safetensors` file.

    Args:
        network: The network, built from `config`.
        path: The file, which appears whole or not at all.
        config: The configuration of the run. The file does not get the keys of it that
            name places on this machine, such as `data_dir`.
        dtype: `"float32"`, or `"float16"` for half the size and 11 significant bits.
        training_images: What they were trained on, or `None` where nobody knows.

    Raises:
        InputError: When a weight is out of float16's range.
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
    metadata = safetensors_file.metadata_of(config, training_images)
    with written_whole(path) as temporary:
        # `save_file` would raise something other than OSError on a full disk.
        temporary.write_bytes(save(arrays, metadata))
        force_to_disk(temporary)


def load_weights(network: "keras.Model", path: str | Path) -> None:
    """Load weights of any of these formats into a network, all of them or none.

    Args:
        network: The network.
        path: A weights file, a run folder that holds one, or the prefix of a
            TensorFlow checkpoint. Of a whole `DiffusionModel` the EMA network is taken.

    Raises:
        InputError: When the file cannot be read, or holds another network's weights;
            the message names the first arrays that differ, with both shapes.
    """
    with _opened(path) as (path, kind):
        stored = _read_arrays(path, kind, network)
        check_fit(path, stored, network)
        arrays = {name: array.read() for name, array in stored.items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise InputError(f"{path}: {name} is not finite; use other weights")
    for weight in network.weights:
        weight.assign(arrays[weight.path])


def load_network(path: str | Path, config: Config) -> "keras.Model":
    """Build the network of a configuration and load a file's weights into it.

    Raises:
        InputError: As `load_weights`, or when there is no such network.
    """
    with _opened(path) as (path, kind):
        if kind == "safetensors":
            safetensors_file.check_network(path, config)
    try:
        check_memory(config, batch_size=1, training=False)
        network = build_network(config)
    except ValueError as error:  # such as an unknown activation
        raise InputError(f"{path}: {error}") from error
    load_weights(network, path)
    return network


def read_config(path: str | Path) -> Config:
    """Read the configuration that the weights of a file or run folder belong to.

    Raises:
        InputError: When the file cannot be read or holds no configuration.
    """
    with _opened(path) as (path, kind):
        if kind == "safetensors":
            return safetensors_file.read_config(path)
    raise InputError(
        f"{path}: weights of Keras hold no configuration; name one with --config"
    )


def read_training_images(path: str | Path) -> TrainingImages | None:
    """Read what the weights of a file or run folder were trained on, if it says so.

    Raises:
        InputError: When the file cannot be read, or its record is malformed.
    """
    with _opened(path) as (path, kind):
        if kind == "safetensors":
            return safetensors_file.read_training_images(path)
    return None


def find_weights(path: str | Path) -> Path:
    """Return the weights file that a path names, which may be in a run folder.

    For a checkpoint in TensorFlow's format, which is several files, this is the prefix.

    Raises:
        InputError: When there is none.
    """
    path = Path(path)
    if path.is_dir():
        if (path / RUN_WEIGHTS).is_file():
            return path / RUN_WEIGHTS
        other = "a run folder that training has saved weights to, or a weights file"
        for index in sorted(path.glob("*.index")):
            other = f"the checkpoint in it, {index.with_suffix('')}"
        raise InputError(f"{path}: no {RUN_WEIGHTS} in this folder; name {other}")
    prefix = re.sub(r"\.(index|data-\d{5}-of-\d{5})$", "", str(path))
    if Path(f"{prefix}.index").is_file():
        return Path(prefix)
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder; check the path")
    return path


def fingerprint(network: "keras.Model") -> str:
    """Return the first 12 hex digits of the SHA-256 of a network's weights."""
    digest = hashlib.sha256()
    for weight in network.weights:
        digest.update(weight.numpy().tobytes())
    return digest.hexdigest()[:12]


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[tuple[Path, str]]:
    """Find the file of a path and its format; a file that cannot be read is refused."""
    path = find_weights(path)
    try:
        yield path, find_format(path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from error


def _read_arrays(path: Path, kind: str, network: "keras.Model") -> dict[str, Stored]:
    """Read which arrays a file holds, by the paths of the network's weights.

    Arrays with no place in the network keep their names.
    """
    # Here, because `keras2` imports Keras.
    from ddpm_keras.weights import hdf5, keras2, keras3, tf_checkpoint

    if kind == "safetensors":
        return safetensors_file.read_safetensors(path)
    if kind == "tensorflow":
        return keras2.from_checkpoint(tf_checkpoint.read_checkpoint(path), network)
    stored, layers, names = hdf5.read_hdf5(path)
    if layers is None:
        return keras3.from_hdf5(stored, names, network)
    try:
        return keras2.from_hdf5(stored, layers, network)
    except KeyError as error:
        missing = shown(error.args[0])
        raise damaged(path, f"damaged, {missing} is missing") from error
