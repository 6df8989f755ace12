"""The diffusion process as mathematics: tables and Gaussians, no network, no I/O.

Notation, after Ho et al. 2020, "Denoising Diffusion Probabilistic Models"
(https://arxiv.org/abs/2006.11239):

    x_0, x_start     a clean image
    x_t, x           the same image after t + 1 noising steps, t = 0 .. timesteps - 1
    beta_t           the variance added by step t
    alpha_t          1 - beta_t
    abar_t           alpha_0 * ... * alpha_t; the share of x_0's variance left in x_t
    abar_{t-1}       `alphas_cumprod_prev`; 1 at t = 0
"""

import keras
import numpy as np
from keras import ops

from ddpm_keras.schedules import (
    check_process,
    noise_levels,
    posterior,
    signal_to_noise,
)


@keras.saving.register_keras_serializable("ddpm_keras")
class GaussianDiffusion:
    """The forward process q, its posterior, and the reverse process p.

    All tables are computed in float64 and cast to float32 once. Images are float
    tensors of shape `(batch, height, width, channels)`, `t` is an integer tensor of
    shape `(batch,)` with values in `[0, timesteps)`; variances come back with shape
    `(batch, 1, 1, 1)`.

    Args:
        beta_start: Variance of the first step of the linear schedule.
        beta_end: Variance of its last step. Both are stated for 1,000 steps and
            adapted to `timesteps`; the cosine schedule does not use them.
        timesteps: Number of noising steps.
        clip_min: Smallest value of a predicted clean image.
        clip_max: Largest value of a predicted clean image.
        schedule: `"linear"` or `"cosine"`.
        prediction_type: What the network outputs, a name in `PREDICTION_TYPES`:
            `"epsilon"`, the noise; `"v_prediction"`, the velocity; or `"sample"`, the
            clean image.
        schedule_shift: Factor on the square root of the signal-to-noise ratio, above 0;
            see `schedules.shift_snr`.
        rescale_zero_terminal_snr: Whether the last timestep is pure noise; see
            `schedules.end_in_pure_noise`. Not for `"epsilon"`: noise alone says
            nothing about the image. Needs 2 timesteps or more.

    Raises:
        ArgumentError: When an argument is outside its range.

    Reference:
        - [Ho et al., 2020](https://arxiv.org/abs/2006.11239)
        - [Salimans and Ho, 2022](https://arxiv.org/abs/2202.00512), the velocity
    """

    def __init__(
        self,
        beta_start=1e-4,
        beta_end=0.02,
        timesteps=1000,
        clip_min=-1.0,
        clip_max=1.0,
        schedule="linear",
        prediction_type="epsilon",
        schedule_shift=1.0,
        rescale_zero_terminal_snr=False,
    ):
        self.beta_start = beta_start
        self.beta_end = beta_end
        self.timesteps = timesteps
        self.clip_min = clip_min
        self.clip_max = clip_max
        self.schedule = schedule
        self.prediction_type = prediction_type
        self.schedule_shift = schedule_shift
        self.rescale_zero_terminal_snr = rescale_zero_terminal_snr
        # By the class: a subclass may have arguments of its own.
        check_process(**GaussianDiffusion.get_config(self))
        self.timesteps = int(timesteps)

        betas, abar = noise_levels(
            schedule,
            self.timesteps,
            beta_start,
            beta_end,
            schedule_shift,
            rescale_zero_terminal_snr,
        )
        abar_prev = np.append(1.0, abar[:-1])
        start_weight, noisy_weight, variance = posterior(betas, abar, abar_prev)

        self.alphas_cumprod_float64 = abar  # for other tables
        self.betas = np.float32(betas)
        self.alphas_cumprod = np.float32(abar)
        self.alphas_cumprod_prev = np.float32(abar_prev)
        self.one_minus_alphas_cumprod = np.float32(1.0 - abar)
        self.sqrt_alphas_cumprod = np.float32(np.sqrt(abar))
        self.sqrt_one_minus_alphas_cumprod = np.float32(np.sqrt(1.0 - abar))
        self.log_one_minus_alphas_cumprod = np.float32(np.log(1.0 - abar))
        with np.errstate(divide="ignore"):  # abar may end at 0, and these at infinity
            self.sqrt_recip_alphas_cumprod = np.float32(np.sqrt(1.0 / abar))
            self.sqrt_recipm1_alphas_cumprod = np.float32(np.sqrt(1.0 / abar - 1.0))
        self.posterior_variance = np.float32(variance)
        # The variance is 0 at t = 0: clip before the logarithm.
        self.posterior_log_variance_clipped = np.float32(
            np.log(np.maximum(variance, 1e-20))
        )
        self.posterior_mean_coef1 = np.float32(start_weight)
        self.posterior_mean_coef2 = np.float32(noisy_weight)

    def q_mean_variance(self, x_start, t):
        """Return mean, variance and log variance of q(x_t | x_0) (equation 4)."""
        mean = take_at(self.sqrt_alphas_cumprod, t) * x_start
        variance = take_at(self.one_minus_alphas_cumprod, t)
        log_variance = take_at(self.log_one_minus_alphas_cumprod, t)
        return mean, variance, log_variance

    def q_sample(self, x_start, t, noise):
        """Diffuse clean images to step `t`: draw x_t from q(x_t | x_0) (equation 4).

        `noise` is standard normal, of the images' shape.
        """
        return (
            take_at(self.sqrt_alphas_cumprod, t) * x_start
            + take_at(self.sqrt_one_minus_alphas_cumprod, t) * noise
        )

    def target(self, x_start, noise, t):
        """Return what a network is trained to output for `q_sample(x_start, t, noise)`.

        It is the noise ("epsilon", Ho et al. 2020, equation 14), the clean image
        ("sample"), or sqrt(abar) noise - sqrt(1 - abar) x_0 ("v_prediction", Salimans
        and Ho 2022, section 4).
        """
        if self.prediction_type == "epsilon":
            return noise
        if self.prediction_type == "sample":
            return x_start
        return (
            take_at(self.sqrt_alphas_cumprod, t) * noise
            - take_at(self.sqrt_one_minus_alphas_cumprod, t) * x_start
        )

    def predict_start(self, output, x_t, t):
        """Return the clean images that a network's `output` for `x_t` stands for.

        The inverse of `target`.
        """
        if self.prediction_type == "epsilon":
            return self.predict_start_from_noise(x_t, t, output)
        if self.prediction_type == "sample":
            return output
        return (
            take_at(self.sqrt_alphas_cumprod, t) * x_t
            - take_at(self.sqrt_one_minus_alphas_cumprod, t) * output
        )

    def loss_weights(self, gamma):
        """Return the min-SNR weight of each timestep, float32 `(timesteps,)`.

        Every type of prediction then weighs the error of x_0 by min(SNR, gamma): Hang
        et al. 2023, section 3.4 (https://arxiv.org/abs/2303.09556).
        """
        snr = signal_to_noise(self.alphas_cumprod_float64)
        # The squared error of x_0 is this factor of the output's.
        factor = {"epsilon": snr, "v_prediction": snr + 1.0, "sample": 1.0}
        return np.float32(np.minimum(snr, gamma) / factor[self.prediction_type])

    def predict_start_from_noise(self, x_t, t, noise):
        """Return the clean images that `noise` turned into `x_t` (equation 4)."""
        return (
            take_at(self.sqrt_recip_alphas_cumprod, t) * x_t
            - take_at(self.sqrt_recipm1_alphas_cumprod, t) * noise
        )

    def q_posterior(self, x_start, x_t, t):
        """Return the moments of q(x_{t-1} | x_t, x_0) (equations 6 and 7).

        These are mean, variance and log variance, which is clipped at log(1e-20).
        """
        mean = (
            take_at(self.posterior_mean_coef1, t) * x_start
            + take_at(self.posterior_mean_coef2, t) * x_t
        )
        variance = take_at(self.posterior_variance, t)
        log_variance = take_at(self.posterior_log_variance_clipped, t)
        return mean, variance, log_variance

    def p_mean_variance(self, pred_noise, x, t, clip_denoised=True):
        """Return the moments of p(x_{t-1} | x_t), as `q_posterior` does.

        Args:
            pred_noise: The network's output for `x`, of any `prediction_type`.
            x: Noisy images x_t.
            t: Timesteps.
            clip_denoised: Whether the predicted clean images are clipped to
                `[clip_min, clip_max]`.
        """
        x_start = self.predict_start(pred_noise, x, t)
        if clip_denoised:
            x_start = ops.clip(x_start, self.clip_min, self.clip_max)
        return self.q_posterior(x_start, x, t)

    def p_sample(self, pred_noise, x, t, clip_denoised=True, seed=None):
        """Draw x_{t-1} from p(x_{t-1} | x_t) (algorithm 2); at t = 0, return its mean.

        The arguments are those of `p_mean_variance`, and the `seed` of the noise, an
        integer or a `keras.random.SeedGenerator`.
        """
        mean, _, log_variance = self.p_mean_variance(pred_noise, x, t, clip_denoised)
        noise = keras.random.normal(ops.shape(x), seed=seed)
        is_not_last = ops.cast(ops.reshape(t, (-1, 1, 1, 1)) > 0, mean.dtype)
        return mean + is_not_last * ops.exp(0.5 * log_variance) * noise

    def get_config(self):
        return {
            "beta_start": self.beta_start,
            "beta_end": self.beta_end,
            "timesteps": self.timesteps,
            "clip_min": self.clip_min,
            "clip_max": self.clip_max,
            "schedule": self.schedule,
            "prediction_type": self.prediction_type,
            "schedule_shift": self.schedule_shift,
            "rescale_zero_terminal_snr": self.rescale_zero_terminal_snr,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def take_at(table, t):
    """Return a table's values at timesteps `t`, in shape `(batch, 1, 1, 1)`."""
    return ops.reshape(ops.take(ops.convert_to_tensor(table), t, axis=0), (-1, 1, 1, 1))
