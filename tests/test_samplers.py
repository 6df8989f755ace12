"""The samplers against diffusers, and with the exact answer for Gaussian data."""

import dataclasses

import numpy as np
import pytest

from ddpm_keras.config import Config
from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.errors import ArgumentError, InputError
from ddpm_keras.samplers import (
    SAMPLERS,
    SPACINGS,
    choose_steps,
    make_steps,
    spaced_timesteps,
)


@pytest.fixture(scope="module")
def diffusers(golden):
    return golden("samplers_diffusers")


@pytest.fixture(scope="module")
def diffusion():
    return GaussianDiffusion()


def sample(diffusion, plan, x, mu, sigma, clip):
    """Follow the steps with the noise that is the exact answer for N(mu, sigma^2)."""
    x_start_before = np.zeros_like(x)
    columns = (plan.timesteps, plan.a, plan.b, plan.c, plan.sigma)
    for t, a, b, c, noise in zip(*columns, strict=True):
        assert noise == 0
        abar = diffusion.alphas_cumprod_float64[t]
        eps = np.sqrt(1 - abar) * (x - np.sqrt(abar) * mu)
        eps /= abar * sigma**2 + 1 - abar
        x_start = (x - np.sqrt(1 - abar) * eps) / np.sqrt(abar)
        if clip:
            x_start = x_start.clip(-1, 1)
        x, x_start_before = a * x + b * x_start + c * x_start_before, x_start
    return x


def exact_mean_and_variance(diffusion, plan, mu=0.3, sigma=0.5):
    """Of the samples, from x_T ~ N(0, 1) and the exact answer for N(mu, sigma^2).

    A step is linear in (x, x_0 of the step before) then: no sampling is needed.
    """
    mean, covariance = np.zeros(2), np.diag([1.0, 0.0])
    columns = (plan.timesteps, plan.a, plan.b, plan.c, plan.sigma)
    for t, *numbers in zip(*columns, strict=True):
        a, b, c, noise = map(float, numbers)
        abar = diffusion.alphas_cumprod_float64[t]
        # E[x_0 | x] = mu + slope (x - sqrt(abar) mu)
        slope = np.sqrt(abar) * sigma**2 / (abar * sigma**2 + 1 - abar)
        offset = mu * (1 - slope * np.sqrt(abar))
        matrix = np.array([[a + b * slope, c], [slope, 0]])
        mean = matrix @ mean + np.array([b, 1]) * offset
        covariance = matrix @ covariance @ matrix.T + np.diag([noise**2, 0])
    return mean[0], covariance[0, 0]


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("steps", [10, 50])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_ddim_matches_diffusers(diffusion, diffusers, spacing, steps, clip):
    name = f"ddim_{spacing}_{steps}"
    plan = make_steps(diffusion, "ddim", steps, spacing)
    np.testing.assert_array_equal(plan.timesteps, diffusers[f"{name}_timesteps"])
    x_T, mu, sigma = (diffusers[key] for key in ("x_T", "mu", "sigma"))
    expected = diffusers[name if clip else f"{name}_unclipped"]
    found = sample(diffusion, plan, x_T, mu, sigma, clip)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("steps", [10, 20])
def test_dpmpp_matches_diffusers(diffusion, diffusers, steps):
    name = f"dpmpp2m_trailing_{steps}"
    plan = make_steps(diffusion, "dpmpp", steps)
    np.testing.assert_array_equal(plan.timesteps, diffusers[f"{name}_timesteps"])
    x_T, mu, sigma = (diffusers[key] for key in ("x_T", "mu", "sigma"))
    found = sample(diffusion, plan, x_T, mu, sigma, clip=False)
    np.testing.assert_allclose(found, diffusers[name], atol=1e-4)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_ddpm_of_all_timesteps_is_the_posterior(schedule):
    diffusion = GaussianDiffusion(timesteps=100, schedule=schedule)
    plan = make_steps(diffusion)
    np.testing.assert_array_equal(plan.timesteps, np.arange(100)[::-1])
    for column, table in (
        (plan.a, diffusion.posterior_mean_coef2),
        (plan.b, diffusion.posterior_mean_coef1),
        (plan.sigma, np.sqrt(diffusion.posterior_variance)),
    ):
        assert column.dtype == np.float32
        np.testing.assert_allclose(column, table[::-1], rtol=1e-5, atol=1e-7)
    assert (plan.c == 0).all()


def test_ddpm_variance_beta_is_beta_but_for_the_last_step(diffusion):
    plan = make_steps(diffusion, "ddpm", variance="beta")
    np.testing.assert_allclose(
        plan.sigma[:-1], np.sqrt(diffusion.betas[:0:-1]), rtol=1e-5
    )
    assert plan.sigma[-1] == 0
    posterior = make_steps(diffusion, "ddpm")
    np.testing.assert_array_equal(plan.a, posterior.a)
    np.testing.assert_array_equal(plan.b, posterior.b)


@pytest.mark.parametrize("steps", [50, 1000])
def test_ddim_with_eta_1_is_ddpm(diffusion, steps):
    ddim = make_steps(diffusion, "ddim", steps, eta=1.0)
    ddpm = make_steps(diffusion, "ddpm", steps)
    for column in ("timesteps", "a", "b", "c", "sigma"):
        np.testing.assert_allclose(
            getattr(ddim, column), getattr(ddpm, column), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize(
    "sampler, steps, options, tolerance",
    [
        ("ddpm", 1000, {}, 0.02),
        ("ddpm", 1000, {"variance": "beta"}, 0.005),
        ("ddpm", 250, {}, 0.06),
        ("ddim", 1000, {}, 0.01),
        ("ddim", 1000, {"eta": 0.5}, 0.015),
        ("dpmpp", 1000, {"eta": 0.5}, 0.015),
        ("dpmpp", 1000, {"eta": 1.0}, 0.015),
        ("ddim", 200, {}, 0.03),
        ("dpmpp", 20, {}, 0.09),
        ("dpmpp", 80, {}, 0.01),
    ],
)
def test_exact_answer_leads_to_the_data(diffusion, sampler, steps, options, tolerance):
    """Tolerances are the samplers' own errors in so many steps, which fall with them.

    The mean misses mu by the share of it left in x_T, 0.3 sqrt(abar), at most.
    """
    plan = make_steps(diffusion, sampler, steps, **options)
    mean, variance = exact_mean_and_variance(diffusion, plan, mu=0.3, sigma=0.5)
    np.testing.assert_allclose(mean, 0.3, atol=0.3 * 4.0e-5**0.5)
    np.testing.assert_allclose(variance, 0.5**2, rtol=tolerance)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_every_spacing_leads_to_the_data(diffusion, sampler, spacing):
    plan = make_steps(diffusion, sampler, 250, spacing)
    mean, variance = exact_mean_and_variance(diffusion, plan)
    # The mean keeps a share of x_T's where a spacing does not begin at the last step.
    np.testing.assert_allclose(
        mean, 0.3, atol=0.3 * diffusion.alphas_cumprod[-5] ** 0.5
    )
    np.testing.assert_allclose(variance, 0.25, rtol=0.06)
    # In the fewest steps allowed it may be of far too little variance, but not noise.
    plan = make_steps(diffusion, sampler, SPACINGS[spacing], spacing)
    assert exact_mean_and_variance(diffusion, plan)[1] < 0.25 * 1.5


def test_dpmpp_with_eta_1_begins_and_ends_as_ddpm(diffusion):
    """At first order, the solver of the stochastic equation is ancestral sampling."""
    dpmpp = make_steps(diffusion, "dpmpp", 50, eta=1.0)
    ddpm = make_steps(diffusion, "ddpm", 50)
    for column in ("a", "b", "c", "sigma"):
        found, wanted = getattr(dpmpp, column), getattr(ddpm, column)
        np.testing.assert_allclose(found[[0, -1]], wanted[[0, -1]], rtol=1e-5)
    np.testing.assert_allclose(dpmpp.sigma, ddpm.sigma, rtol=1e-5)
    assert (dpmpp.c[1:-1] < 0).all()


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_process_of_one_timestep_has_one_step_in_every_spacing(spacing):
    plan = make_steps(GaussianDiffusion(timesteps=1), "ddim", 1, spacing)
    assert (list(plan.timesteps), list(plan.reached)) == ([0], [-1])


def test_errors_fall_as_the_samplers_orders_say(diffusion):
    """Twice the steps: half the error at first order, a quarter at second."""

    def error(sampler, steps):
        plan = make_steps(diffusion, sampler, steps)
        return abs(exact_mean_and_variance(diffusion, plan)[1] - 0.25)

    assert 1.8 < error("ddim", 50) / error("ddim", 100) < 2.1
    assert error("dpmpp", 10) / error("dpmpp", 20) > 3.5
    assert error("dpmpp", 40) < error("ddim", 40) / 10


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("timesteps", [1, 7, 100, 1000])
def test_any_number_of_steps_visits_so_many_timesteps(timesteps, spacing):
    for steps in range(1, timesteps + 1):
        visited, reached = spaced_timesteps(timesteps, steps, spacing)
        assert len(visited) == len(reached) == steps, steps
        assert (np.diff(visited) < 0).all(), steps
        assert 0 <= visited.min() and visited.max() < timesteps, steps
        assert (reached < visited).all() and reached[-1] == -1, steps


def test_spacings_begin_and_end_where_they_say():
    ends = {
        spacing: tuple(spaced_timesteps(1000, 10, spacing)[0][[0, -1]])
        for spacing in SPACINGS
    }
    assert ends == {"trailing": (999, 99), "leading": (900, 0)}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [9, 2, None])
def test_last_step_may_start_where_there_is_noise(diffusion, sampler, steps):
    plan = make_steps(diffusion, sampler, steps, until=0.1)
    defaults = {"ddpm": 900, "ddim": 50, "dpmpp": 20}
    assert len(plan) == (steps or defaults[sampler])
    last = 100 + 900 // len(plan) - 1
    assert tuple(plan.timesteps[[0, -1]]) == (999, last)
    # It ends with the predicted clean image.
    ends = (plan.reached, plan.a, plan.b, plan.c, plan.sigma)
    np.testing.assert_allclose([c[-1] for c in ends], [-1, 0, 1, 0, 0], atol=1e-12)


def test_until_leaves_out_the_last_timesteps(diffusion):
    whole = make_steps(diffusion, "ddpm")
    plan = make_steps(diffusion, "ddpm", until=0.25)
    np.testing.assert_array_equal(plan.timesteps, whole.timesteps[:750])
    for name in ("a", "b", "sigma"):
        found, wanted = getattr(plan, name), getattr(whole, name)
        np.testing.assert_array_equal(found[:-1], wanted[:749])
    late = make_steps(diffusion, "ddpm", until=0.25, strength=0.5)
    np.testing.assert_array_equal(late.timesteps, whole.timesteps[500:750])


@pytest.mark.parametrize(
    "options, keys",
    [
        ({"until": 1.0}, ["until"]),
        ({"until": -0.1}, ["until"]),
        ({"until": 0.5, "steps": 501}, ["steps"]),
        ({"until": 0.5, "strength": 0.5}, ["strength", "until"]),
    ],
    ids=str,
)
def test_until_that_leaves_too_little_is_refused(diffusion, options, keys):
    with pytest.raises(ArgumentError) as error:
        make_steps(diffusion, "ddim", **options)
    assert list(error.value.keys[: len(keys)]) == keys


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_and_two_steps_work(diffusion, sampler, steps):
    plan = make_steps(diffusion, sampler, steps)
    assert len(plan) == steps
    np.testing.assert_array_equal(plan.timesteps, [999, 499][:steps])
    for column in (plan.a, plan.b, plan.c, plan.sigma):
        assert np.isfinite(column).all()
    # The last step leads to the clean image that the network predicts.
    last = [plan.a[-1], plan.b[-1], plan.c[-1], plan.sigma[-1]]
    np.testing.assert_allclose(last, [0, 1, 0, 0], atol=1e-6)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_strength_keeps_the_last_steps(diffusion, sampler):
    whole = make_steps(diffusion, sampler, 10)
    part = make_steps(diffusion, sampler, 10, strength=0.5)
    np.testing.assert_array_equal(part.timesteps, [499, 399, 299, 199, 99])
    for column in dataclasses.fields(whole):
        found, expected = (getattr(plan, column.name) for plan in (part, whole))
        np.testing.assert_array_equal(found, expected[-5:])


def test_dpmpp_of_less_strength_begins_at_first_order(diffusion):
    """There is no step before, whose clean image could be extrapolated from."""
    whole = make_steps(diffusion, "dpmpp", 10)
    part = make_steps(diffusion, "dpmpp", 10, strength=0.5)
    assert part.c[0] == 0 != whole.c[5]
    np.testing.assert_array_equal(part.c[1:], whole.c[6:])
    np.testing.assert_array_equal(part.a, whole.a[5:])


@pytest.mark.parametrize(
    "timesteps, expected",
    [
        (1000, {"ddpm": 1000, "ddim": 50, "dpmpp": 20}),
        (10, {"ddpm": 10, "ddim": 10, "dpmpp": 10}),
    ],
)
def test_default_number_of_steps(timesteps, expected):
    diffusion = GaussianDiffusion(timesteps=timesteps)
    assert {name: len(make_steps(diffusion, name)) for name in SAMPLERS} == expected


@pytest.mark.parametrize(
    "arguments, keys",
    [
        (dict(sampler="euler"), "sampler"),
        (dict(spacing="log"), "spacing"),
        (dict(steps=0), "steps"),
        (dict(steps=1001), "steps"),
        (dict(steps=2.5), "steps"),
        (dict(steps=float("nan")), "steps"),
        (dict(steps=float("inf")), "steps"),
        (dict(steps=1, spacing="leading"), "steps spacing"),
        (dict(sampler="dpmpp", spacing="leading"), "spacing"),
        (dict(spacing="linspace"), "spacing"),
        (dict(steps=999, variance="beta"), "steps"),
        (dict(variance="learned"), "variance"),
        (dict(sampler="ddim", eta=-0.1), "eta"),
        (dict(sampler="ddim", eta=1.1), "eta"),
        (dict(sampler="ddim", variance="posterior"), "variance"),
        (dict(sampler="ddpm", eta=0.5), "eta"),
        (dict(sampler="dpmpp", eta=1.1), "eta"),
        (dict(strength=0.0), "strength"),
        (dict(strength=1.5), "strength"),
        (dict(steps=1, strength=0.5), "strength steps"),
    ],
    ids=str,
)
def test_invalid_arguments_are_named(diffusion, arguments, keys):
    with pytest.raises(ArgumentError) as error:
        make_steps(diffusion, **arguments)
    assert error.value.keys == tuple(keys.split())


def test_message_names_argument_and_value(diffusion):
    with pytest.raises(ArgumentError) as error:
        make_steps(diffusion, "ddim", eta=1.1)
    assert str(error.value) == (
        '`variance` must be "posterior" or "beta", `eta` and `eta_until` in 0 to 1. '
        "Received: eta=1.1"
    )


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp"])
def test_steps_below_eta_until_are_deterministic(diffusion, sampler):
    """Those from there on are as stochastic as without it, also from an image on."""
    for options in ({}, {"strength": 0.6}):
        options |= {"sampler": sampler, "steps": 20, "until": 0.02}
        with_noise = make_steps(diffusion, eta=0.7, **options)
        without = make_steps(diffusion, eta=0.0, **options)
        found = make_steps(diffusion, eta=0.7, eta_until=0.117, **options)
        stochastic = found.timesteps >= 117
        assert found.timesteps[stochastic][-1] == 117  # the share itself counts
        assert 0 < stochastic.sum() < len(found)
        for name in ("timesteps", "reached", "a", "b", "c", "sigma"):
            columns = (getattr(steps, name) for steps in (with_noise, without))
            wanted = np.where(stochastic, *columns)
            np.testing.assert_array_equal(getattr(found, name), wanted)
        assert (found.sigma[stochastic] > 0).all()
        assert not found.sigma[~stochastic].any()


@pytest.mark.parametrize(
    "flags, wanted",
    [
        ({}, {"sampler": "dpmpp", "steps": 7, "eta": 0.5}),
        ({"steps": 9, "eta": 0.0}, {"sampler": "dpmpp", "steps": 9, "eta": 0.0}),
        ({"sampler": "dpmpp"}, {"sampler": "dpmpp", "steps": 7, "eta": 0.5}),
        ({"sampler": "ddim", "eta": None}, {"sampler": "ddim"}),
        ({"sampler": "ddpm", "steps": 3}, {"sampler": "ddpm", "steps": 3}),
    ],
    ids=str,
)
def test_flags_come_before_the_configuration(diffusion, flags, wanted):
    """Of which steps and eta count for its own sampler only."""
    config = Config(sampler="dpmpp", sample_steps=7, sample_eta=0.5)
    options, plan = choose_steps(config, **flags)
    assert options == wanted
    columns = dataclasses.astuple(make_steps(diffusion, **wanted))
    for found, column in zip(dataclasses.astuple(plan), columns, strict=True):
        np.testing.assert_array_equal(found, column)
    config = Config(sampler="dpmpp", sample_eta=0.5, sample_eta_until=0.2)
    wanted = {"sampler": "dpmpp", "steps": None, "eta": 0.5, "eta_until": 0.2}
    assert choose_steps(config)[0] == wanted
    with pytest.raises(InputError, match="^--eta-until: "):
        choose_steps(config, eta_until=1.5)
    config = Config(sampler="ddpm", sample_eta=0.5, sample_until=0.1)
    wanted = {"sampler": "ddpm", "steps": None, "until": 0.1}
    assert choose_steps(config)[0] == wanted
    # It is a matter of the network, not of the sampler.
    assert choose_steps(config, sampler="ddim")[0] == {"sampler": "ddim", "until": 0.1}
    assert len(choose_steps(config, until=0.0)[1]) == 1000


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_ddim_begins_where_nothing_is_left_of_the_image(schedule):
    """With eta 1 and abar 0 no weight is left for the noise, but for rounding."""
    diffusion = GaussianDiffusion(
        schedule=schedule, prediction_type="sample", rescale_zero_terminal_snr=True
    )
    for steps in range(2, 40):
        plan = make_steps(diffusion, "ddim", steps, eta=1.0)
        assert np.isfinite([plan.a, plan.b, plan.sigma]).all()
        assert abs(plan.a[0]) < 1e-6


def test_flags_follow_the_configured_noise_levels():
    """Without Keras, the abar of the `GaussianDiffusion` that training uses."""
    config = Config(
        prediction_type="v_prediction",
        schedule="cosine",
        total_timesteps=60,
        schedule_shift=0.5,
        rescale_zero_terminal_snr=True,
    )
    _, plan = choose_steps(config, sampler="ddim", steps=7)
    diffusion = GaussianDiffusion(**config.diffusion_arguments())
    wanted = make_steps(diffusion, "ddim", 7)
    for name in ("timesteps", "a", "b", "c", "sigma"):
        np.testing.assert_array_equal(getattr(plan, name), getattr(wanted, name))
