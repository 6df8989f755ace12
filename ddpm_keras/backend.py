"""Everything that differs between backends: compiling, steps, devices, hosts.

No other module branches on the backend.
"""

import contextlib
import os

import keras
from keras import ops

from ddpm_keras.errors import InputError

BACKEND = keras.backend.backend()
if BACKEND == "tensorflow":
    import tensorflow as tf
elif BACKEND == "jax":
    import jax
elif BACKEND == "torch":
    import torch

# Compiled functions.


def compile_calls(function, owner):
    """Compile a function that uses variables, whose values may change between calls.

    Args:
        function: A function of tensors.
        owner: An object whose list `variables` holds these variables.

    Returns:
        The compiled function; on PyTorch, which compiles nothing, the function without
        gradients.
    """
    if BACKEND == "tensorflow":
        return tf.function(function, reduce_retracing=True)
    if BACKEND == "jax":
        # Passed as arguments, as the program would keep the values of constants.
        @jax.jit
        def with_values(values, *args):
            mapping = zip(owner.variables, values, strict=True)
            with keras.StatelessScope(state_mapping=mapping):
                return function(*args)

        return lambda *args: with_values([v.value for v in owner.variables], *args)
    # PyTorch would keep every step for gradients that nobody asks for.
    return torch.no_grad()(function)


def map_images(function, values):
    """Apply a function that draws random numbers to each entry of a tensor."""
    # TensorFlow cannot vectorise its random generator and would warn of a loop.
    return (ops.vectorized_map if BACKEND == "jax" else ops.map)(function, values)


def has_fused_attention():
    """Return whether Keras attends here without all of its weights in memory."""
    return BACKEND == "torch" or BACKEND == "jax" and jax.default_backend() == "gpu"


# Threads.

# With more cores, the parts of a batch would be too small, and too many to trace.
MOST_PARTS = 4


def one_thread_each():
    """Let TensorFlow run each operation on one thread, and several side by side.

    See `ddpm_keras.parts`. Call it before TensorFlow computes anything. Nothing is
    changed on a GPU, on more than `MOST_PARTS` cores, or where the user has set the
    numbers of threads.
    """
    if BACKEND != "tensorflow" or not 2 <= count_cores() <= MOST_PARTS:
        return
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    if any(name in os.environ for name in names):
        return
    if tf.config.list_physical_devices("GPU"):
        return
    # Refused where this process has computed something already.
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(count_cores())


def num_parts():
    """Return in how many parts to compute a batch, 1 for whole batches."""
    if BACKEND != "tensorflow":
        return 1
    threading = tf.config.threading
    if threading.get_intra_op_parallelism_threads() != 1:
        return 1
    if len(all_devices()) > 1:  # which share the batch already
        return 1
    return max(1, min(MOST_PARTS, threading.get_inter_op_parallelism_threads()))


def is_tracing():
    """Return whether a graph is being traced, whose branches run side by side."""
    return BACKEND == "tensorflow" and tf.inside_function()


# Training steps.


class StepModel(keras.Model):
    """A Keras model with code of its own before and after Keras' steps.

    Subclasses define two methods, which may use and assign any of the model's
    variables: `before_step(data, training)` returns the data for Keras' step, and
    `after_update()` is called after each training step.
    """

    if BACKEND == "jax":
        # Keras' steps on JAX take the values of all variables and return new ones.

        def train_step(self, state, data):
            data, state = self._run(self.before_step, state, data, True)
            logs, state = super().train_step(state, data)
            _, state = self._run(self.after_update, state)
            return logs, state

        def test_step(self, state, data):
            data, state = self._run(self.before_step, state, data, False)
            return super().test_step(state, data)

        def _run(self, method, state, *args):
            """Call a method on the variables' values; return result and new values.

            The optimizer's may be read, in a training step, but not assigned.
            """
            trainable, non_trainable, *others = state
            mapping = [
                *zip(self.trainable_variables, trainable, strict=True),
                *zip(self.non_trainable_variables, non_trainable, strict=True),
            ]
            if len(others) == 2:  # those of the optimizer, then of the metrics
                mapping += zip(self.optimizer.variables, others[0], strict=True)
            with keras.StatelessScope(state_mapping=mapping) as scope:
                result = method(*args)
            non_trainable = [
                scope.get_current_value(v) for v in self.non_trainable_variables
            ]
            return result, (trainable, non_trainable, *others)

    else:

        def train_step(self, data):
            logs = super().train_step(self.before_step(data, True))
            self.after_update()
            return logs

        def test_step(self, data):
            return super().test_step(self.before_step(data, False))


def has_fast_transposed_convolution():
    """Return whether a transposed convolution costs what a convolution does.

    Its gradients took XLA 13 times as long on a processor as those of upsampling and a
    convolution.
    """
    return BACKEND != "jax"


def move_towards(averages, weights, rate):
    """Move each average in place towards its weight, by `rate` of the difference."""
    pairs = zip(averages, weights, strict=True)
    if BACKEND != "tensorflow":
        for average, weight in pairs:
            average.assign((1.0 - rate) * average + rate * weight)
        return
    # One operation per weight halves the tracing time. The handle is the current
    # replica's: each replica moves its own average.
    for average, weight in pairs:
        tf.raw_ops.ResourceApplyGradientDescent(
            var=average.value.handle,
            alpha=tf.cast(rate, average.dtype),
            delta=average.value - weight.value,
        )


def has_adam_kernel():
    """Return whether this backend has `apply_adam_kernel`."""
    return BACKEND == "tensorflow"


def apply_adam_kernel(variable, momentum, velocity, gradient, rate, powers, adam):
    """Update a float32 variable and its two moments with TensorFlow's Adam kernel.

    `powers` are `beta_1` and `beta_2` to the power of the step, which counts from 1;
    `adam` is the `keras.optimizers.Adam` with the other hyperparameters.
    """
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=momentum.value.handle,
        v=velocity.value.handle,
        beta1_power=powers[0],
        beta2_power=powers[1],
        lr=tf.cast(rate, "float32"),
        beta1=adam.beta_1,
        beta2=adam.beta_2,
        epsilon=adam.epsilon,
        grad=gradient,
    )


def read_variable(variable):
    """Read a variable, which may have a copy on each device, as a NumPy array."""
    return ops.convert_to_numpy(ops.convert_to_tensor(variable))


def read_in_fit(model, variable):
    """Read a variable of the optimizer as the last step of `fit` has left it.

    On JAX, variables are out of date in `fit` until `sync_variables`, which is slow.
    """
    state = getattr(model, "_jax_state", None)
    if state and not model._jax_state_synced:
        values = state["optimizer_variables"]
        for other, value in zip(model.optimizer.variables, values, strict=True):
            if other is variable:
                return ops.convert_to_numpy(value)
    return read_variable(variable)


def sync_variables(model):
    """Bring a model's variables up to date during `fit`."""
    if BACKEND == "jax":
        model.jax_state_sync()


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


def kernel_settings():
    """Return the user's settings that decide how sums are split, and so rounded."""
    names = ["XLA_FLAGS", "TF_XLA_FLAGS", "TF_ENABLE_ONEDNN_OPTS"]
    settings = {name: os.environ.get(name) for name in names}
    if BACKEND == "tensorflow":
        threading = tf.config.threading
        # As a program has set them, or else the environment; 0: one for each core.
        for kind, function in {
            "INTRA": threading.get_intra_op_parallelism_threads,
            "INTER": threading.get_inter_op_parallelism_threads,
        }.items():
            name = f"TF_NUM_{kind}OP_THREADS"
            settings[name] = str(function() or os.environ.get(name) or 0)
    return settings


def count_cores():
    """Count the processors of this process, or on macOS those of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()
