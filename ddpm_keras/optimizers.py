"""Adam in fewer operations, and a wrapper that skips non-finite updates."""

import keras
from keras import ops

from ddpm_keras.backend import apply_adam_kernel, has_adam_kernel, read_variable


@keras.saving.register_keras_serializable("ddpm_keras")
class Adam(keras.optimizers.Adam):
    """Keras' Adam with TensorFlow's own kernel, where there is one.

    Keras emits some twenty-five operations for each of hundreds of weights, half of the
    time before the first step. Arguments and variables are those of
    `keras.optimizers.Adam`.
    """

    def apply(self, grads, trainable_variables=None):
        step = ops.cast(self.iterations + 1, "float32")
        self._powers = [ops.power(beta, step) for beta in (self.beta_1, self.beta_2)]
        super().apply(grads, trainable_variables)

    def update_step(self, gradient, variable, learning_rate):
        fits = variable.dtype == "float32" == gradient.dtype and not self.amsgrad
        if not (has_adam_kernel() and fits):
            super().update_step(gradient, variable, learning_rate)
            return
        index = self._get_variable_index(variable)
        apply_adam_kernel(
            variable,
            self._momentums[index],
            self._velocities[index],
            gradient,
            learning_rate,
            self._powers,
            self,
        )


@keras.saving.register_keras_serializable("ddpm_keras")
class SkipNonFinite(keras.optimizers.LossScaleOptimizer):
    """Skips every update whose gradients are not all finite.

    One infinite or undefined number would spoil all weights for good. Keras' loss
    scaling skips such updates on every backend and in replicas; here it does so without
    the scaling, which only float16 needs.

    Args:
        inner_optimizer: The `keras.optimizers.Optimizer` that makes the updates.
        name: Name of the optimizer.
    """

    def __init__(self, inner_optimizer, name=None):
        super().__init__(inner_optimizer, initial_scale=1.0, name=name)

    @property
    def skipped_in_a_row(self):
        """Number of updates skipped since the last one that was made."""
        return int(read_variable(self.step_counter))

    def scale_loss(self, loss):
        return loss

    def _stateful_handle_finite_grads(self, grads, trainable_variables):
        self.inner_optimizer.apply(grads, trainable_variables)
        self.step_counter.assign(0)

    def _stateful_handle_non_finite_grads(self):
        self.step_counter.assign_add(1)

    def _stateless_handle_finite_grads(
        self, optimizer_variables, grads, trainable_variables
    ):
        own = len(self.variables) - len(self.inner_optimizer.variables)
        trainable_variables, inner = self.inner_optimizer.stateless_apply(
            optimizer_variables[own:], grads, trainable_variables
        )
        counted = self._count(optimizer_variables, lambda skipped: 0 * skipped)
        return trainable_variables, counted[:own] + list(inner)

    def _stateless_handle_non_finite_grads(
        self, optimizer_variables, trainable_variables
    ):
        counted = self._count(optimizer_variables, lambda skipped: skipped + 1)
        return trainable_variables, counted

    def _count(self, values, change):
        """Apply `change` to the counter's value among the variables' values."""
        pairs = zip(self.variables, values, strict=True)
        return [change(x) if v is self.step_counter else x for v, x in pairs]

    def get_config(self):
        inner = keras.saving.serialize_keras_object(self.inner_optimizer)
        return {"name": self.name, "inner_optimizer": inner}
