"""What the tests share: golden numbers, and small networks with given weights.

Keras is imported inside the fixtures, so that the tests of the plain Python modules
start without it.
"""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

import ddpm_keras  # noqa: F401  (before Keras: it chooses TensorFlow's kernels)

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(scope="session", autouse=True)
def threads_of_the_tests():
    """Left alone by commands in this process: else rounding depends on the order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ddpm_keras.cli.command.set_threads", lambda: None)
        yield


@pytest.fixture(scope="session")
def golden():
    """A function that reads a golden file into a dict."""

    def read(name):
        with np.load(Path(__file__).parent / "golden" / f"{name}.npz") as file:
            return dict(file)

    return read


@pytest.fixture(scope="session")
def numbered():
    """A function that lists a golden file's arrays `w000`, `w001`, and so on."""

    def pick(arrays, prefix):
        keys = [k for k in arrays if k.startswith(prefix)]
        return [arrays[k] for k in sorted(keys) if k[len(prefix) :].isdigit()]

    return pick


@pytest.fixture(scope="session")
def randomise():
    """A function that gives a layer or model random weights, zero ones included."""

    def assign(layer, seed=0):
        rng = np.random.default_rng(seed)
        layer.set_weights(
            [(w.name == "gamma") + rng.normal(0.0, 0.2, w.shape) for w in layer.weights]
        )
        return layer

    return assign


@pytest.fixture(scope="session")
def make_network(randomise):
    """A function that makes a noise predictor for 8x8 images, far below a U-Net."""
    import keras

    from ddpm_keras.networks.layers import ResidualBlock, TimeEmbedding

    def make(seed=0, dropout=0.0, img_channels=3):
        image = keras.Input((8, 8, img_channels), name="image_input")
        t = keras.Input((), dtype="int32", name="time_input")
        x = keras.layers.Conv2D(8, 3, padding="same")(image)
        x = ResidualBlock(8, 4, dropout)(x, TimeEmbedding(8)(t))
        x = keras.layers.Conv2D(img_channels, 3, padding="same", dtype="float32")(x)
        return randomise(keras.Model([image, t], x), seed)

    return make


@pytest.fixture(scope="session")
def make_tiny_unet():
    """A function that builds a U-Net of two levels for 8x8 images."""
    from ddpm_keras.networks.unet import build_unet

    tiny = {
        "img_size": 8,
        "first_conv_channels": 8,
        "channel_multiplier": (1, 2),
        "has_attention": (False, True),
        "num_res_blocks": 1,
        "norm_groups": 4,
    }
    return lambda **changes: build_unet(**tiny | changes)


@pytest.fixture
def model():
    """A `DiffusionModel` of one convolution, which is quickly compiled."""
    import keras

    from ddpm_keras.diffusion import GaussianDiffusion
    from ddpm_keras.model import DiffusionModel

    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3), name="image_input")
    time = keras.Input((), dtype="int32", name="time_input")
    scale = keras.layers.Rescaling(0.1)(keras.layers.Reshape((1, 1, 1))(time))
    noise = keras.layers.Conv2D(3, 3, padding="same")(image + scale)
    network = keras.Model([image, time], noise)
    diffusion = GaussianDiffusion(timesteps=10)
    return DiffusionModel(
        network, None, diffusion, ema=0.9, seed=0, ema_warmup_power=None
    )


@pytest.fixture(scope="session", autouse=True)
def usual_signals():
    """Signals as in a terminal: in the background or under nohup some are ignored."""
    usual = dict.fromkeys((signal.SIGTERM, signal.SIGHUP), signal.SIG_DFL)
    usual[signal.SIGINT] = signal.default_int_handler
    before = {number: signal.signal(number, usual[number]) for number in usual}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def convolution():
    """Have `build_network` build one convolution: a U-Net takes seconds to compile."""
    from training_server import convolution

    with convolution():
        yield


@pytest.fixture
def set_policy():
    """A function that sets Keras' precision policy until the test ends."""
    import keras

    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


@pytest.fixture
def no_waiting_for_the_disk(monkeypatch):
    """In this process; those that get killed do wait."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
