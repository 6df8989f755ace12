"""What a program computes on: devices, hosts, cores and threads.

No module but this one and `backend` branches on the backend.
"""

import contextlib
import os

import keras

from ddpm_keras.errors import InputError

BACKEND = keras.backend.backend()
if BACKEND == "tensorflow":
    import tensorflow as tf
elif BACKEND == "jax":
    import jax

# Devices and hosts.


def all_devices():
    """List the devices to train on: all GPUs or TPUs, or else all CPUs."""
    if BACKEND == "tensorflow":
        found = tf.config.list_logical_devices
        return [d.name for d in found("GPU") or found("CPU")]
    if BACKEND == "jax":
        return keras.distribution.list_devices()
    return []


def join_hosts():
    """Join other hosts; to be called before anything is computed.

    Keras reads the environment variables `KERAS_DISTRIBUTION_JOB_ADDRESSES` (address
    and port of the first host), `_NUM_PROCESSES` and `_PROCESS_ID` (from 0). Without
    the first of them nothing is done.

    Raises:
        InputError: On a backend other than JAX, where Keras trains on one host.
    """
    if "KERAS_DISTRIBUTION_JOB_ADDRESSES" not in os.environ:
        return
    if BACKEND != "jax":
        raise InputError(
            "KERAS_DISTRIBUTION_JOB_ADDRESSES: several hosts need KERAS_BACKEND=jax"
        )
    keras.distribution.initialize()


def check_same_step(step):
    """Check that all hosts resume from the same step.

    Raises:
        InputError: On every host, when the steps differ.
    """
    if BACKEND != "jax":
        return
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
    """Build, compile and train a model on all devices within this context.

    With one device or `distribute="none"` it has no effect. TensorFlow copies the model
    by `MirroredStrategy`, JAX shares the data by Keras' `DataParallel`.

    Args:
        batch_size: Images per step, which the devices share equally.
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
    if BACKEND == "tensorflow":
        with tf.distribute.MirroredStrategy(devices).scope():
            yield len(devices)
        return
    # Each host reads its own share of a batch; see `host_share`.
    data_parallel = keras.distribution.DataParallel(
        devices=devices, auto_shard_dataset=False
    )
    with data_parallel.scope():
        yield len(devices)


def host_share():
    """Return this host's number and the number of hosts that share each batch."""
    if BACKEND != "jax" or keras.distribution.distribution() is None:
        return 0, 1
    return jax.process_index(), jax.process_count()


def draw_share(draw, shape):
    """Draw this device's share of the random numbers of a batch.

    Each replica of `MirroredStrategy` draws the numbers of the whole batch and takes
    its part of them, so that several devices compute what one would.

    Args:
        draw: A function from a shape to a tensor.
        shape: Shape of this device's share, images first.

    Returns:
        A tensor of that shape.
    """
    if BACKEND != "tensorflow":
        return draw(shape)
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return draw(shape)
    batch_size, *others = shape
    numbers = draw((batch_size * replica.num_replicas_in_sync, *others))
    first = batch_size * replica.replica_id_in_sync_group
    return numbers[first : first + batch_size]


# Threads.

# With more cores, the parts of a batch would be too small, and too many to trace.
MOST_PARTS = 4
_parts = 1  # until `one_thread_each` sets it


def one_thread_each():
    """Let TensorFlow run each operation on one thread, and several side by side.

    From then on batches are computed in parts (`ddpm_keras.parts`), so networks must
    treat each image alone and add no loss in their call, as ours do. Call it before
    TensorFlow computes anything. Nothing is changed on a GPU, on more than `MOST_PARTS`
    cores, or where the numbers of threads are set already.
    """
    if BACKEND != "tensorflow" or not 2 <= count_cores() <= MOST_PARTS:
        return
    if set(_num_threads().values()) != {"0"}:
        return
    if tf.config.list_physical_devices("GPU"):
        return
    # Refused where this process has computed something already.
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(count_cores())
        global _parts
        _parts = count_cores()


def num_parts():
    """Return in how many parts to compute a batch, 1 for whole batches."""
    if _parts > 1 and len(all_devices()) > 1:  # which share the batch already
        return 1
    return _parts


def kernel_settings():
    """Return the user's settings that decide how sums are split, and so rounded."""
    names = ["XLA_FLAGS", "TF_XLA_FLAGS", "TF_ENABLE_ONEDNN_OPTS"]
    settings = {name: os.environ.get(name) for name in names}
    return settings | (_num_threads() if BACKEND == "tensorflow" else {})


def _num_threads():
    """Return TensorFlow's numbers of threads; "0": one for each core."""
    threading = tf.config.threading
    # As a program has set them, or else the environment.
    found = {
        "TF_NUM_INTRAOP_THREADS": threading.get_intra_op_parallelism_threads(),
        "TF_NUM_INTEROP_THREADS": threading.get_inter_op_parallelism_threads(),
    }
    return {k: str(v or os.environ.get(k) or 0) for k, v in found.items()}


def count_cores():
    """Count the processors of this process, or on macOS those of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()
