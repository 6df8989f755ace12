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


def test_keras_gets_our_classes_as_soon_as_it_is_loaded(tmp_path):
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "__init__.py").write_text("loaded = True")
    (tmp_path / "keras" / "saving.py").write_text(
        "classes = {}\n"
        "get_custom_objects = lambda: classes\n"
        "def register_keras_serializable(package, name):\n"
        "    return lambda kind: classes.setdefault(f'{package}>{name}', kind)\n"
    )
    run_python(
        "import sys\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "import ddpm_keras\n"
        "import importlib.util\n"
        "assert importlib.util.find_spec('keras')  # which does not load it\n"
        "assert 'keras' not in sys.modules\n"
        "import keras, keras.saving\n"
        "assert keras.loaded\n"
        "assert 'ddpm_keras>DiffusionModel' in keras.saving.classes\n"
        "assert 'ddpm_keras.model' not in sys.modules\n"
    )


@pytest.mark.slow
def test_model_is_loaded_in_a_new_process(make_tiny_unet, tmp_path):
    from ddpm_keras import DiffusionModel

    DiffusionModel(make_tiny_unet()).save(tmp_path / "model.keras")
    run_python(
        "import ddpm_keras, keras\n"
        f"model = keras.models.load_model({str(tmp_path / 'model.keras')!r})\n"
        "assert type(model) is ddpm_keras.DiffusionModel\n"
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
