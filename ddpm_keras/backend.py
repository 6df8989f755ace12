"""What differs between backends: compiling, operations, training steps.

No module but this one and `devices` branches on the backend.
"""

import keras
from keras import ops

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


def noise_seed(seed, number):
    """Return a seed for `keras.random` from an image's seed and the number of a draw.

    On PyTorch, Keras adds the two: draw 1 of seed 0 would be draw 0 of seed 1. There
    the first is multiplied by an odd number, near 2**32 over the golden ratio, so that
    up to a thousand draws of seeds less than a million apart have different sums.
    """
    if BACKEND == "torch":
        pair = ops.cast(seed, "int64") * 0x9E3779B1 % 2**32, ops.cast(number, "int64")
        return ops.stack(pair)
    return ops.stack([ops.cast(seed, "uint32"), ops.cast(number, "uint32")])


def has_fused_attention():
    """Return whether Keras attends here without all of its weights in memory."""
    return BACKEND == "torch" or BACKEND == "jax" and jax.default_backend() == "gpu"


def has_fast_transposed_convolution():
    """Return whether a transposed convolution costs what a convolution does.

    Its gradients took XLA 13 times as long on a processor as those of upsampling and a
    convolution.
    """
    return BACKEND != "jax"


def can_export():
    """Return whether Keras writes ONNX and SavedModel on this backend."""
    return BACKEND == "tensorflow"


def is_tracing():
    """Return whether a graph is being traced, whose branches run side by side."""
    return BACKEND == "tensorflow" and tf.inside_function()


def traced_once(function, inline):
    """Let a function of tensors be traced at its first call in a graph only.

    TensorFlow only, while a graph is traced. With `inline`, its operations are copied
    into the graph at each call and optimised again; without, starts are sooner and
    gradients slower. Calls that assign a variable wait for each other.
    """
    attributes = {} if inline else {"_noinline": True}
    return tf.function(function, autograph=False, experimental_attributes=attributes)


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
