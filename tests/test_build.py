"""Options of the training, from the configuration to Keras."""

import keras
import numpy as np
import pytest

from ddpm_keras.config import Config
from ddpm_keras.data.flowers import draw_flowers
from ddpm_keras.runs.build import build_model, build_optimizer

TINY = {
    "dataset_name": "petals",
    "img_size": 8,
    "first_conv_channels": 8,
    "channel_multiplier": [1],
    "has_attention": [False],
    "num_res_blocks": 1,
    "learning_rate": 1e-3,
}


def test_recipe_is_plain_adam():
    found, wanted = build_optimizer(Config()), keras.optimizers.Adam(2e-4)
    assert found.get_config() | {"name": ""} == wanted.get_config() | {"name": ""}


def test_rate_rises_in_a_line_and_stays():
    config = Config(learning_rate=0.01, learning_rate_warmup_steps=4)
    rate = build_optimizer(config)._learning_rate
    rates = [float(rate(step)) for step in (0, 1, 2, 3, 4, 5, 100)]
    wanted = [0.0025, 0.004375, 0.00625, 0.008125, 0.01, 0.01, 0.01]
    np.testing.assert_allclose(rates, wanted, rtol=1e-6)


def updates(optimizer, gradients):
    """What a weight of 0 becomes, step by step."""
    weight = keras.Variable(np.zeros(2, "float32"))
    optimizer.build([weight])
    for gradient in gradients:
        optimizer.apply([keras.ops.array(gradient)])
        yield keras.ops.convert_to_numpy(weight.value)


def test_gradients_are_clipped_together():
    config = Config(optimizer="sgd", learning_rate=1.0, grad_clip=0.5)
    (found,) = updates(build_optimizer(config), [[3.0, 4.0]])
    np.testing.assert_allclose(found, [-0.3, -0.4], rtol=1e-6)


def test_gradients_are_accumulated():
    config = Config(optimizer="sgd", learning_rate=1.0, gradient_accumulation_steps=2)
    first, second = updates(build_optimizer(config), [[1.0, 3.0], [2.0, 5.0]])
    np.testing.assert_array_equal(first, [0.0, 0.0])
    np.testing.assert_allclose(second, [-1.5, -4.0], rtol=1e-6)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_trains_like_float32(precision):
    images = draw_flowers(8, 8).astype("float32") / 127.5 - 1.0

    def losses(**keys):
        model = build_model(Config(**TINY, **keys))
        assert {w.dtype for w in model.network.weights} == {"float32"}
        fit = model.fit(images, batch_size=4, epochs=4, shuffle=False, verbose=0)
        return fit.history["loss"], model.network.layers

    plain, _ = losses()
    mixed, layers = losses(mixed_precision=precision)
    np.testing.assert_allclose(mixed, plain, atol=0.01)  # three digits of bfloat16
    assert any(layer.compute_dtype == precision for layer in layers)
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_loss_curve_of_200_steps_is_that_of_float32(precision):
    """Far closer than that of another seed, which shows how large the noise is."""
    images = draw_flowers(32, 16).astype("float32") / 127.5 - 1.0

    def curve(**keys):
        config = Config(
            img_size=16,
            first_conv_channels=16,
            channel_multiplier=[1, 2],
            has_attention=[False, True],
            num_res_blocks=1,
            learning_rate=1e-3,
            **keys,
        )
        steps = LossOfEachStep()
        build_model(config).fit(
            images, batch_size=8, epochs=50, shuffle=False, verbose=0, callbacks=[steps]
        )
        return np.array(steps.losses)

    plain, mixed, other = curve(), curve(mixed_precision=precision), curve(seed=1)
    assert len(plain) == 200 and plain[-50:].mean() < 0.5 * plain[:50].mean()

    def distance(losses):
        return np.sqrt(np.mean((losses / plain - 1) ** 2))

    print(f"{precision}: {distance(mixed):.1%}, another seed: {distance(other):.1%}")
    assert distance(mixed) < 0.2 * distance(other)
    np.testing.assert_allclose(mixed[-50:].mean(), plain[-50:].mean(), rtol=0.02)


class LossOfEachStep(keras.callbacks.Callback):
    """The loss of every step; `logs` hold its mean since the epoch began."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        total = logs["loss"] * (batch + 1)
        self.losses.append(total - (self._before if batch else 0))
        self._before = total
