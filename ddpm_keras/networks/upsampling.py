"""Upsampling and the convolution behind it as one layer."""

import keras
from keras import layers, ops

from ddpm_keras.backend import has_fast_transposed_convolution


@keras.saving.register_keras_serializable("ddpm_keras")
class UpsampledConv(layers.Conv2D):
    """Repeats every pixel in both directions, then convolves with a 3x3 kernel.

    Where pixels are repeated, neighbouring weights of the kernel meet the same number
    and may be added up first: both together are a transposed convolution of stride 2
    whose 4x4 kernel holds these sums, for 4/9 of the multiplications. The weights are
    those of a `Conv2D` of size 3. On JAX, whose transposed convolutions are slow, it
    does first one, then the other, and elsewhere where `joined` is set to False.

    Args:
        filters: Number of output channels.
        **kwargs: Other arguments of a `Conv2D`; its size is 3 and its padding `"same"`.

    Call arguments:
        inputs: Tensor of shape `(batch, height, width, channels)`.

    Returns:
        A tensor of shape `(batch, 2 * height, 2 * width, filters)`.
    """

    def __init__(self, filters, **kwargs):
        super().__init__(filters, **{"kernel_size": 3, "padding": "same"} | kwargs)
        self.joined = has_fast_transposed_convolution()

    def convolution_op(self, inputs, kernel):
        if not self.joined:
            for axis in (1, 2):
                inputs = ops.repeat(inputs, 2, axis=axis)
            return super().convolution_op(inputs, kernel)
        # Along each axis, an input pixel reaches four output pixels: the outer ones by
        # one weight from one of its two copies, the inner ones by two, from both.
        kernel = ops.convert_to_tensor(kernel)
        for axis in (0, 1):
            first, middle, last = ops.unstack(kernel, axis=axis)
            sums = [last, middle + last, first + middle, first]
            kernel = ops.stack(sums, axis=axis)
        kernel = ops.transpose(kernel, (0, 1, 3, 2))
        return ops.conv_transpose(inputs, kernel, strides=2, padding="same")

    def compute_output_shape(self, inputs_shape):
        batch, height, width, _ = inputs_shape
        return (batch, 2 * height, 2 * width, self.filters)
