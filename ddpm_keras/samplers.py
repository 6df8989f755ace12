"""Samplers as tables of numbers, one row per step, after their papers.

Notation:

    abar, abar_prev   share of the clean image's variance left at the timestep that a
                      step starts from, and at the one that it leads to (1 at the end)
    x_t, x_0          the noisy image; the clean image that the network predicts from it
    eps               the noise in x_t: (x_t - sqrt(abar) x_0) / sqrt(1 - abar)
    sigma, z          standard deviation of the added noise; standard normal noise

Every step of every sampler has the form

    x_prev = a x_t + b x_0 + c x_0_before + sigma z

where x_0_before is the x_0 of the previous step. A sampler is a function that returns
the columns a, b, c and sigma in float64; its record in `SAMPLERS` lists its options.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from ddpm_keras.errors import ArgumentError, InputError, require
from ddpm_keras.schedules import posterior, signal_to_noise

# The fewest steps of each spacing. One leading step would start at timestep 0, where
# the network takes the noise for a clean image.
SPACINGS = {"trailing": 1, "leading": 2}
VARIANCES = ("posterior", "beta")
# Keras on TensorFlow takes seeds modulo the next number: higher ones would repeat.
MAX_SEED = 2**31 - 3


@dataclasses.dataclass(frozen=True)
class Steps:
    """The steps of a sampler, first to last: columns of shape `(steps,)`.

    `timesteps` are those that steps start from and `reached` those that they lead to,
    -1 being the clean image. The others weight x_t, x_0, x_0_before and z, as stated at
    the top of this module.
    """

    timesteps: np.ndarray
    reached: np.ndarray
    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    sigma: np.ndarray

    def __len__(self):
        return len(self.timesteps)


def ddpm(abar, abar_prev, variance="posterior"):
    """Ancestral sampling, Ho et al. 2020, algorithm 2 and section 3.2.

    x_prev is drawn from q(x_prev | x_t, x_0), equations 6 and 7, with the variance of
    the posterior ("fixed small") or beta ("fixed large").
    """
    beta = 1.0 - abar / abar_prev
    b, a, posterior_variance = posterior(beta, abar, abar_prev)
    sigma = np.sqrt(posterior_variance if variance == "posterior" else beta)
    sigma[abar_prev == 1.0] = 0.0  # algorithm 2, line 3: no noise in the last step
    return a, b, np.zeros_like(a), sigma


def ddim(abar, abar_prev, eta=0.0):
    """DDIM, Song et al. 2021, equations 12 and 16 (https://arxiv.org/abs/2010.02502).

    x_prev = sqrt(abar_prev) x_0 + sqrt(1 - abar_prev - sigma^2) eps + sigma z;
    `eta` scales sigma: 0 is deterministic, 1 is ancestral sampling.
    """
    sigma = eta * np.sqrt((1 - abar_prev) / (1 - abar) * (1 - abar / abar_prev))
    # 0 where eta is 1 and abar 0, but for rounding.
    eps_weight = np.sqrt(np.maximum(1.0 - abar_prev - sigma**2, 0.0))
    a = eps_weight / np.sqrt(1.0 - abar)
    b = np.sqrt(abar_prev) - a * np.sqrt(abar)
    return a, b, np.zeros_like(a), sigma


def dpmpp(abar, abar_prev, eta=0.0):
    """DPM-Solver++(2M), Lu et al. 2022, algorithm 2 (https://arxiv.org/abs/2211.01095).

    With lambda = log(sqrt(abar) / sqrt(1 - abar)), h the step in lambda and r the ratio
    of the previous step to this one, D = (1 + 1/2r) x_0 - 1/2r x_0_before and
    x_prev = sqrt((1 - abar_prev) / (1 - abar)) x_t - sqrt(abar_prev) (e^-h - 1) D.
    The first step has no x_0_before, and in the last h is infinite: both use D = x_0.

    `eta` 1 is the paper's SDE-DPM-Solver++(2M), fractions lie between: h becomes
    (1 + eta) h in the weight of D, the weight of x_t is multiplied by e^(-eta h), and
    noise of variance (1 - abar_prev) (1 - e^(-2 eta h)) is added.
    """
    with np.errstate(divide="ignore"):  # -inf where the first step is pure noise
        log_snr = 0.5 * np.log(signal_to_noise(abar))
    a = np.sqrt((1.0 - abar_prev) / (1.0 - abar))
    shrink = a * np.sqrt(abar / abar_prev)  # e^-h; 0 in the last step
    weight = np.sqrt(abar_prev) * (1.0 - shrink ** (1.0 + eta))
    extrapolation = np.zeros_like(abar)
    if len(abar) > 2:
        h = np.diff(log_snr)  # h[i] leads from step i to step i + 1
        extrapolation[1:-1] = h[1:] / (2.0 * h[:-1])
    return (
        a * shrink**eta,
        weight * (1 + extrapolation),
        -weight * extrapolation,
        np.sqrt((1.0 - abar_prev) * (1.0 - shrink ** (2.0 * eta))),
    )


@dataclasses.dataclass(frozen=True)
class Sampler:
    """A sampler's record.

    Attributes:
        columns: Function of abar, abar_prev and the options that returns the columns a,
            b, c and sigma. `eta` may be one number for each step.
        options: For each option's name, a function that says whether a value is valid.
        default_steps: Default number of steps; None: every timestep.
        spacings: The spacings of `SPACINGS` that it takes.
    """

    columns: Callable
    options: Mapping[str, Callable]
    default_steps: int | None
    spacings: tuple[str, ...] = tuple(SPACINGS)


def _is_share(value):
    return 0.0 <= value <= 1.0


STOCHASTIC = {"eta": _is_share, "eta_until": _is_share}
SAMPLERS = {
    "ddpm": Sampler(ddpm, {"variance": VARIANCES.__contains__}, default_steps=None),
    "ddim": Sampler(ddim, STOCHASTIC, default_steps=50),
    # A leading step ends with a jump in log-SNR far larger than the one before, which
    # the extrapolation overshoots: samples had twice the data's variance.
    "dpmpp": Sampler(dpmpp, STOCHASTIC, default_steps=20, spacings=("trailing",)),
}


def default_steps_text():
    """Describe the samplers' default steps, for the help."""
    return ", ".join(
        f"{sampler.default_steps or 'all timesteps'} for {name}"
        for name, sampler in SAMPLERS.items()
    )


def spaced_timesteps(timesteps, steps, spacing="trailing", first=0):
    """Spread steps over the timesteps (Lin et al. 2023, table 2).

    Args:
        timesteps: Number of timesteps that the network was trained on.
        steps: Number of steps, 1 to `timesteps - first`.
        spacing: `"trailing"` starts at the last timestep, pure noise; `"leading"` ends
            at the first one.
        first: The lowest timestep to spread them over.

    Returns:
        Two descending int arrays of shape `(steps,)`: the timestep that each step
        starts from, and the one that it leads to, -1 being the clean image.

    Reference:
        - [Lin et al., 2023](https://arxiv.org/abs/2305.08891)
    """
    if spacing == "leading":
        visited = first + np.arange(steps)[::-1] * ((timesteps - first) // steps)
    else:
        visited = np.round(timesteps - np.arange(steps) * (timesteps - first) / steps)
        visited = visited.astype(int) - 1
    return visited, np.append(visited[1:], -1)


def make_steps(
    diffusion,
    sampler="ddpm",
    steps=None,
    spacing="trailing",
    strength=1.0,
    until=0.0,
    **options,
):
    """Compute the steps of a sampler over a trained diffusion process.

    Args:
        diffusion: The `GaussianDiffusion` that the network was trained with.
        sampler: A name in `SAMPLERS`: `"ddpm"`, `"ddim"` or `"dpmpp"`.
        steps: Number of network calls, 1 to `diffusion.timesteps`; 2 or more with the
            spacing leading. Default: all timesteps for ddpm, 50 for ddim, 20 for dpmpp,
            but at most all timesteps.
        spacing: See `spaced_timesteps`; dpmpp takes `"trailing"` only.
        strength: Share of the process to reverse, above 0 and up to 1: only the steps
            that start below `strength * timesteps` are kept, for images diffused to
            that timestep.
        until: Share of the process, at least 0 and below 1, that the last step skips:
            it starts above `until * timesteps`, and ends with the clean image that is
            predicted there. For networks that fail where there is little noise.
        **options: `variance` ("posterior" or "beta") for ddpm. For ddim and dpmpp
            `eta` (0 to 1), and `eta_until`, the share of the process (0 to 1) down to
            which it applies: steps that start below it are deterministic.

    Returns:
        A `Steps`.

    Raises:
        ArgumentError: When an argument is invalid.

    Reference:
        - [Song et al., 2021](https://arxiv.org/abs/2011.13456), appendix C: the reverse
          process ends at a time above 0, and a step without noise follows
        - [Karras et al., 2022](https://arxiv.org/abs/2206.00364), section 4: noise that
          is added where little is left costs detail (`eta_until`; there S_tmin)
    """
    abar = diffusion.alphas_cumprod_float64
    return _steps_over(abar, sampler, steps, spacing, strength, until, **options)


def _steps_over(
    abar,
    sampler="ddpm",
    steps=None,
    spacing="trailing",
    strength=1.0,
    until=0.0,
    **options,
):
    timesteps = len(abar)
    names = ", ".join(SAMPLERS)
    require(sampler in SAMPLERS, f"`sampler` must be one of {names}.", sampler=sampler)
    require(0.0 <= until < 1.0, "`until` must be at least 0 and below 1.", until=until)
    first = first_timestep(timesteps, until)
    most = timesteps - first
    if steps is None:
        steps = min(SAMPLERS[sampler].default_steps or most, most)
    _check_steps(most, sampler, steps, spacing, strength)
    message = "`strength` must be above `until`: no step is left between them."
    require(until < strength, message, strength=strength, until=until)
    _check_options(most, sampler, steps, options)
    visited, reached = spaced_timesteps(timesteps, int(steps), spacing, first)
    kept = visited < strength * timesteps
    require(
        kept.any(),
        "`strength` leaves no step to take: use more of it, or more steps.",
        strength=strength,
        steps=steps,
    )
    visited, reached = visited[kept], reached[kept]
    if "eta_until" in options:
        last = first_timestep(timesteps, options.pop("eta_until"))
        options["eta"] = np.where(visited >= last, options.get("eta", 0.0), 0.0)
    table = np.append(abar, 1.0)  # [-1] is the clean image
    columns = SAMPLERS[sampler].columns(table[visited], table[reached], **options)
    return Steps(
        visited.astype("int32"),
        reached.astype("int32"),
        *(column.astype("float32") for column in columns),
    )


def first_timestep(timesteps, until):
    """Return the lowest timestep that steps may start from, of a share of them."""
    return int(until * timesteps)


def configured_options(config, sampler=None):
    """Return the arguments of `make_steps` in a `Config`.

    Args:
        config: The `Config`.
        sampler: The sampler, if not its own, to which its steps and eta do not apply.
    """
    options = {"until": config.sample_until} if config.sample_until else {}
    if sampler in (None, config.sampler):
        options |= {"sampler": config.sampler, "steps": config.sample_steps}
        if "eta" in SAMPLERS[config.sampler].options:
            options["eta"] = config.sample_eta
            if config.sample_eta_until:
                options["eta_until"] = config.sample_eta_until
    return options


def choose_steps(config, **flags):
    """Make the steps that flags and a configuration ask for; flags take precedence.

    Args:
        config: A `Config`; see `configured_options` for what applies to which sampler.
        **flags: Arguments of `make_steps`; `None` means not given.

    Returns:
        A dict of the arguments passed to `make_steps`, and the `Steps`.

    Raises:
        InputError: When an argument is invalid.
    """
    options = {name: value for name, value in flags.items() if value is not None}
    options = configured_options(config, options.get("sampler")) | options
    try:
        return options, _steps_over(config.abar(), **options)
    except ArgumentError as error:
        flag = error.keys[0].replace("_", "-")
        raise InputError(f"--{flag}: {error}") from error


def _check_steps(timesteps, sampler, steps, spacing, strength):
    names = ", ".join(SPACINGS)
    require(spacing in SPACINGS, f"`spacing` must be one of {names}.", spacing=spacing)
    require(
        1 <= steps <= timesteps and int(steps) == steps,
        f"`steps` must be a whole number from 1 to {timesteps}, the timesteps of the "
        "training from `until` on.",
        steps=steps,
    )
    require(
        steps >= min(SPACINGS[spacing], timesteps),
        f'spacing="{spacing}" needs {SPACINGS[spacing]} steps or more.',
        steps=steps,
        spacing=spacing,
    )
    require(
        spacing in SAMPLERS[sampler].spacings,
        f'sampler="{sampler}" needs spacing="trailing": leading ends with a step too '
        "long for its extrapolation.",
        spacing=spacing,
    )
    message = "`strength` must be above 0 and at most 1."
    require(0.0 < strength <= 1.0, message, strength=strength)


def _check_options(timesteps, sampler, steps, options):
    allowed = SAMPLERS[sampler].options
    for option, value in options.items():
        given = {option: value}
        message = f"The sampler {sampler!r} does not take `{option}`."
        require(option in allowed, message, **given)
        message = '`variance` must be "posterior" or "beta", `eta` and `eta_until` in '
        message += "0 to 1."
        require(allowed[option](value), message, **given)
    require(
        options.get("variance") != "beta" or steps >= timesteps,
        'variance="beta" is known to fail with fewer steps than the '
        f"{timesteps} timesteps of the training: use all of them, or the "
        'variance "posterior".',
        steps=steps,
    )
