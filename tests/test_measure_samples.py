"""`MeasureSamples`: measures during training, in the log and for the best weights."""

import csv

import keras
import numpy as np
import pytest
from extras import needs_judge
from safetensors.numpy import load_file

from ddpm_keras.config import Config
from ddpm_keras.data.flowers import draw_flowers
from ddpm_keras.data.images import Images
from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.errors import InputError
from ddpm_keras.labels import random_labels
from ddpm_keras.metrics import efficientnet
from ddpm_keras.metrics.features import load_extractor
from ddpm_keras.metrics.kid import kernel_distance
from ddpm_keras.metrics.whitening import whitening
from ddpm_keras.model import DiffusionModel
from ddpm_keras.optimizers import SkipNonFinite
from ddpm_keras.runs.build import check_names
from ddpm_keras.runs.callbacks import Checkpoints
from ddpm_keras.runs.log import Log
from ddpm_keras.runs.measures import MeasureSamples

REAL = draw_flowers(24, 8)


CHANGES = {"seed": 5, "sample_until": 0.1}  # of the configuration
OPTIONS = {"sampler": "dpmpp", "eta": 1.0, "until": 0.1, "seed": 5}


class FakeModel:
    """Returns flowers under noise that fades with the epochs."""

    epoch = 0

    def generate_images(self, num_images, labels=None, **options):
        self.labels = labels
        # The default of dpmpp is 20 steps.
        assert options == OPTIONS
        rng = np.random.default_rng(5)
        noise = rng.normal(0.0, 1.0 / (1 + self.epoch), (num_images, 8, 8, 3))
        return draw_flowers(num_images, 8, seed=9) / 127.5 - 1.0 + noise


def test_values_are_those_of_the_metrics():
    callback = MeasureSamples(
        Images(REAL), Config(eval_every=2, eval_images=32, **CHANGES)
    )
    callback.set_model(FakeModel())
    callback.set_params({"epochs": 5})
    seen = []
    for callback.model.epoch in range(5):
        logs = {"loss": 1.0}
        callback.on_epoch_end(callback.model.epoch, logs)
        seen.append(logs)
    assert [np.isfinite(logs["kid"]) for logs in seen] == [0, 1, 0, 1, 1]
    assert seen[1]["kid"] > seen[3]["kid"] > seen[4]["kid"]

    images = callback.model.generate_images(32, **OPTIONS)
    images = np.uint8(np.clip(np.round((images + 1.0) * 127.5), 0, 255))
    extract = load_extractor("random:0", (8, 8, 3))
    real = REAL[np.random.default_rng(5).permutation(24)]
    whiten = whitening(extract(real))
    kid = kernel_distance(whiten(extract(real)), whiten(extract(images))).mean
    np.testing.assert_allclose(seen[4]["kid"], kid, rtol=1e-6)
    assert callback.name == "kid of random:0, whitened"  # as checkpoints have it


@needs_judge
def test_other_features_are_those_asked_for():
    options = {"eval_features": "efficientnet-lite0", "eval_images": 16, **CHANGES}
    callback = MeasureSamples(Images(REAL), Config(eval_every=1, **options))
    callback.set_model(FakeModel())
    callback.set_params({"epochs": 1})
    logs = {}
    callback.on_epoch_end(0, logs)
    extract = load_extractor("efficientnet-lite0", (8, 8, 3))
    images = callback.model.generate_images(16, **OPTIONS)
    images = np.uint8(np.clip(np.round((images + 1.0) * 127.5), 0, 255))
    real = extract(REAL[np.random.default_rng(5).permutation(24)])
    kid = kernel_distance(real, extract(images)).mean
    np.testing.assert_allclose(logs["kid"], kid, rtol=1e-4)
    assert callback.name == "kid of efficientnet-lite0"


def test_samples_have_each_label_as_often_as_the_images():
    labels = np.int32([0] * 4 + [2] * 20)
    callback = MeasureSamples(
        Images(REAL, labels=labels, names=("a", "b", "c")),
        Config(eval_every=1, eval_images=32, **CHANGES),
    )
    callback.set_model(FakeModel())
    callback.set_params({"epochs": 1})
    callback.on_epoch_end(0, {})
    wanted = random_labels(range(5, 37), [4, 0, 20])
    assert np.array_equal(callback.model.labels, wanted)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(efficientnet, "_missing", lambda: ["torch"])
    config = Config(eval_every=1, eval_features="efficientnet-lite0")
    with pytest.raises(InputError, match="^eval_features: efficientnet-lite0 needs t"):
        check_names(config)
    check_names(config.model_copy(update={"eval_every": 0}))


def test_real_images_are_drawn_from_all_classes():
    """A folder's images come sorted by class."""
    images = np.repeat(np.uint8([0, 255]), 64)[:, None, None, None]
    images = np.broadcast_to(images, (128, 8, 8, 3))
    real = MeasureSamples(Images(images), Config(eval_every=1, eval_images=16)).real
    assert len(real) == 32
    assert 64 < real[:16].mean() < 191


def test_too_few_real_images_are_refused():
    with pytest.raises(InputError, match="^eval_every: .* there are 3; use 0"):
        MeasureSamples(Images(REAL[:3]), Config(eval_every=1))


def test_best_weights_are_those_of_the_lowest_kid(tmp_path, make_network):
    class Model:
        optimizer = SkipNonFinite(keras.optimizers.SGD())
        optimizer.build([])
        ema_network = make_network()

    callback = Checkpoints(tmp_path, Config(save_every=10**6), steps_per_epoch=1)
    callback.kid_name = "kid of these"
    callback.set_model(Model())
    callback.set_params({"epochs": 99})
    best = []
    for epoch, kid in enumerate([np.nan, 0.2, 0.3, np.nan, -0.1, 0.0]):
        for weight in callback.model.ema_network.weights:
            weight.assign(np.full(weight.shape, epoch))
        logs = {"loss": 1.0, "val_loss": -float(epoch), "kid": kid}
        callback.on_epoch_end(epoch, logs)
        path = tmp_path / "best.safetensors"
        arrays = load_file(path) if path.exists() else {"": np.array([None])}
        best.append(next(iter(arrays.values())).ravel()[0])
    assert best == [None, 1, 1, 1, 4, 4]
    assert callback.facts["best"] == {"measure": "kid of these", "value": -0.1}
    callback.kid_name = "kid of others"
    callback.on_epoch_end(6, {"loss": 1.0, "kid": 0.5})
    assert callback.facts["best"] == {"measure": "kid of others", "value": 0.5}


def test_log_has_the_values(tmp_path):
    callbacks = [
        MeasureSamples(Images(REAL), Config(eval_every=2, eval_images=16, **CHANGES)),
        Log(tmp_path / "log.csv", ["epoch,loss,val_loss,kid"]),
    ]
    model = FakeModel()
    model.stop_training = False
    for callback in callbacks:
        callback.set_model(model)
        callback.set_params({"epochs": 3})
        callback.on_train_begin()
    for epoch in range(3):
        logs = {"loss": 1.0}
        for callback in callbacks:
            callback.on_epoch_end(epoch, logs)
    with (tmp_path / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "loss", "val_loss", "kid"]
    assert [row["kid"] == "nan" for row in rows] == [True, False, False]


def test_a_model_is_measured(make_network):
    callback = MeasureSamples(
        Images(REAL), Config(eval_every=1, eval_images=16, **CHANGES)
    )
    diffusion = GaussianDiffusion(timesteps=12)
    callback.set_model(DiffusionModel(make_network(), diffusion=diffusion))
    callback.set_params({"epochs": 1})
    logs = {}
    callback.on_epoch_end(0, logs)
    assert logs["kid"] > 0.1  # noise is far from flowers
