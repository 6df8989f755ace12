"""Every prediction type on data of two modes: the exact answer, and a learnt one."""

import keras
import mixture
import numpy as np
import pytest
from keras import layers

from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.model import DiffusionModel
from ddpm_keras.networks.layers import TimeEmbedding
from ddpm_keras.optimizers import Adam, WarmupDecay
from ddpm_keras.samplers import make_steps
from ddpm_keras.sampling import ReverseProcess
from ddpm_keras.schedules import PREDICTION_TYPES

SIDE = 32


@pytest.fixture(scope="module", params=PREDICTION_TYPES)
def exact(request):
    """The reverse process with the exact answer in place of a network."""
    diffusion = GaussianDiffusion(schedule="cosine", prediction_type=request.param)
    return ReverseProcess(mixture.exact_network(diffusion, SIDE), diffusion)


@pytest.mark.parametrize(
    "sampler, steps, num_images",
    [("ddpm", 1000, 16), ("ddim", 50, 64), ("dpmpp", 50, 64)],
)
def test_exact_answer_leads_to_the_data(exact, sampler, steps, num_images):
    """1,024 pixels an image: the standard errors of 16 images are below 0.01.

    The error of ddim itself in 50 steps is 2% of the variance.
    """
    images = exact.generate_images(
        num_images, sampler, steps, clip_denoised=False, verbose=0
    )
    assert abs(mixture.share_of_first(images) - mixture.SHARES[0]) < 0.02
    errors = images.mean((0, 1, 2)) - mixture.MEAN
    assert (abs(errors) < 0.03 * np.sqrt(mixture.VARIANCE)).all()
    variance = images.var((0, 1, 2))
    np.testing.assert_allclose(variance, mixture.VARIANCE, rtol=0.03)


def follow(diffusion, sampler, steps, x, last):
    """Follow the steps with the exact answer, in float64, up to timestep `last`."""
    plan = make_steps(diffusion, sampler, steps)
    columns = (np.float64(column) for column in (plan.a, plan.b, plan.c))
    before = np.zeros_like(x)
    for t, reached, a, b, c in zip(plan.timesteps, plan.reached, *columns, strict=True):
        abar = diffusion.alphas_cumprod_float64[t]
        x_start = mixture.expected_start(x, abar)
        x, before = a * x + b * x_start + c * before, x_start
        if reached == last:
            return x


@pytest.mark.parametrize("sampler, order", [("ddim", 1), ("dpmpp", 2)])
def test_order_of_convergence(sampler, order):
    """Twice the steps divide the error by 2^order.

    Up to a fifth of the process: the very last step is of first order in every sampler.
    """
    diffusion = GaussianDiffusion(timesteps=4000)
    x = np.random.default_rng(0).normal(size=(200, 2))
    exact = follow(diffusion, "dpmpp", 4000, x, last=799)
    errors = [
        np.sqrt(np.mean((follow(diffusion, sampler, steps, x, last=799) - exact) ** 2))
        for steps in (20, 40, 80, 160)
    ]
    orders = -np.diff(np.log2(errors))
    np.testing.assert_allclose(orders, order, atol=0.1)


def small_network():
    """A network of 3,422 weights over one pixel."""
    image = keras.Input((1, 1, 2), name="image_input")
    t = keras.Input((), dtype="int32", name="time_input")
    time = layers.Reshape((1, 1, 16))(TimeEmbedding(16)(t))
    x = layers.Concatenate()([image, time])
    for _ in range(3):
        x = layers.Dense(36, activation="swish")(x)
    return keras.Model([image, t], layers.Dense(2)(x))


# The recipe's type in every run of the tests, the others with the slow ones.
@pytest.mark.parametrize(
    "prediction_type",
    [
        "epsilon",
        pytest.param("v_prediction", marks=pytest.mark.slow),
        pytest.param("sample", marks=pytest.mark.slow),
    ],
)
def test_small_network_learns_the_data(prediction_type):
    """Its loss is close to the exact answer's, on the same timesteps and noise."""
    keras.utils.set_random_seed(0)
    diffusion = GaussianDiffusion(
        clip_min=-2.0,
        clip_max=2.0,
        schedule="cosine",
        prediction_type=prediction_type,
    )
    images, new = (mixture.draw((8192, 1, 1), seed) for seed in (0, 1))
    model = DiffusionModel(small_network(), diffusion=diffusion, ema=0.99, seed=0)
    rate = WarmupDecay(1e-2, 50, "cosine", num_steps=16 * 40)
    model.compile(loss="mse", optimizer=Adam(rate))
    model.fit(images, batch_size=512, epochs=40, verbose=0)

    exact = (mixture.exact_network(diffusion) for _ in range(2))
    exact = DiffusionModel(*exact, diffusion=diffusion)
    exact.compile(loss="mse", optimizer="adam")
    loss, least = (m.evaluate(new, batch_size=512, verbose=0) for m in (model, exact))
    assert 0.99 * least < loss < 1.08 * least

    options = {"sampler": "dpmpp", "steps": 50, "batch_size": 2000, "verbose": 0}
    samples = model.generate_images(2000, **options)
    assert abs(mixture.share_of_first(samples) - mixture.SHARES[0]) < 0.1
    error = samples.mean((0, 1, 2)) - mixture.MEAN
    assert (abs(error) < 0.1 * np.sqrt(mixture.VARIANCE)).all()
    variance = samples.var((0, 1, 2))
    np.testing.assert_allclose(variance, mixture.VARIANCE, rtol=0.2)
