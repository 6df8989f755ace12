"""`SkipNonFinite`: an optimizer around another, for updates that must not happen."""

import keras


@keras.saving.register_keras_serializable("ddpm_keras")
class SkipNonFinite(keras.optimizers.LossScaleOptimizer):
    """Leaves out every update whose gradients are not all finite.

    One infinite or undefined number would spoil all weights for good. It is the way in
    which Keras' loss scaling skips, on every backend and in replicas, without the
    scaling, which only float16 needs.

    Args:
        inner_optimizer: The `keras.optimizers.Optimizer` that makes the updates.
        name: Name of the optimizer.
    """

    def __init__(self, inner_optimizer, name=None):
        super().__init__(inner_optimizer, initial_scale=1.0, name=name)

    @property
    def skipped_in_a_row(self):
        """How many updates have been left out since the last one that was made."""
        return int(self.step_counter.value)

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
        """The values of the variables, with the counter's changed."""
        pairs = zip(self.variables, values, strict=True)
        return [change(x) if v is self.step_counter else x for v, x in pairs]

    def get_config(self):
        inner = keras.saving.serialize_keras_object(self.inner_optimizer)
        return {"name": self.name, "inner_optimizer": inner}
