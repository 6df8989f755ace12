"""Noise schedules: their betas, and the posterior of their steps.

NumPy in float64, so that configuration and samplers need no Keras. As in
`diffusion.py`, beta is the variance that a step adds, and abar and abar_prev are the
share of the clean image's variance left after and before it.
"""

import numpy as np

from ddpm_keras.errors import require

# What a network may output; `GaussianDiffusion.target` has their formulas.
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")

# `beta_start` and `beta_end` are stated for this many steps.
REFERENCE_TIMESTEPS = 1000


def linear_betas(timesteps, beta_start, beta_end):
    """Variances that grow linearly over 1,000 steps (Ho et al. 2020, section 4).

    For another number of steps, abar is interpolated at equal distances on the
    1,000-step curve, so that the process passes through the same noise levels.
    """
    betas = np.linspace(beta_start, beta_end, REFERENCE_TIMESTEPS, dtype=np.float64)
    if timesteps == REFERENCE_TIMESTEPS:
        return betas
    log_abar = np.concatenate([[0.0], np.cumsum(np.log1p(-betas))])
    reference_time = np.linspace(0.0, 1.0, REFERENCE_TIMESTEPS + 1)
    time = np.linspace(0.0, 1.0, timesteps + 1)
    return -np.expm1(np.diff(np.interp(time, reference_time, log_abar)))


def cosine_betas(timesteps, beta_start=None, beta_end=None):
    """Nichol and Dhariwal 2021, equation 17 (https://arxiv.org/abs/2102.09672).

    abar follows a squared cosine; betas are capped at 0.999. `beta_start` and
    `beta_end` are ignored.
    """
    time = np.linspace(0.0, 1.0, timesteps + 1, dtype=np.float64)
    abar = np.cos((time + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1.0 - abar[1:] / abar[:-1], 0.999)


SCHEDULES = {"linear": linear_betas, "cosine": cosine_betas}


def noise_levels(
    schedule, timesteps, beta_start, beta_end, shift=1.0, zero_terminal_snr=False
):
    """Return betas and abar of a process, two float64 arrays `(timesteps,)`.

    `shift` and `zero_terminal_snr` are those of `shift_snr` and `end_in_pure_noise`.
    """
    betas = SCHEDULES[schedule](timesteps, beta_start, beta_end)
    abar = np.cumprod(1.0 - betas)
    if shift != 1.0:
        abar = shift_snr(abar, shift)
    if zero_terminal_snr:
        abar = end_in_pure_noise(abar)
    if shift != 1.0 or zero_terminal_snr:
        betas = 1.0 - abar / np.append(1.0, abar[:-1])
    return betas, abar


def check_process(
    timesteps,
    beta_start,
    beta_end,
    clip_min,
    clip_max,
    schedule,
    prediction_type,
    schedule_shift,
    rescale_zero_terminal_snr,
):
    """Raise `ArgumentError` when these are no arguments of `GaussianDiffusion`."""
    names = sorted(SCHEDULES)
    require(schedule in names, f"schedule must be one of {names}.", schedule=schedule)
    names = sorted(PREDICTION_TYPES)
    require(
        prediction_type in names,
        f"prediction_type must be one of {names}.",
        prediction_type=prediction_type,
    )
    require(
        int(timesteps) == timesteps and timesteps >= 1,
        "timesteps must be a whole number, 1 or more.",
        timesteps=timesteps,
    )
    require(
        0.0 < beta_start <= beta_end < 1.0,
        "beta_start must be above 0 and not above beta_end, and beta_end below 1.",
        beta_start=beta_start,
        beta_end=beta_end,
    )
    require(
        clip_min < clip_max,
        "clip_min must be below clip_max.",
        clip_min=clip_min,
        clip_max=clip_max,
    )
    require(
        schedule_shift > 0,
        "schedule_shift must be above 0.",
        schedule_shift=schedule_shift,
    )
    require(
        not rescale_zero_terminal_snr or prediction_type != "epsilon",
        "rescale_zero_terminal_snr needs prediction_type v_prediction or sample: pure "
        "noise cannot tell the image from its noise.",
        rescale_zero_terminal_snr=rescale_zero_terminal_snr,
        prediction_type=prediction_type,
    )
    require(
        not rescale_zero_terminal_snr or timesteps >= 2,
        "rescale_zero_terminal_snr needs 2 timesteps or more.",
        rescale_zero_terminal_snr=rescale_zero_terminal_snr,
    )
    process = beta_start, beta_end, schedule_shift, rescale_zero_terminal_snr
    with np.errstate(all="ignore"):
        betas, abar = noise_levels(schedule, int(timesteps), *process)
    require(
        np.isfinite(betas).all() and abar[0] < 1.0,
        "schedule_shift or beta_start is so small or large that timesteps are without "
        "any noise, or without any image.",
        schedule_shift=schedule_shift,
        beta_start=beta_start,
    )
    require(
        prediction_type != "epsilon" or abar[-1] > 1e-76,  # float32's 1 / sqrt(abar)
        "the last timestep is pure noise, which cannot tell the image from its noise: "
        "lower beta_end, or take prediction_type v_prediction or sample.",
        beta_end=beta_end,
        prediction_type=prediction_type,
    )


def shift_snr(abar, shift):
    """Multiply the signal-to-noise ratio of every timestep by `shift` squared.

    Hoogeboom et al. 2023, equations 9 and 10 (https://arxiv.org/abs/2301.11093). Noise
    of independent pixels destroys less of a larger image, since neighbours average it
    out: `shift` is the side that the schedule was made for over the side of the images.
    """
    signal = abar * np.float64(shift) ** 2
    return signal / (signal + 1.0 - abar)


def end_in_pure_noise(abar):
    """Bring the last timestep's signal to zero and leave the first one as it is.

    Lin et al. 2023, algorithm 1 (https://arxiv.org/abs/2305.08891): shift and scale the
    square roots of abar. With one timestep there would be no signal at all.
    """
    roots = np.sqrt(abar)
    return np.square((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1]))


def signal_to_noise(abar):
    """Return the signal-to-noise ratio abar / (1 - abar)."""
    return abar / (1.0 - abar)


def posterior(beta, abar, abar_prev):
    """Weights of x_0 and of x_t in the mean of q(x_prev | x_t, x_0), and its variance.

    Ho et al. 2020, equations 6 and 7 (https://arxiv.org/abs/2006.11239).

    Arguments and results are float64 arrays of shape `(steps,)`.
    """
    start_weight = beta * np.sqrt(abar_prev) / (1.0 - abar)
    noisy_weight = (1.0 - abar_prev) * np.sqrt(1.0 - beta) / (1.0 - abar)
    return start_weight, noisy_weight, beta * (1.0 - abar_prev) / (1.0 - abar)
