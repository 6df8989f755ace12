"""Everything that differs between backends: compiling, steps, devices, hosts.

No other file of the package asks which backend Keras runs on.
"""

import contextlib
import os

import keras
from keras import ops

from ddpm_keras.errors import InputError

# Compiled functions.


def compile_calls(function, owner):
    """Compile a function that uses variables, which stay free to change.

    Args:
        function: A function of tensors.
        owner: What holds the variables: an object with the list `variables`.

    Returns:
        The compiled function; on a backend that compiles nothing, `function`.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, reduce_retracing=True)
    if keras.backend.backend() == "jax":
        import jax

        # The values are arguments: as constants they would be frozen into the program.
        @jax.jit
        def with_values(values, *args):
            mapping = zip(owner.variables, values, strict=True)
            with keras.StatelessScope(state_mapping=mapping):
                return function(*args)

        return lambda *args: with_values([v.value for v in owner.variables], *args)
    return function


def map_images(function, values):
    """Apply a function that draws random numbers to each entry of a tensor."""
    # TensorFlow cannot vectorise its random generator and would warn of a loop.
    jax = keras.backend.backend() == "jax"
    return (ops.vectorized_map if jax else ops.map)(function, values)


# Training steps.


class StepModel(keras.Model):
    """A Keras model with something to do before and after Keras' own steps.

    Subclasses define two methods, which may use and assign any of the model's
    variables: `before_step(data, training)` returns the data that Keras' step takes,
    and `after_update()` follows each training step.
    """

    if keras.backend.backend() == "jax":
        # Keras' steps on JAX take the values of all variables and return them anew.

        def train_step(self, state, data):
            data, state = self._run(self.before_step, state, data, True)
            logs, state = super().train_step(state, data)
            _, state = self._run(self.after_update, state)
            return logs, state

        def test_step(self, state, data):
            data, state = self._run(self.before_step, state, data, False)
            return super().test_step(state, data)

        def _run(self, method, state, *args):
            """Call a method on the variables' values in `state`; return them anew."""
            trainable, non_trainable, *others = state
            mapping = [
                *zip(self.trainable_variables, trainable, strict=True),
                *zip(self.non_trainable_variables, non_trainable, strict=True),
            ]
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


def move_towards(averages, weights, rate):
    """Move each average by the share `rate` of the way to its weight, in place."""
    pairs = zip(averages, weights, strict=True)
    if keras.backend.backend() != "tensorflow":
        for average, weight in pairs:
            average.assign((1.0 - rate) * average + rate * weight)
        return
    import tensorflow as tf

    # One operation a weight, which traces in half the time. The handle is that of the
    # replica at work: every replica moves its own average.
    for average, weight in pairs:
        tf.raw_ops.ResourceApplyGradientDescent(
            var=average.value.handle,
            alpha=tf.cast(rate, average.dtype),
            delta=average.value - weight.value,
        )


def has_adam_kernel():
    """Whether `apply_adam_kernel` works on this backend."""
    return keras.backend.backend() == "tensorflow"


def apply_adam_kernel(variable, momentum, velocity, gradient, rate, powers, adam):
    """Update a float32 variable and its two moments by TensorFlow's own Adam.

    Args:
        variable: The variable.
        momentum: Its first moment, a variable.
        velocity: Its second moment.
        gradient: Its gradient.
        rate: The learning rate.
        powers: `beta_1` and `beta_2` to the power of the step, counted from 1.
        adam: The `keras.optimizers.Adam` with the other hyperparameters.
    """
    import tensorflow as tf

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
    """Read a variable as a NumPy array, also where each device holds a copy of it."""
    return ops.convert_to_numpy(ops.convert_to_tensor(variable))


def variables_lag_in_fit():
    """Whether variables lack the newest values in `fit`, until `sync_variables`."""
    return keras.backend.backend() == "jax"


def sync_variables(model):
    """Bring a model's variables up to date during `fit`."""
    if variables_lag_in_fit():
        model.jax_state_sync()


# Devices and hosts.


def all_devices():
    """List the devices to train on: all GPUs (or TPUs), or else all processors."""
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


def count_cores():
    """Count the processors of this process; macOS knows only the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()
