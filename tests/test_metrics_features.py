"""Feature extractors: their values, and the errors of those that cannot be made."""

import keras
import numpy as np
import pytest
from keras import ops
from saved_run import TINY

from ddpm_keras.config import Config
from ddpm_keras.errors import ArgumentError, InputError, RunError
from ddpm_keras.metrics.features import load_extractor

CONFIG = Config(**TINY)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), "uint8")


@pytest.fixture(scope="module")
def weights(tmp_path_factory, make_tiny_unet, randomise):
    """A run folder, and its network."""
    from ddpm_keras.weights import RUN_WEIGHTS, save_weights

    folder = tmp_path_factory.mktemp("features")
    network = make_tiny_unet(channel_multiplier=(1,), has_attention=(False,))
    randomise(network)
    save_weights(network, folder / RUN_WEIGHTS, CONFIG)
    return folder, network


def convolve(x, kernel, bias, stride):
    """A 3x3 convolution with ReLU, edges padded as TensorFlow's "same" does."""
    size = x.shape[1]
    missing = max((-(-size // stride) - 1) * stride + 3 - size, 0)
    pad = (missing // 2, missing - missing // 2)
    x = np.pad(x, [(0, 0), pad, pad, (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    windows = windows[:, ::stride, ::stride]
    return np.maximum(np.einsum("nyxcij,ijco->nyxo", windows, kernel) + bias, 0.0)


def test_random_features_agree_with_convolutions_in_numpy(images):
    extractor = load_extractor("random:3", (8, 8, 3))
    features = extractor(images)
    assert (features.shape, features.dtype) == ((5, 480), np.float64)
    assert (extractor.name, extractor.dims) == ("random:3", 480)

    rng = np.random.default_rng(3)
    x, expected = images / 127.5 - 1.0, []
    for width, stride in ((32, 1), (64, 2), (128, 2), (256, 2)):
        shape = (3, 3, x.shape[3], width)
        kernel = rng.normal(0.0, np.sqrt(2.0 / (9 * x.shape[3])), shape)
        x = convolve(x, kernel, rng.normal(0.0, 0.1, width), stride)
        expected.append(x.mean((1, 2)))
    np.testing.assert_allclose(features, np.concatenate(expected, 1), atol=1e-4)


def test_features_do_not_depend_on_the_batch(images):
    extractor = load_extractor("random:0", (8, 8, 3))
    whole = extractor(images)
    extractor.batch_size = 2
    np.testing.assert_allclose(extractor(images), whole, atol=1e-5)


def test_other_seed_gives_other_features(images):
    first, second = (load_extractor(f"random:{k}", (8, 8, 3))(images) for k in (0, 1))
    assert np.abs(first - second).max() > 0.1


def test_random_features_of_grey_images(images):
    features = load_extractor("random:0", (8, 8, 1))(images[..., :1])
    assert features.shape == (5, 480) and features.std(0).max() > 0.01


def test_features_of_a_unet_are_those_of_its_middle_block(images, weights):
    folder, network = weights
    extractor = load_extractor(str(folder), (8, 8, 3))
    assert extractor.name.startswith(f"{folder} (middle_1_residual of the network ")
    assert extractor.name.endswith(" at timestep 10)")
    abar = np.prod(1.0 - np.linspace(1e-4, 0.02, 1000)[:11])
    noisy = np.float32(np.sqrt(abar) * (images / 127.5 - 1.0))
    layer = network.get_layer("middle_1_residual")
    block = keras.Model(network.inputs, layer.output)(
        [ops.convert_to_tensor(noisy), ops.full((5,), 10, "int32")]
    )
    np.testing.assert_allclose(
        extractor(images), ops.convert_to_numpy(block).mean((1, 2)), atol=1e-4
    )


def test_inception_without_its_weights_names_the_remedy(monkeypatch):
    def refuse(*args, **kwargs):
        raise Exception("URL fetch failure on https://x: None -- unreachable")

    monkeypatch.setattr(keras.applications, "InceptionV3", refuse)
    monkeypatch.setenv("KERAS_HOME", "/somewhere")
    with pytest.raises(RunError) as error:
        load_extractor("inception", (8, 8, 3))
    assert str(error.value) == (
        "inception: cannot get Keras' InceptionV3 weights (URL fetch "
        "failure on https://x: None -- unreachable); put inception_v3_weights_tf_dim_"
        "ordering_tf_kernels_notop.h5 into /somewhere/models, or use random:0"
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_inception_takes_resized_images(monkeypatch, images, channels):
    # A stand-in that returns the corners: the real one is a download of 88 MB.
    def stand_in(**options):
        assert (options["weights"], options["pooling"]) == ("imagenet", "avg")
        image = keras.Input(options["input_shape"])
        return keras.Model(image, keras.layers.Flatten()(image[:, ::298, ::298]))

    monkeypatch.setattr(keras.applications, "InceptionV3", stand_in)
    extractor = load_extractor("inception", (8, 8, channels))
    features = extractor(images[..., :channels])
    corners = np.repeat(images[:, ::7, ::7, :channels], 3 // channels, axis=3)
    expected = corners.reshape(5, 12) / 127.5 - 1.0
    np.testing.assert_allclose(features, expected, atol=1e-5)


def test_images_of_another_size_are_refused(images):
    extractor = load_extractor("random:0", (8, 8, 3))
    for wrong in (images[:, :4], images / 255.0):
        with pytest.raises(ArgumentError) as error:
            extractor(wrong)
        assert error.value.keys == ("dtype", "shape")


def test_weights_that_do_not_fit_are_reported(weights, tmp_path):
    folder, _ = weights
    with pytest.raises(InputError, match="8x8x3, and these are 16x16x1"):
        load_extractor(str(folder), (16, 16, 1))
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(InputError, match="text.safetensors: "):
        load_extractor(str(tmp_path / "text.safetensors"), (8, 8, 3))


@pytest.mark.parametrize(
    "name, expected",
    [("random:-1", "random:SEED"), ("incepton", "no such file or folder")],
)
def test_unknown_name_is_reported(name, expected):
    with pytest.raises(InputError, match=expected):
        load_extractor(name, (8, 8, 3))
