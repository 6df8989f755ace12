"""Options of the training, from the configuration to Keras."""

import keras
import numpy as np
import pytest

from ddpm_keras.config import Config
from ddpm_keras.data.flowers import draw_flowers
from ddpm_keras.errors import InputError
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


@pytest.mark.parametrize("decay, quarter", [("linear", 0.75), ("cosine", 0.853553)])
def test_rate_falls_to_0_over_the_training(decay, quarter):
    """After the warm-up: the steps from 4 to 24."""
    config = Config(
        learning_rate=0.01, learning_rate_warmup_steps=4, learning_rate_decay=decay
    )
    rate = build_optimizer(config, num_steps=24)._learning_rate
    found = [float(rate(step)) for step in (0, 4, 9, 24)]
    np.testing.assert_allclose(found, [0.0025, 0.01, 0.01 * quarter, 0.0], atol=1e-8)


def test_decay_without_steps_is_one_line():
    config = Config(learning_rate_warmup_steps=30, learning_rate_decay="cosine")
    with pytest.raises(InputError) as error:
        build_optimizer(config, num_steps=30)
    assert str(error.value) == (
        "learning_rate_warmup_steps: the cosine decay of the learning rate needs more "
        "steps in all than the warm-up. Received: learning_rate_warmup_steps=30, "
        "num_steps=30"
    )


def test_keys_reach_the_model():
    config = Config(
        **TINY,
        prediction_type="v_prediction",
        schedule="cosine",
        schedule_shift=0.5,
        rescale_zero_terminal_snr=True,
        snr_gamma=5.0,
        ema=0.75,
        ema_warmup_power=0.5,
        augment=0.125,
        class_labels=True,
        class_names=["a", "b", "c"],
        label_dropout=0.25,
        patch_size=2,
    )
    model = build_model(config)
    given = model.diffusion.get_config() | model.get_config()
    keys = [
        *("prediction_type", "schedule", "schedule_shift", "rescale_zero_terminal_snr"),
        *("snr_gamma", "ema", "ema_warmup_power", "augment", "label_dropout"),
    ]
    assert {key: given[key] for key in keys} == {k: getattr(config, k) for k in keys}
    inputs = [tensor.name for tensor in model.network.inputs]
    assert inputs == ["image_input", "time_input", "label_input", "augment_input"]
    assert model.network.get_layer("label_embedding").num_classes == 3
    assert model.network.get_layer("patches").size == 2


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


@pytest.mark.parametrize(
    "precision", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)]
)
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
