"""Optimizers with what Keras' lack, and the learning rate's schedule."""

import math
import re

import keras
from keras import ops

from ddpm_keras.backend import apply_adam_kernel, has_adam_kernel, read_variable
from ddpm_keras.errors import require


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
class Nadam(keras.optimizers.Nadam):
    """Keras' Nadam with all of its state among its variables.

    Keras leaves out the running product of the momentum's schedule: it would not be in
    a checkpoint, and never change on JAX. Arguments are those of
    `keras.optimizers.Nadam`.
    """

    def build(self, var_list):
        if self.built:
            return
        super().build(var_list)
        self._u_product = self.add_variable(
            (), "ones", dtype=self._u_product.dtype, name="u_product"
        )


@keras.saving.register_keras_serializable("ddpm_keras")
class Muon(keras.optimizers.Muon):
    """Keras' Muon, for the kernels of convolutions as well.

    The momentum of a kernel, as a matrix with a column for each output channel, is
    replaced by one near the closest matrix whose singular values are all 1 (Jordan
    2024, https://kellerjordan.github.io/posts/muon/), scaled so that a learning rate of
    Adam fits (Liu et al. 2025, https://arxiv.org/abs/2502.16982). Vectors, embeddings
    and the layers that touch pixels are updated as AdamW does. Keras' own takes the
    matrices of dense layers only.

    Args:
        learning_rate: The rate, or its schedule.
        exclude_layers: Regular expressions; kernels whose path one of them finds are
            updated as AdamW does.
        **options: Further arguments of `keras.optimizers.Muon`.
    """

    def __init__(
        self, learning_rate=0.001, exclude_layers=("(^|/)(stem|head)/",), **options
    ):
        super().__init__(learning_rate, exclude_layers=list(exclude_layers), **options)

    def _should_use_adamw(self, variable):
        if len(variable.shape) != 4:
            return super()._should_use_adamw(variable)
        return any(re.search(name, variable.path) for name in self.exclude_layers)

    def zeropower_via_newtonschulz5(self, x, steps):
        matrix = super().zeropower_via_newtonschulz5(_as_matrix(x), steps)
        return ops.reshape(matrix, x.shape)

    def lr_adjust(self, x):
        return ops.reshape(super().lr_adjust(_as_matrix(x)), x.shape)


def _as_matrix(kernel):
    return ops.reshape(kernel, (-1, kernel.shape[-1]))


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


@keras.saving.register_keras_serializable("ddpm_keras")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly to its value, then falls to 0.

    The warm-up starts at `learning_rate / warmup_steps`. The decay takes the steps from
    `warmup_steps` to `num_steps`: in a straight line ("linear"), along half a cosine
    ("cosine", Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983, equation
    5), or not at all ("none").

    Args:
        learning_rate: The largest rate.
        warmup_steps: Steps of the warm-up, 0 or more.
        decay: `"none"`, `"linear"` or `"cosine"`.
        num_steps: Step at which the rate is 0; not needed for `"none"`.

    Raises:
        ArgumentError: When there is no such decay, or it has no steps.
    """

    def __init__(self, learning_rate, warmup_steps=0, decay="none", num_steps=None):
        message = "`decay` must be none, linear or cosine."
        require(decay in ("none", "linear", "cosine"), message, decay=decay)
        require(
            decay == "none" or (num_steps or 0) > warmup_steps,
            f"the {decay} decay of the learning rate needs more steps in all than the "
            "warm-up.",
            learning_rate_warmup_steps=warmup_steps,
            num_steps=num_steps,
        )
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.decay = decay
        self.num_steps = num_steps

    def __call__(self, step):
        step = ops.cast(step, "float32")
        factor = 1.0
        if self.warmup_steps:
            first = 1.0 / self.warmup_steps
            done = ops.minimum(step * first, 1.0)
            factor = first + (1.0 - first) * done
        if self.decay != "none":
            left = (self.num_steps - step) / (self.num_steps - self.warmup_steps)
            left = ops.clip(left, 0.0, 1.0)
            if self.decay == "cosine":
                left = 0.5 - 0.5 * ops.cos(math.pi * left)
            factor = factor * left
        return self.learning_rate * factor

    def get_config(self):
        return {
            "learning_rate": self.learning_rate,
            "warmup_steps": self.warmup_steps,
            "decay": self.decay,
            "num_steps": self.num_steps,
        }
