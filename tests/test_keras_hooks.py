"""What the package uses of Keras that Keras does not document.

Each of these may go in any release. A failure here names what to look at, where the
tests of the module would only show wrong numbers.
"""

import inspect

import keras
import numpy as np

from ddpm_keras.backend import has_adam_kernel
from ddpm_keras.optimizers import SkipNonFinite


def parameters(function):
    return list(inspect.signature(function).parameters)


def test_adam_keeps_its_moments_by_the_number_of_a_variable():
    optimizer = keras.optimizers.Adam()
    variables = [keras.Variable(np.zeros(n, "float32")) for n in (2, 3)]
    optimizer.build(variables)
    index = optimizer._get_variable_index(variables[1])
    assert optimizer._momentums[index].shape == (3,)
    assert optimizer._velocities[index].shape == (3,)
    assert parameters(optimizer.update_step) == [
        *("gradient", "variable", "learning_rate"),
    ]
    if has_adam_kernel():
        assert variables[0].handle is not None  # what TensorFlow's kernels write to


def test_loss_scaling_calls_the_hooks_that_skip_updates():
    base = keras.optimizers.LossScaleOptimizer
    for name, wanted in {
        "_stateful_handle_finite_grads": ["self", "grads", "trainable_variables"],
        "_stateful_handle_non_finite_grads": ["self"],
        "_stateless_handle_finite_grads": [
            *("self", "optimizer_variables", "grads", "trainable_variables"),
        ],
        "_stateless_handle_non_finite_grads": [
            *("self", "optimizer_variables", "trainable_variables"),
        ],
    }.items():
        assert parameters(getattr(base, name)) == wanted, name
        assert name in vars(SkipNonFinite)


def test_random_numbers_ask_a_seed_generator_for_its_next_seed():
    asked = []

    class Seed(keras.random.SeedGenerator):
        def next(self, ordered=True):
            asked.append(ordered)
            return super().next(ordered)

    keras.random.normal((2,), seed=Seed(0))
    assert len(asked) == 1


def test_jax_models_write_their_variables_back_on_request():
    # On the JAX backend alone: `backend.sync_variables`.
    if keras.backend.backend() == "jax":
        assert callable(keras.Model.jax_state_sync)
