"""Sampling: the exact answer again, and what an image depends on."""

import keras
import numpy as np
import pytest
from exact_noise import ExactNoise, network_of
from keras import ops

from ddpm_keras.backend import BACKEND
from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.errors import ArgumentError
from ddpm_keras.samplers import MAX_SEED, Steps, make_steps
from ddpm_keras.sampling import ReverseProcess

OPTIONS = dict(sampler="ddpm", verbose=0)


class CountCalls(keras.layers.Layer):
    """Counts how often Python runs the network: when it is traced, not when it runs."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def call(self, x, t):
        self.calls += 1
        return 0.1 * x


@pytest.fixture(scope="module")
def exact():
    diffusion = GaussianDiffusion()
    return ReverseProcess(network_of(ExactNoise(diffusion)), diffusion)


@pytest.fixture(scope="module")
def process(make_network):
    return ReverseProcess(make_network(), GaussianDiffusion(timesteps=12))


def last(chain):
    """The sample at the end of a chain."""
    *_, (t, x, _) = chain
    assert t == -1
    return ops.convert_to_numpy(x)


def noise_plan(steps):
    """Steps of which each returns its own noise and nothing else."""
    zeros = np.zeros(steps, "float32")
    timesteps = np.arange(steps, dtype="int32")[::-1]
    return Steps(timesteps, timesteps - 1, zeros, zeros, zeros, zeros + 1)


@pytest.mark.parametrize("clip", [True, False])
def test_ddim_matches_diffusers(exact, golden, clip):
    diffusers = golden("samplers_diffusers")
    plan = make_steps(exact.diffusion, "ddim", 10)
    chain = exact.run(plan, np.arange(4), diffusers["x_T"], clip_denoised=clip)
    expected = diffusers["ddim_trailing_10" + ("" if clip else "_unclipped")]
    np.testing.assert_allclose(last(chain), expected, atol=1e-4)


def test_dpmpp_matches_diffusers(exact, golden):
    diffusers = golden("samplers_diffusers")
    plan = make_steps(exact.diffusion, "dpmpp", 20)
    # Several steps at a time: what one leaves for the next is carried over.
    chain = exact.run(
        plan, np.arange(4), diffusers["x_T"], clip_denoised=False, every=3
    )
    np.testing.assert_allclose(last(chain), diffusers["dpmpp2m_trailing_20"], atol=1e-4)


def test_ancestral_samples_are_the_data(exact):
    """12,288 pixels: standard errors are 0.0045 of the mean and 1.3% of the variance.

    The variance comes out 1.5% too small in 1,000 steps, see test_samplers.
    """
    images = exact.generate_images(64, "ddpm", clip_denoised=False, verbose=0)
    assert abs(images.mean() - 0.3) < 0.02
    assert abs(images.var() / (0.985 * 0.5**2) - 1) < 0.05
    # The pixels are independent, within an image and between images.
    flat = (images - images.mean()).reshape(64, -1)
    correlations = np.corrcoef(flat)[np.triu_indices(64, 1)]
    assert np.abs(correlations).max() < 5.5 / np.sqrt(flat.shape[1])


def test_image_does_not_depend_on_its_place_in_the_batch(process):
    first = process.generate_images(4, seed=10, **OPTIONS)
    shifted = process.generate_images(4, seed=12, **OPTIONS)
    np.testing.assert_array_equal(first[2:], shifted[:2])


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_image_does_not_depend_on_the_batch_size(process, batch_size):
    """Five images: with two at a time the last batch is a partial one."""
    expected = process.generate_images(5, batch_size=4, **OPTIONS)
    found = process.generate_images(5, batch_size=batch_size, **OPTIONS)
    assert found.shape == (5, 8, 8, 3)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(np.diff(expected, axis=0)).max(axis=(1, 2, 3)).min() > 0.1


def test_same_seed_repeats_and_another_differs(process):
    first, second, other = (
        process.generate_images(4, seed=seed, **OPTIONS) for seed in (3, 3, 7)
    )
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - other).max(axis=(1, 2, 3)).min() > 0.1


def test_images_are_in_range_unless_clipping_is_off(process):
    assert np.abs(process.generate_images(4, **OPTIONS)).max() <= 1.0
    unclipped = process.generate_images(4, clip_denoised=False, **OPTIONS)
    assert np.abs(unclipped).max() > 1.0


def test_noise_is_standard_normal_and_new_in_every_image_and_step(process):
    """Start and four steps of 64 images, 192 numbers each."""
    seeds = np.arange(64)
    chain = [x for _, x, _ in process.run(noise_plan(4), seeds)]
    noise = np.stack(
        [ops.convert_to_numpy(x) for x in (process.noise(seeds), *chain)]
    ).reshape(5 * 64, 192)
    for rows in noise.reshape(5, -1):
        # 12,288 draws: standard errors are 0.009, 0.013 and 0.044.
        assert abs(rows.mean()) < 0.04
        assert abs(rows.var() - 1) < 0.06
        assert abs((rows**4).mean() - 3) < 0.35
    # Of 51,040 pairs of independent rows the largest correlation is below 6 sigma.
    correlations = np.corrcoef(noise)[np.triu_indices(5 * 64, 1)]
    assert np.abs(correlations).max() < 6 / np.sqrt(192)


def test_the_highest_seed_has_noise_of_its_own(process):
    noise = ops.convert_to_numpy(process.noise(np.array([MAX_SEED, 0, 1, 2])))
    assert len(np.unique(noise.reshape(4, -1), axis=0)) == 4


def test_noise_of_a_seed_and_step_is_always_the_same(process):
    few = [x for _, x, _ in process.run(noise_plan(3), np.array([5, MAX_SEED]))]
    many = [x for _, x, _ in process.run(noise_plan(4), np.array([1, MAX_SEED, 5]))]
    for step in range(3):
        found, expected = (ops.convert_to_numpy(x[step]) for x in (few, many))
        np.testing.assert_array_equal(found[[1, 0]], expected[[1, 2]])


def test_run_yields_every_step(process):
    plan = make_steps(process.diffusion, "ddpm", 7)
    chain = list(process.run(plan, np.arange(4), every=1))
    assert [t for t, _, _ in chain] == list(plan.timesteps[1:]) + [-1]
    x = ops.convert_to_numpy(process.noise(np.arange(4)))
    assert x.shape == (4, 8, 8, 3)
    for t, (_, x_prev, x_start) in zip(plan.timesteps, chain, strict=True):
        steps = np.full(4, t)
        pred_noise = process.denoiser.network([x, steps])
        expected = process.diffusion.predict_start_from_noise(x, steps, pred_noise)
        x_start = ops.convert_to_numpy(x_start)
        # The first step multiplies the network's rounding errors by 157.
        np.testing.assert_allclose(
            x_start, np.clip(ops.convert_to_numpy(expected), -1, 1), atol=1e-3
        )
        x = ops.convert_to_numpy(x_prev)
    np.testing.assert_array_equal(x, x_start)
    np.testing.assert_array_equal(
        x, process.generate_images(4, steps=7, batch_size=4, **OPTIONS)
    )


@pytest.mark.parametrize("every", [1, 3, 7, 100])
def test_run_yields_as_often_as_asked(process, every):
    plan = make_steps(process.diffusion, "ddpm", 7)
    chain = list(process.run(plan, np.arange(4), every=every))
    shown = {1: [0, 1, 2, 3, 4, 5, 6], 3: [2, 5, 6], 7: [6], 100: [6]}[every]
    assert [t for t, _, _ in chain] == list(plan.reached[shown])
    np.testing.assert_allclose(
        last(chain), last(process.run(plan, np.arange(4))), atol=1e-6
    )


def test_batches_come_with_their_seeds_and_are_watched(process):
    plan, states = make_steps(process.diffusion, "ddpm", 6), []
    batches = list(
        process.batches(
            plan,
            [9, 4, 7],
            batch_size=2,
            verbose=0,
            every=2,
            watch=lambda *state: states.append(state),
        )
    )
    assert [list(seeds) for seeds, _ in batches] == [[9, 4], [7]]
    for seeds, images in batches:
        for seed, image in zip(seeds, images, strict=True):
            alone = process.generate_images(1, steps=6, seed=seed, **OPTIONS)
            np.testing.assert_allclose(image, alone[0], atol=1e-4)
    assert [batch for batch, *_ in states] == [0, 0, 0, 1, 1, 1]
    assert [t for _, t, _, _ in states] == 2 * list(plan.reached[1::2])
    for (_, images), (*_, x, _) in zip(batches, states[2::3], strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(x)[: len(images)], images)


def test_what_the_watcher_raises_ends_the_sampling(process):
    """Batches that were finished have come by then."""

    def stop(batch, *state):
        if batch == 1:
            raise InterruptedError

    plan, found = make_steps(process.diffusion, "ddpm", 6), []
    with pytest.raises(InterruptedError):
        for seeds, _ in process.batches(
            plan, np.arange(6), batch_size=2, verbose=0, watch=stop
        ):
            found.extend(seeds)
    assert found == [0, 1]


def test_batches_start_from_the_images_given(process):
    zeros, timesteps = np.zeros(2, "float32"), np.array([1, 0], "int32")
    plan = Steps(timesteps, timesteps - 1, zeros + 1, zeros, zeros, zeros)
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype("float32")
    batches = process.batches(
        plan, np.arange(3), lambda places: x[places], batch_size=2, verbose=0
    )
    found = np.concatenate([images for _, images in batches])
    np.testing.assert_array_equal(found, x)


def test_changed_weights_are_used_without_rebuilding(make_network):
    """Weights frozen into the compiled program would be the old ones."""
    network, diffusion = make_network(seed=0), GaussianDiffusion(timesteps=12)
    process = ReverseProcess(network, diffusion)
    before = process.generate_images(2, **OPTIONS)
    network.set_weights(make_network(seed=1).get_weights())
    after = process.generate_images(2, **OPTIONS)
    assert np.abs(after - before).max() > 1e-2
    fresh = ReverseProcess(make_network(seed=1), diffusion)
    np.testing.assert_allclose(after, fresh.generate_images(2, **OPTIONS), atol=1e-5)


def test_more_images_of_the_same_batch_size_compile_nothing():
    layer = CountCalls()
    process = ReverseProcess(network_of(layer), GaussianDiffusion(timesteps=12))
    before = layer.calls
    process.generate_images(4, batch_size=4, seed=0, **OPTIONS)
    traced = layer.calls
    # Not once a step: the loop is in the compiled program.
    assert 0 < traced - before < 12
    process.generate_images(6, batch_size=4, seed=100, **OPTIONS)
    process.generate_images(8, batch_size=4, clip_denoised=False, **OPTIONS)
    assert layer.calls == traced


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the loop is XLA's anyway")
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_xla_compiles_the_loop(make_network, set_policy, policy):
    """XLA refuses whatever would leave the device in the middle of the loop."""
    import tensorflow as tf

    set_policy(policy)
    process = ReverseProcess(make_network(), GaussianDiffusion(timesteps=12))
    plan = make_steps(process.diffusion, "dpmpp", 3)
    plain = last(process.run(plan, np.arange(2), every=3))
    process._advance = tf.function(process._steps, jit_compile=True)
    compiled = last(process.run(plan, np.arange(2), every=3))
    if policy == "float32":
        np.testing.assert_allclose(compiled, plain, atol=1e-5)
    # XLA rounds to bfloat16 in fewer places, and random weights amplify it.
    assert np.abs(compiled - plain).mean() < 0.1


@pytest.mark.parametrize(
    "arguments, keys",
    [
        (dict(num_images=0), "num_images batch_size"),
        (dict(batch_size=0), "num_images batch_size"),
        (dict(sampler="euler"), "sampler"),
        (dict(steps=13), "steps"),
        (dict(strength=0.5), "strength"),
        (dict(seed=None), "seed"),
        (dict(seed=-1), "seed"),
        (dict(seed=MAX_SEED - 14), "seed"),
    ],
)
def test_invalid_arguments_are_named(process, arguments, keys):
    with pytest.raises(ArgumentError) as error:
        process.generate_images(verbose=0, **arguments)
    assert error.value.keys == tuple(keys.split())
