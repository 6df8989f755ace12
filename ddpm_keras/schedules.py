"""Noise schedules: their betas, and the posterior of their steps.

NumPy in float64, so that configuration and samplers need no Keras. As in
`diffusion.py`, beta is the variance that a step adds, and abar and abar_prev are the
share of the clean image's variance left after and before it.
"""

import numpy as np

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


def noise_levels(schedule, timesteps, beta_start, beta_end):
    """Return betas and abar of a process, two float64 arrays `(timesteps,)`."""
    betas = SCHEDULES[schedule](timesteps, beta_start, beta_end)
    return betas, np.cumprod(1.0 - betas)


def posterior(beta, abar, abar_prev):
    """Weights of x_0 and of x_t in the mean of q(x_prev | x_t, x_0), and its variance.

    Ho et al. 2020, equations 6 and 7 (https://arxiv.org/abs/2006.11239).

    Arguments and results are float64 arrays of shape `(steps,)`.
    """
    start_weight = beta * np.sqrt(abar_prev) / (1.0 - abar)
    noisy_weight = (1.0 - abar_prev) * np.sqrt(1.0 - beta) / (1.0 - abar)
    return start_weight, noisy_weight, beta * (1.0 - abar_prev) / (1.0 - abar)
