"""The package as it is imported."""

import importlib.util
import os
import subprocess
import sys

import pytest

import ddpm_keras


def run_python(code, **environment):
    """Run a program in a process of its own; an error there is one here."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", ddpm_keras.__all__)
def test_public_name_resolves(name):
    assert getattr(ddpm_keras, name) is not None
    assert name in dir(ddpm_keras)


def test_public_names_are_what_they_say():
    for name in set(ddpm_keras.__all__) - {"__version__"}:
        assert getattr(ddpm_keras, name).__name__ == name


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'ddpm_keras' has no attribute 'UNet'"):
        getattr(ddpm_keras, "UNet")  # noqa: B009


def test_package_and_configuration_import_no_backend():
    run_python(
        "import sys, ddpm_keras\n"
        "ddpm_keras.Config, ddpm_keras.load_config, ddpm_keras.InputError\n"
        "loaded = {'keras', 'tensorflow', 'jax'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )


@pytest.mark.skipif(not importlib.util.find_spec("jax"), reason="JAX is not installed")
def test_jax_imports_trains_and_samples_without_tensorflow():
    run_python(
        """
import sys

sys.modules["tensorflow"] = None  # an import of it fails
import keras
import numpy as np

import ddpm_keras.networks.unet, ddpm_keras.sampling
from ddpm_keras import DiffusionModel, GaussianDiffusion

assert keras.backend.backend() == "jax"
image, t = keras.Input((2, 2, 1)), keras.Input((), dtype="int32")
scale = keras.layers.Embedding(10, 1, "zeros")(t)[:, None, None]
network = keras.Model([image, t], image * scale)
model = DiffusionModel(network, None, GaussianDiffusion(timesteps=10))
model.compile(loss="mse", optimizer="sgd")
assert np.isfinite(model.train_on_batch(np.zeros((2, 2, 2, 1))))
assert model.generate_images(1, steps=2, verbose=0).shape == (1, 2, 2, 1)
""",
        KERAS_BACKEND="jax",
    )
