"""Several devices: each batch is shared among them, by the backend's own engine."""

import contextlib
import os

import keras

from ddpm_keras.errors import InputError


def all_devices():
    """The devices to train on: all GPUs (or TPUs), or else all processors."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        found = tf.config.list_logical_devices
        return [d.name for d in found("GPU") or found("CPU")]
    if keras.backend.backend() == "jax":
        return keras.distribution.list_devices()
    return []


def join_hosts():
    """Join the other hosts of `KERAS_DISTRIBUTION_*`, before anything is computed.

    Keras reads these variables of the environment: `JOB_ADDRESSES`, the address and
    port of the first host; `NUM_PROCESSES`; and `PROCESS_ID`, from 0.

    Raises:
        InputError: On another backend than JAX: Keras trains on one host there.
    """
    if "KERAS_DISTRIBUTION_JOB_ADDRESSES" not in os.environ:
        return
    if keras.backend.backend() != "jax":
        raise InputError(
            "KERAS_DISTRIBUTION_JOB_ADDRESSES: several hosts need KERAS_BACKEND=jax"
        )
    keras.distribution.initialize()


def check_same_step(step):
    """Compare the step that this host goes on from with those of the other hosts.

    Raises:
        InputError: On every host, when they differ.
    """
    if keras.backend.backend() != "jax":
        return
    import jax

    if jax.process_count() == 1:
        return
    from jax.experimental.multihost_utils import process_allgather

    steps = process_allgather(step).tolist()
    if len(set(steps)) > 1:
        raise InputError(
            f"--resume: the hosts' newest checkpoints are of steps {steps}; copy the "
            "checkpoints of one to the others"
        )


@contextlib.contextmanager
def distributed(batch_size, distribute="auto"):
    """A context in which a model is built, compiled and trained on all devices.

    With one device, or `distribute="none"`, nothing is changed. TensorFlow copies the
    model with `MirroredStrategy`, JAX shares the data with Keras' `DataParallel`.

    Args:
        batch_size: Images a step, which the devices share equally.
        distribute: `"auto"` or `"none"`.

    Yields:
        The number of devices.

    Raises:
        InputError: When the devices cannot share a batch equally.
    """
    devices = all_devices() if distribute == "auto" else []
    if len(devices) < 2:
        yield 1
        return
    if batch_size % len(devices):
        raise InputError(
            f"batch_size: {batch_size} images cannot be shared equally among "
            f"{len(devices)} devices; use a multiple, or distribute: none"
        )
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.distribute.MirroredStrategy(devices).scope():
            yield len(devices)
        return
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(devices=devices)
    )
    try:
        yield len(devices)
    finally:
        keras.distribution.set_distribution(before)


def draw_share(draw, shape):
    """Draw random numbers for a batch, of which each device gets its part.

    In a replica of `MirroredStrategy` the batch is a part of the whole one: with the
    numbers of the whole drawn and cut, several devices do what one would. Elsewhere
    `draw` sees the whole batch.

    Args:
        draw: A function from a shape to a tensor.
        shape: The shape wanted here, of which the first entry counts the images.

    Returns:
        A tensor of that shape.
    """
    if keras.backend.backend() != "tensorflow":
        return draw(shape)
    import tensorflow as tf

    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return draw(shape)
    batch_size, *others = shape
    numbers = draw((batch_size * replica.num_replicas_in_sync, *others))
    first = batch_size * replica.replica_id_in_sync_group
    return numbers[first : first + batch_size]


def read_variable(variable):
    """A variable as a NumPy array, also where each device holds a copy of it."""
    return keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(variable))


def count_cores():
    """The processors of this process; macOS knows only those of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()
