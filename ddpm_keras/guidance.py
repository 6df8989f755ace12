"""`Guided`: a denoiser whose predictions are pushed towards a label."""

import numpy as np
from keras import ops

from ddpm_keras.errors import require


class Guided:
    """A denoiser with guidance.

    With a label y and no guide, a guided prediction is

        x_0(no label) + scale (x_0(y) - x_0(no label))

    (classifier-free guidance). A guide, which is a weaker network, may take the place
    of "no label", also where there are no labels (autoguidance).

    Args:
        denoiser: A `Denoiser`.
        guide: Another `Denoiser` of the same process, image size and classes; it may
            know no classes. Default: none.

    Call arguments:
        x_t: Noisy images of shape `(batch, height, width, channels)`.
        t: Integer timesteps of shape `(batch,)`.
        labels: Labels of shape `(batch, k)`, or None.
        weights: Their weights, in the same shape, or None where k is 1.
        scale: Scale of the guide, or None to leave it out.

    Returns:
        The predicted clean images x_0, as `Denoiser` returns them.

    Raises:
        ArgumentError: When denoiser and guide do not fit together.

    Reference:
        - [Ho and Salimans, 2022](https://arxiv.org/abs/2207.12598), equation 6, here on
          x_0 in place of the noise
        - [Karras et al., 2024](https://arxiv.org/abs/2406.02507), autoguidance
    """

    def __init__(self, denoiser, guide=None):
        if guide is not None:
            _check_guide(guide, denoiser)
        self.denoiser = denoiser
        self.guide = guide

    @property
    def variables(self):
        """Variables of the networks."""
        guide = () if self.guide is None else self.guide.variables
        return [*self.denoiser.variables, *guide]

    def mixture(self, labels, scale):
        """Return the `Labels` whose predictions are mixed for guidance of a scale."""
        return labels if self.guide is not None else labels.guided(scale)

    def conditions(self, labels, scale):
        """Return tensors for the last three arguments of a call.

        Args:
            labels: A `Labels`, or None.
            scale: The guidance scale; 1 is none.
        """
        by_guide = self.guide is not None and scale != 1
        mixture = None if labels is None else self.mixture(labels, scale)
        weights = None if mixture is None else mixture.weights
        return (
            None if mixture is None else ops.convert_to_tensor(mixture.labels),
            None if weights is None else ops.convert_to_tensor(weights),
            ops.convert_to_tensor(np.float32(scale)) if by_guide else None,
        )

    def __call__(self, x_t, t, labels=None, weights=None, scale=None):
        x_start = _mix(self.denoiser, x_t, t, labels, weights)
        if scale is None:
            return x_start
        if not self.guide.num_classes:
            labels = weights = None
        weak = _mix(self.guide, x_t, t, labels, weights)
        return weak + scale * (x_start - weak)


def _mix(denoiser, x_t, t, labels, weights):
    """Predict x_0 for each label, in one batch, and mix the predictions."""
    if labels is None:
        return denoiser(x_t, t)
    if weights is None:
        return denoiser(x_t, t, labels[:, 0])
    count = labels.shape[1]
    x_t, t = (ops.repeat(tensor, count, axis=0) for tensor in (x_t, t))
    x_start = denoiser(x_t, t, ops.reshape(labels, (-1,)))
    x_start = ops.reshape(x_start, (-1, count, *x_t.shape[1:]))
    return ops.sum(weights[:, :, None, None, None] * x_start, axis=1)


def _check_guide(guide, denoiser):
    require(
        guide.image_shape == denoiser.image_shape,
        "`guide` must take images of the same size.",
        guide=guide.image_shape,
        denoiser=denoiser.image_shape,
    )
    require(
        np.array_equal(
            guide.diffusion.alphas_cumprod_float64,
            denoiser.diffusion.alphas_cumprod_float64,
        ),
        "`guide` must be trained with the same timesteps and schedule.",
        guide=guide.diffusion.get_config(),
        denoiser=denoiser.diffusion.get_config(),
    )
    require(
        guide.num_classes in (0, denoiser.num_classes),
        "`guide` must know the same classes, or none.",
        guide=guide.num_classes,
        denoiser=denoiser.num_classes,
    )
