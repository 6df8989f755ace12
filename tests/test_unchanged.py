"""What 0.1.0 computed, computed again: training, resuming and sampling.

The files in `golden/before_0_2_0` were written by 0.1.0. On the processor and versions
named in `recipe.json` every bit must be the same; elsewhere other kernels round
otherwise, and the numbers must agree to a tolerance. So they must where upsampling and
the convolution behind it became one layer, which adds in another order.
"""

import hashlib
import json
import shutil
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from run_script import run_script
from safetensors.numpy import load_file

from ddpm_keras import make_batches
from ddpm_keras.backend import has_fast_transposed_convolution
from ddpm_keras.config_file import load_config
from ddpm_keras.data import load_images
from ddpm_keras.data.flowers import SHAPES
from ddpm_keras.devices import count_cores
from ddpm_keras.runs.build import build_model

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden" / "before_0_2_0" / keras.backend.backend()
SAMPLERS = {
    "ddpm": "--steps 50",
    "ddim": "--steps 10",
    "dpmpp": "--steps 10 --eta 1",
}


def this_machine():
    """What decides how sums are rounded."""
    facts = {"cores": count_cores()}
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("cpu family", "model", "stepping", "cache size"):
            facts[name.strip()] = value.strip()
    packages = ("keras", "numpy", keras.backend.backend())
    return facts | {name: version(name) for name in packages}


@pytest.fixture(scope="module")
def recipe():
    return json.loads((GOLDEN / "recipe.json").read_text())


@pytest.fixture(scope="module")
def exact(recipe):
    """Whether this machine computes bit for bit what the recorded one did."""
    same_sums = not has_fast_transposed_convolution()
    return same_sums and recipe["machine"] == this_machine()


@pytest.fixture(autouse=True)
def flowers_of_0_1_0(monkeypatch):
    """Draw notched petals as 0.1.0 did."""
    monkeypatch.setitem(SHAPES, "notched", (4, 6, 1.0, 0.40, 1.15, 0.25))


@pytest.mark.parametrize("steps", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_first_steps_of_the_recipe(steps, recipe, exact):
    """`configs/flowers64.yaml` with a narrower network, on drawn flowers."""
    changes = {"dataset_name": "petals", "first_conv_channels": "16"}
    config = load_config(ROOT / "configs" / "flowers64.yaml", changes)
    batches, _ = make_batches(
        load_images(config),
        config.batch_size,
        num_epochs=1,
        seed=config.seed,
        random_flip=config.random_flip,
    )
    model = build_model(config)
    losses = []
    keep = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: losses.append(float(logs["loss"]))
    )
    model.fit(
        batches, steps_per_epoch=steps, callbacks=[keep], verbose=0, shuffle=False
    )

    # A loss depends on every weight that the steps before it have changed.
    wanted = recipe["losses"][:steps]
    np.testing.assert_allclose(losses, wanted, rtol=1e-6)
    if exact:
        assert losses == wanted
    if steps < len(recipe["losses"]):
        return
    arrays = [*model.network.get_weights(), *model.ema_network.get_weights()]
    if exact:
        assert sha256(*arrays) == recipe["weights_sha256"]
    sizes = [np.sqrt(np.mean(np.square(array.astype("float64")))) for array in arrays]
    # One core in place of two moves single weights by 1.2e-7.
    np.testing.assert_allclose(sizes, recipe["weights_root_mean_square"], atol=1e-6)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samples_of_the_weights_that_ship(sampler, exact, tmp_path):
    weights = ROOT / "weights" / "flowers32.safetensors"
    out = tmp_path / "grid.png"
    run_script(
        "sample",
        f"--weights {weights} --num-images 4 --seed 7 --sampler {sampler} "
        f"{SAMPLERS[sampler]} --out {out}",
    )
    assert_same_picture(out, GOLDEN / f"{sampler}.png", exact)


def test_run_goes_on_to_the_same_end(exact, tmp_path):
    run = shutil.copytree(GOLDEN / "run", tmp_path / "run")
    output, _ = run_script("train", f"--run-dir {run} --resume")
    assert "resumed: after step 6 of 12" in output
    if exact:
        wanted = (GOLDEN / "ended_log.csv").read_text()
        assert (run / "log.csv").read_text() == wanted
    ended = load_file(GOLDEN / "ended.safetensors")
    arrays = load_file(run / "weights.safetensors")
    assert arrays.keys() == ended.keys()
    for name, array in ended.items():
        tolerance = 0 if exact else 1e-6
        np.testing.assert_allclose(arrays[name], array, atol=tolerance, err_msg=name)
    picture = run / "samples" / "epoch-0003.png"
    assert_same_picture(picture, GOLDEN / "ended_samples.png", exact)


def sha256(*arrays):
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()


def assert_same_picture(path, wanted, exact):
    if exact:
        assert path.read_bytes() == wanted.read_bytes()
    with Image.open(path) as picture, Image.open(wanted) as golden:
        assert picture.text == golden.text
        difference = np.int32(picture) - np.int32(golden)
    assert np.abs(difference).max() <= 1  # where a value lies between two grey levels
