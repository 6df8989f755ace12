"""Training with weights of the loss, and with an average that warms up.

The network multiplies its input by one weight, so that gradients are known in closed
form.
"""

import keras
import numpy as np
import pytest
from keras import ops

from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.errors import ArgumentError
from ddpm_keras.model import DiffusionModel
from ddpm_keras.schedules import PREDICTION_TYPES

FACTOR = 0.7
SHAPE = (3, 2, 1)  # not square, so that axes cannot be mixed up


def make_model(prediction_type="epsilon", **options):
    image = keras.Input(SHAPE, name="image_input")
    t = keras.Input((), dtype="int32", name="time_input")
    network = keras.Model([image, t], keras.layers.Dense(1, use_bias=False)(image))
    network.set_weights([np.full((1, 1), FACTOR)])
    diffusion = GaussianDiffusion(timesteps=50, prediction_type=prediction_type)
    model = DiffusionModel(network, diffusion=diffusion, seed=3, **options)
    model.compile(loss="mse", optimizer=keras.optimizers.SGD(1.0))
    return model


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(-1, 1, (24, *SHAPE)).astype("float32")


def next_batch(model, images):
    """Noisy images, timesteps and targets of the next step, and its squared errors."""
    state = ops.convert_to_numpy(model.train_seeds.state)
    (x, t), target, _ = model.add_noise((images,), model.train_seeds)
    model.train_seeds.state.assign(state)
    x, t, target = (ops.convert_to_numpy(tensor) for tensor in (x, t, target))
    return x, t, target, ((FACTOR * x - target) ** 2).mean((1, 2, 3))


def gradient(x, target, weights):
    """Of the mean of `weights * (factor * x - target)^2` by the factor."""
    per_image = (2 * x * (FACTOR * x - target)).mean((1, 2, 3))
    return (weights * per_image).mean()


def train(model, *batch):
    """The loss that a step logs, and the gradient that it followed."""
    model.reset_metrics()
    loss = float(model.train_on_batch(*batch))
    return loss, FACTOR - model.network.get_weights()[0].item()


@pytest.mark.parametrize("gamma", [0.1, 1.0])
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_min_snr_weighs_the_gradients_only(images, prediction_type, gamma):
    model = make_model(prediction_type, snr_gamma=gamma)
    x, t, target, errors = next_batch(model, images)
    abar = model.diffusion.alphas_cumprod_float64[t]
    snr = abar / (1 - abar)
    weights = np.minimum(snr, gamma)  # of the squared error of the clean image
    weights /= {"epsilon": snr, "v_prediction": snr + 1, "sample": 1}[prediction_type]
    assert weights.max() > 2 * weights.min()
    loss, found = train(model, images)
    np.testing.assert_allclose(loss, errors.mean(), rtol=1e-5)
    np.testing.assert_allclose(found, gradient(x, target, weights), rtol=1e-4)


def test_validation_is_not_weighted(images):
    found = [
        make_model("v_prediction", snr_gamma=gamma).evaluate(images, verbose=0)
        for gamma in (None, 1.0)
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize("gamma", [None, 1.0])
def test_sample_weights_are_of_images(images, gamma):
    """Keras would multiply columns of pixels by them, or fail."""
    model = make_model(snr_gamma=gamma)
    x, t, target, errors = next_batch(model, images)
    given = np.linspace(0.0, 4.0, 24, dtype="float32")
    weights = given
    if gamma:
        weights = given * model.diffusion.loss_weights(gamma)[t]
    no_labels = np.zeros(24, "int32")
    loss, found = train(model, images, no_labels, given)
    np.testing.assert_allclose(found, gradient(x, target, weights), rtol=1e-4)
    if not gamma:
        np.testing.assert_allclose(loss, (given * errors).mean(), rtol=1e-5)


def test_sample_weights_of_tf_data_may_be_float64(images):
    """Keras makes arrays float32, but not the elements of a data set."""
    tf = pytest.importorskip("tensorflow")
    given = np.linspace(0.0, 4.0, 24)
    factors = []
    for weights in (given, given.astype("float32")):
        model = make_model(snr_gamma=1.0)
        parts = images, np.zeros(24, "int32"), weights
        model.fit(tf.data.Dataset.from_tensor_slices(parts).batch(24), verbose=0)
        factors.append(model.network.get_weights()[0].item())
    assert factors[0] == factors[1] != FACTOR


def test_average_warms_up(images):
    """The decays are 0.405, 0.561, then 0.6 instead of 0.646."""
    model = make_model(ema=0.6)  # with the default, a power of 0.75
    model.optimizer.learning_rate = 0.1
    average = model.ema_network.get_weights()[0].item()
    averages, plain = [average], average
    for k in range(1, 5):
        model.train_on_batch(images)
        weight = model.network.get_weights()[0].item()
        decay = min(0.6, 1 - (1 + k) ** -0.75)
        averages.append(decay * averages[-1] + (1 - decay) * weight)
        plain = 0.6 * plain + 0.4 * weight
        found = model.ema_network.get_weights()[0].item()
        np.testing.assert_allclose(found, averages[-1], rtol=1e-5)
    assert abs(averages[-1] - plain) > 1e-3 * abs(plain)


def test_average_warms_up_in_fit(images):
    """Where JAX hands the values of variables from step to step."""
    stepped, fitted = (make_model(ema=0.9, ema_warmup_power=0.5) for _ in range(2))
    for _ in range(3):
        stepped.train_on_batch(images)
    fitted.fit(images, batch_size=24, epochs=3, shuffle=False, verbose=0)
    for network in ("network", "ema_network"):
        found, wanted = (
            getattr(m, network).get_weights()[0] for m in (fitted, stepped)
        )
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_options_survive_saving(images, tmp_path):
    options = {"snr_gamma": 2.5, "ema_warmup_power": 0.5, "label_dropout": 0.25}
    model = make_model("v_prediction", ema=0.75, **options)
    train(model, images)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_config().items() >= {**options, "ema": 0.75}.items()
    assert loaded.diffusion.prediction_type == "v_prediction"
    assert train(loaded, images) == train(model, images)


@pytest.mark.parametrize(
    "options, keys",
    [
        (dict(snr_gamma=0), "snr_gamma ema_warmup_power"),
        (dict(ema_warmup_power=-1.0), "snr_gamma ema_warmup_power"),
        (dict(augment=1.5), "augment label_dropout"),
        (dict(label_dropout=1.0), "augment label_dropout"),
        (dict(augment=0.1), "augment"),  # the network has no input for it
    ],
    ids=str,
)
def test_invalid_options_are_named(options, keys):
    with pytest.raises(ArgumentError) as error:
        make_model(**options)
    assert error.value.keys == tuple(keys.split())
