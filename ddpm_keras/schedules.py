"""Noise schedules as numbers: betas by name, and the posterior of their steps.

Plain NumPy in float64, so that configurations and samplers need no Keras. Notation, as
in `diffusion.py`: beta is the variance that a step adds, abar the share of the clean
image's variance that is left after it, abar_prev the share before it.
"""

import numpy as np

# The number of steps for which `beta_start` and `beta_end` are stated.
REFERENCE_TIMESTEPS = 1000


def linear_betas(timesteps, beta_start, beta_end):
    """Ho et al. 2020, section 4: variances that grow linearly over 1,000 steps.

    Another number of steps passes through the same noise levels, from almost none to
    almost only noise, in shorter or longer steps: abar is read off the 1,000-step
    curve at equal distances.
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

    abar follows a squared cosine; betas are capped at 0.999 near the end. The two
    limits of the linear schedule are not used.
    """
    time = np.linspace(0.0, 1.0, timesteps + 1, dtype=np.float64)
    abar = np.cos((time + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1.0 - abar[1:] / abar[:-1], 0.999)


SCHEDULES = {"linear": linear_betas, "cosine": cosine_betas}


def posterior(beta, abar, abar_prev):
    """Weights of x_0 and of x_t in the mean of q(x_prev | x_t, x_0), and its variance.

    Ho et al. 2020, equations 6 and 7 (https://arxiv.org/abs/2006.11239).

    Args:
        beta: Variances of the steps from x_prev to x_t, shape `(steps,)`.
        abar: Share of x_0's variance left in x_t, of the same shape.
        abar_prev: Share left in x_prev.

    Returns:
        Three float64 arrays of that shape.
    """
    start_weight = beta * np.sqrt(abar_prev) / (1.0 - abar)
    noisy_weight = (1.0 - abar_prev) * np.sqrt(1.0 - beta) / (1.0 - abar)
    return start_weight, noisy_weight, beta * (1.0 - abar_prev) / (1.0 - abar)
