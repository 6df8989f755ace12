"""Samplers: ways from noise to an image, each one the steps of its paper.

Notation:

    abar, abar_prev   share of the clean image's variance left at the timestep that a
                      step starts from, and at the one that it leads to (1 at the end)
    x_t, x_0          the noisy image; the clean image that the network predicts in it
    eps               the noise in x_t: (x_t - sqrt(abar) x_0) / sqrt(1 - abar)
    sigma, z          standard deviation of the noise that a step adds; standard normal

Every step of every sampler here has the form

    x_prev = a x_t + b x_0 + c x_0_before + sigma z

where x_0_before is the x_0 that the step before predicted. A sampler is a function that
returns the four columns of these numbers, computed in float64, one row per step; its
record in `SAMPLERS` says which options it takes.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from ddpm_keras.errors import ArgumentError, InputError
from ddpm_keras.schedules import posterior

# The fewest steps of each spacing. With one leading step, it would start at timestep 0
# from an image that is mostly noise, which the network takes for a clean one.
SPACINGS = {"trailing": 1, "leading": 2}
VARIANCES = ("posterior", "beta")


@dataclasses.dataclass(frozen=True)
class Steps:
    """The numbers of a sampler's steps, first to last; all of shape `(steps,)`.

    `timesteps` are those the steps start from, `reached` those they lead to, where -1
    stands for the clean image. The other columns weight x_t, x_0, x_0_before and z, as
    the module's first lines say.
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

    x_prev is drawn from q(x_prev | x_t, x_0), equations 6 and 7. Its variance is the
    posterior's ("fixed small"), or beta itself ("fixed large").
    """
    beta = 1.0 - abar / abar_prev
    b, a, posterior_variance = posterior(beta, abar, abar_prev)
    sigma = np.sqrt(posterior_variance if variance == "posterior" else beta)
    sigma[abar_prev == 1.0] = 0.0  # algorithm 2, line 3: no noise in the last step
    return a, b, np.zeros_like(a), sigma


def ddim(abar, abar_prev, eta=0.0):
    """Song et al. 2021, equations 12 and 16 (https://arxiv.org/abs/2010.02502).

    x_prev = sqrt(abar_prev) x_0 + sqrt(1 - abar_prev - sigma^2) eps + sigma z;
    `eta` scales sigma: 0 is deterministic, 1 is ancestral sampling.
    """
    sigma = eta * np.sqrt((1 - abar_prev) / (1 - abar) * (1 - abar / abar_prev))
    eps_weight = np.sqrt(1.0 - abar_prev - sigma**2)
    a = eps_weight / np.sqrt(1.0 - abar)
    b = np.sqrt(abar_prev) - a * np.sqrt(abar)
    return a, b, np.zeros_like(a), sigma


def dpmpp(abar, abar_prev, eta=0.0):
    """DPM-Solver++(2M), Lu et al. 2022, algorithm 2 (https://arxiv.org/abs/2211.01095).

    With lambda = log(sqrt(abar) / sqrt(1 - abar)), h the step in lambda and r the ratio
    of the step before to this one, D = (1 + 1/2r) x_0 - 1/2r x_0_before and
    x_prev = sqrt((1 - abar_prev) / (1 - abar)) x_t - sqrt(abar_prev) (e^-h - 1) D.
    The first step has no x_0_before and the last one ends at sigma 0, where h is
    infinite: both use D = x_0.

    `eta` 1 solves the stochastic equation at the same order, the paper's
    SDE-DPM-Solver++(2M), and fractions lie between: h becomes (1 + eta) h in the weight
    of D, the share of x_t shrinks by e^(-eta h), and noise of variance
    (1 - abar_prev) (1 - e^(-2 eta h)) makes up for it.
    """
    log_snr = 0.5 * np.log(abar / (1.0 - abar))
    a = np.sqrt((1.0 - abar_prev) / (1.0 - abar))
    # e^-h, finite at the end too, where it is 0.
    shrink = a * np.sqrt(abar / abar_prev)
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
    """What the package knows of a sampler.

    Attributes:
        columns: Function of abar, abar_prev and the options to the columns a, b, c and
            sigma.
        options: Whether a value is possible, by the option's name.
        default_steps: Steps where none are asked for; None: every timestep.
        spacings: The spacings that it takes, of `SPACINGS`.
    """

    columns: Callable
    options: Mapping[str, Callable]
    default_steps: int | None
    spacings: tuple[str, ...] = tuple(SPACINGS)


def _is_share(value):
    return 0.0 <= value <= 1.0


SAMPLERS = {
    "ddpm": Sampler(ddpm, {"variance": VARIANCES.__contains__}, default_steps=None),
    "ddim": Sampler(ddim, {"eta": _is_share}, default_steps=50),
    # Below timestep 1 the log-SNR rises many times as far as in the step before, and
    # the extrapolation overshoots: leading steps gave twice the data's variance.
    "dpmpp": Sampler(
        dpmpp, {"eta": _is_share}, default_steps=20, spacings=("trailing",)
    ),
}


def default_steps_text():
    """List the samplers' default steps in words, for the help."""
    return ", ".join(
        f"{sampler.default_steps or 'all timesteps'} for {name}"
        for name, sampler in SAMPLERS.items()
    )


def spaced_timesteps(timesteps, steps, spacing="trailing"):
    """The timesteps that `steps` steps visit, and the one each of them leads to.

    Args:
        timesteps: Number of timesteps the network was trained on.
        steps: Number of steps to take, 1 to `timesteps`.
        spacing: `"trailing"` starts at the last timestep, pure noise; `"leading"` ends
            at timestep 0. See Lin et al. 2023, table 2
            (https://arxiv.org/abs/2305.08891).

    Returns:
        Two int arrays of shape `(steps,)`, descending; -1 stands for the clean image.
    """
    if spacing == "leading":
        visited = np.arange(steps)[::-1] * (timesteps // steps)
    else:
        visited = np.round(timesteps - np.arange(steps) * timesteps / steps)
        visited = visited.astype(int) - 1
    return visited, np.append(visited[1:], -1)


def make_steps(
    diffusion,
    sampler="ddpm",
    steps=None,
    spacing="trailing",
    strength=1.0,
    **options,
):
    """Compute the steps of a sampler over a trained diffusion process.

    Args:
        diffusion: The `GaussianDiffusion` that the network was trained with.
        sampler: A name in `SAMPLERS`: `"ddpm"`, `"ddim"` or `"dpmpp"`.
        steps: Number of network evaluations, 1 to `diffusion.timesteps`; 2 or more for
            the spacing leading. Default: all timesteps for ddpm, 50 for ddim, 20 for
            dpmpp, and never more than there are.
        spacing: How the timesteps are spread, see `spaced_timesteps`; dpmpp takes
            `"trailing"` only.
        strength: Share of the diffusion to run back, above 0 and up to 1: less than 1
            keeps only the steps that start below `strength * timesteps`, for images
            that were diffused so far and no further.
        **options: The sampler's own: `variance` ("posterior" or "beta") for ddpm,
            `eta` (0 to 1) for ddim and dpmpp.

    Returns:
        A `Steps`.

    Raises:
        ArgumentError: When the sampler, the number of steps or an option is not
            possible.
    """
    timesteps = diffusion.timesteps
    if sampler not in SAMPLERS:
        raise ArgumentError(
            f"`sampler` must be one of {', '.join(SAMPLERS)}.", sampler=sampler
        )
    if steps is None:
        steps = min(SAMPLERS[sampler].default_steps or timesteps, timesteps)
    _check_spacing(timesteps, sampler, steps, spacing)
    _check_options(timesteps, sampler, steps, options)
    if not 0.0 < strength <= 1.0:
        raise ArgumentError(
            "`strength` must be above 0 and at most 1.", strength=strength
        )
    visited, reached = spaced_timesteps(timesteps, int(steps), spacing)
    kept = visited < strength * timesteps
    if not kept.any():
        raise ArgumentError(
            "`strength` leaves no step to take: use more of it, or more steps.",
            strength=strength,
            steps=steps,
        )
    visited, reached = visited[kept], reached[kept]
    table = np.append(diffusion.alphas_cumprod_float64, 1.0)  # [-1] is the clean image
    columns = SAMPLERS[sampler].columns(table[visited], table[reached], **options)
    return Steps(
        visited.astype("int32"),
        reached.astype("int32"),
        *(column.astype("float32") for column in columns),
    )


def configured_options(config):
    """The arguments of `make_steps` that a `Config` names."""
    options = {"sampler": config.sampler, "steps": config.sample_steps}
    if "eta" in SAMPLERS[config.sampler].options:
        options["eta"] = config.sample_eta
    return options


def choose_steps(config, diffusion, **flags):
    """The steps of the sampler that flags or else a configuration name.

    Args:
        config: A `Config`; for another sampler than its own, its steps and eta do not
            count.
        diffusion: Its `GaussianDiffusion`.
        **flags: Arguments of `make_steps`; those that are `None` count as not given.

    Returns:
        A dict of the arguments that `make_steps` was given, and its `Steps`.

    Raises:
        InputError: When `make_steps` takes no such arguments.
    """
    options = {name: value for name, value in flags.items() if value is not None}
    if options.get("sampler", config.sampler) == config.sampler:
        options = configured_options(config) | options
    try:
        return options, make_steps(diffusion, **options)
    except ArgumentError as error:
        raise InputError(f"--{error.keys[0]}: {error}") from error


def _check_spacing(timesteps, sampler, steps, spacing):
    """Raise an `ArgumentError` for steps that cannot be spaced so."""
    if spacing not in SPACINGS:
        raise ArgumentError(
            f"`spacing` must be one of {', '.join(SPACINGS)}.", spacing=spacing
        )
    if not 1 <= steps <= timesteps or int(steps) != steps:
        raise ArgumentError(
            f"`steps` must be a whole number from 1 to {timesteps}, the timesteps of "
            "the training.",
            steps=steps,
        )
    if steps < min(SPACINGS[spacing], timesteps):
        raise ArgumentError(
            f'spacing="{spacing}" needs {SPACINGS[spacing]} steps or more.',
            steps=steps,
            spacing=spacing,
        )
    if spacing not in SAMPLERS[sampler].spacings:
        raise ArgumentError(
            f'sampler="{sampler}" needs spacing="trailing": the others end with a step '
            "too long for its extrapolation.",
            spacing=spacing,
        )


def _check_options(timesteps, sampler, steps, options):
    """Raise an `ArgumentError` for options that the sampler does not take."""
    for option, value in options.items():
        if option not in SAMPLERS[sampler].options:
            raise ArgumentError(
                f"The sampler {sampler!r} does not take `{option}`.", **{option: value}
            )
        if not SAMPLERS[sampler].options[option](value):
            raise ArgumentError(
                '`variance` must be "posterior" or "beta", and `eta` in 0 to 1.',
                **{option: value},
            )
    if options.get("variance") == "beta" and steps < timesteps:
        raise ArgumentError(
            'variance="beta" is known to fail with fewer steps than the '
            f"{timesteps} timesteps of the training: use all of them, or the "
            'variance "posterior".',
            steps=steps,
        )
