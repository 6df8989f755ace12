"""The state that the next training step depends on, as named arrays."""

import numpy as np

from ddpm_keras.backend import read_variable, sync_variables
from ddpm_keras.errors import InputError


def state_arrays(model):
    """Return the state of a compiled `DiffusionModel` between two training steps.

    Returns:
        A dict of NumPy arrays: the weights of both networks and of the optimizer, the
        running metrics of the epoch, and the states of all seeds. The metrics are 0 if
        a skipped step with an infinite loss has spoilt them.
    """
    arrays = {name: read_variable(v) for name, v in _variables(model).items()}
    metrics = {n: a for n, a in arrays.items() if n.startswith("metrics/")}
    if not all(np.isfinite(array).all() for array in metrics.values()):
        arrays.update({name: np.zeros_like(a) for name, a in metrics.items()})
    return arrays


def load_state(model, arrays):
    """Set the state of a compiled `DiffusionModel`, all of it or nothing.

    Args:
        model: The model.
        arrays: The result of `state_arrays` for an equal model.

    Raises:
        InputError: When arrays are missing, left over or of another shape; names the
            first three.
    """
    variables = _variables(model)
    wanted = {name: tuple(v.shape) for name, v in variables.items()}
    found = {name: array.shape for name, array in arrays.items()}
    differ = [
        f"{name} (saved: {found.get(name, 'none')}, here: {wanted.get(name, 'none')})"
        for name in sorted(wanted.keys() | found.keys())
        if found.get(name) != wanted.get(name)
    ]
    if differ:
        raise InputError(
            f"the saved state is another model's: {len(differ)} arrays differ, "
            f"{', '.join(differ[:3])}; resume with the model that was saved"
        )
    for name, variable in variables.items():
        variable.assign(arrays[name])


def _variables(model):
    """Return all variables by part, number and name: their paths count objects."""
    sync_variables(model)
    parts = {
        "network": model.network.variables,
        "ema_network": model.ema_network.variables,
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
        "seeds": [model.train_seeds.state, model.test_seeds.state],
    }
    return {
        f"{part}/{number:03d}/{variable.name}": variable
        for part, variables in parts.items()
        for number, variable in enumerate(variables)
    }
