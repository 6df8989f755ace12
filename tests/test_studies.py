"""What the studies conclude from figures, and what they read."""

import json
import os
import re
import sys
import threading
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops
from saved_run import TINY, save_run

from ddpm_keras.config import Config
from ddpm_keras.data.images import Images
from ddpm_keras.denoiser import Denoiser
from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.networks.unet import build_unet
from ddpm_keras.samplers import choose_steps

ROOT = Path(__file__).parents[1]


class Weights:
    """What `Denoiser.from_weights` returns of a path, for `fingerprint`."""

    def __init__(self, network):
        self.network = network


NETWORKS = {"a": Weights("first"), "b": Weights("second"), "c": Weights("third")}


@pytest.fixture
def study(monkeypatch):
    """A function that imports a study by name."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [str(ROOT / "studies"), *sys.path])
    yield __import__
    for name in set(sys.modules) - before:
        if str(ROOT / "studies") in str(getattr(sys.modules[name], "__file__", "")):
            sys.modules.pop(name)


@pytest.fixture
def verify(study):
    return study("verify")


def test_expected_figures_are_read(verify, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(
        "seed: 0\n\n# Expected:\n#   kid: 0.07 ± 0.003\n#   machine: a, b\n"
    )
    assert verify.read_expected(path) == {
        "kid": (0.07, 0.003),
        "machine": ("a, b", None),
    }
    for name in ("demo", "flowers32", "flowers64_cpu"):
        stated = verify.read_expected(ROOT / "configs" / f"{name}.yaml")
        assert stated.keys() == {"kid", "loss", "minutes", "machine"}
        assert 0 < stated["kid"][1] < stated["kid"][0] < 1
    path.write_text("seed: 0\n")
    with pytest.raises(SystemExit, match="no comment '# Expected'"):
        verify.read_expected(path)


def test_verdict_allows_for_chance_and_better_figures(verify, capsys):
    assert verify.verdict("KID", 0.06, 0.07, 0.01)
    assert verify.verdict("KID", 0.079, 0.07, 0.01)
    assert not verify.verdict("KID", 0.081, 0.07, 0.01)
    assert "NOT REACHED" in capsys.readouterr().out


def test_time_to_reach_a_kid_is_on_the_lines_of_its_curve(study):
    time_to_reach = study("speedrun").time_to_reach
    kids = {60: 0.5, 120: 0.3, 240: 0.4, 360: 0.1}
    curve = [{"seconds": seconds, "KID": kid} for seconds, kid in kids.items()]
    assert time_to_reach(curve, 0.4) == pytest.approx(90)
    assert time_to_reach(curve, 0.2) == pytest.approx(320)
    assert time_to_reach(curve, 0.6) == 60
    assert time_to_reach(curve, 0.05) is None


def test_speedrun_lowers_the_rate_over_the_time_there_is(study):
    decay = study("speedrun").decay
    assert decay(0, 0.0) == pytest.approx(1 / 500)
    assert decay(10**4, 0.5) == pytest.approx(0.5)
    assert decay(10**4, 1.0) == pytest.approx(0.0)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux binds to cores")
def test_speedrun_gives_each_program_a_core_of_its_own(study, monkeypatch):
    speedrun, seen, cores = study("speedrun"), {}, os.sched_getaffinity(0)
    side_by_side = threading.Barrier(min(2, len(cores)))

    def call(*command):
        seen[command[-1]] = os.sched_getaffinity(0)
        side_by_side.wait(timeout=30)

    monkeypatch.setattr(speedrun, "call", call)
    speedrun.train_all(["recipe", "diffusers"])
    assert seen.keys() == {"recipe", "diffusers"}
    assert all(len(bound) == 1 for bound in seen.values())
    assert len(set.union(*seen.values())) == min(2, len(cores))
    assert os.sched_getaffinity(0) == cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux binds to cores")
def test_speedrun_begins_nothing_after_an_error(study, monkeypatch):
    speedrun, begun = study("speedrun"), []

    def call(*command):
        begun.append(command[-1])
        raise OSError("no such program")

    monkeypatch.setattr(speedrun, "call", call)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None)
    with pytest.raises(OSError, match="no such program"):
        speedrun.train_all(["recipe", "diffusers", "ours"])
    assert begun == ["recipe"]


def test_a_table_has_a_column_for_every_key(study, tmp_path):
    path = tmp_path / "table.csv"
    study("commands").write_table(path, [{"KID": 0.12345}, {"KID": 1.0, "error": 2}])
    assert path.read_text() == "KID,error\n0.1235,\n1,2\n"


def test_what_was_measured_with_other_flags_is_measured_again(
    study, monkeypatch, tmp_path
):
    commands, measured = study("commands"), []

    def call(script, *flags):
        measured.append(flags[-1])
        result = {"value": len(measured), "error": None, "reference": 0}
        results = {"results": {"kid": result | {"reference_error": None}}}
        (tmp_path / "metrics.json").write_text(json.dumps(results))

    monkeypatch.setattr(commands, "call", call)
    monkeypatch.setattr(commands, "_is_of", lambda *_: True)
    for scale in (1, 1, 2):
        found, _ = commands.measure("weights", tmp_path, "--guidance-scale", scale)
    assert measured == [1, 2]
    assert found == {"kid": 2}


def test_what_another_guide_guided_is_measured_again(study, monkeypatch, tmp_path):
    commands, found = study("commands"), tmp_path / "metrics.json"
    monkeypatch.setattr(commands.Denoiser, "from_weights", lambda path: NETWORKS[path])
    monkeypatch.setattr(commands, "fingerprint", lambda network: network)
    samples = {"guide": "second"}
    protocol = {"weights_sha256": "first", "samples": samples}
    found.write_text(json.dumps({"protocol": protocol}))
    assert commands._is_of(found, "a", "b")
    assert not commands._is_of(found, "b", "b")
    assert not commands._is_of(found, "a", "c")
    assert not commands._is_of(found, "a", None)
    del samples["guide"]
    found.write_text(json.dumps({"protocol": protocol}))
    assert commands._is_of(found, "a", None)


@pytest.mark.parametrize(
    "flags, line",
    [
        (["--shares", "0.3", "0.05"], "--shares, --until: .*no step is left"),
        (["--num-images", "12"], "--num-images: 2 to 10, please"),
    ],
)
def test_noise_levels_refuses_flags_before_it_measures(
    study, monkeypatch, tmp_path, capsys, flags, line
):
    config = Config(**TINY, dataset_name="petals", num_images=12, sample_until=0.05)
    save_run(tmp_path, config)
    argv = ["noise_levels.py", "--weights", tmp_path, "--out", tmp_path, *flags]
    monkeypatch.setattr(sys, "argv", list(map(str, argv)))
    with pytest.raises(SystemExit):
        study("noise_levels").main()
    assert re.search(line, capsys.readouterr().err)


def test_a_photograph_that_hardly_any_noise_hid_comes_back(study, make_network):
    config = Config(prediction_type="epsilon", sampler="dpmpp", sample_steps=100)
    diffusion = GaussianDiffusion(**config.diffusion_arguments())
    denoiser = Denoiser(make_network(), diffusion, config)
    pixels = np.random.default_rng(0).integers(64, 192, (3, 8, 8, 3)).astype("uint8")
    distances = []
    for share in (0.01, 0.5):
        _, plan = choose_steps(config, strength=share)
        drawn = study("noise_levels").redraw(denoiser, plan, Images(pixels))
        assert drawn.dtype == "uint8"
        distances.append(np.abs(np.float32(drawn) - pixels).mean())
    assert distances[0] < 12 < 24 < distances[1]


@pytest.mark.parametrize("widths", [(4, 2), (4, 6)])
def test_a_block_that_widens_only_now_gets_a_shortcut(study, widths):
    config = dict(img_size=8, first_conv_channels=8, norm_groups=4, num_res_blocks=1)
    config |= {"has_attention": (False, False)}
    old = build_unet(**config, channel_multiplier=(2, 2))
    new = build_unet(**config, channel_multiplier=widths)
    rng = np.random.default_rng(0)
    old.set_weights([rng.normal(0, 0.2, w.shape) for w in old.weights])
    study("widen").widen(old, new, rng)
    inputs = [rng.normal(size=(3, 8, 8, 3)).astype("float32"), np.array([0, 50, 900])]
    before, after = (
        keras.Model(network.inputs, network.get_layer("down_1_0_residual").output)
        for network in (old, new)
    )
    assert new.get_layer("down_1_0_residual").shortcut is not None
    assert old.get_layer("down_1_0_residual").shortcut is None
    copied = np.repeat(ops.convert_to_numpy(before(inputs)), widths[1] // 2, axis=-1)
    found = ops.convert_to_numpy(after(inputs))
    np.testing.assert_allclose(found, copied, rtol=1e-3, atol=1e-3)


def test_a_wider_network_has_the_features_of_the_old_one_twice(study):
    config = dict(img_size=8, first_conv_channels=8, norm_groups=4, num_res_blocks=1)
    attends = {"has_attention": (False, True)}
    old = build_unet(**config, channel_multiplier=(1, 2), **attends)
    new = build_unet(**config, channel_multiplier=(2, 4), **attends)
    rng = np.random.default_rng(0)
    old.set_weights([rng.normal(0, 0.2, w.shape) for w in old.weights])
    study("widen").widen(old, new, rng)
    images = rng.normal(size=(3, 8, 8, 3)).astype("float32")
    inputs = [images, np.array([0, 50, 900])]

    def features(network, name):
        output = network.get_layer(name).output
        return ops.convert_to_numpy(keras.Model(network.inputs, output)(inputs))

    for name in ("down_0_0_residual", "down_1_0_attention", "middle_1_residual"):
        twice = np.repeat(features(old, name), 2, axis=-1)
        np.testing.assert_allclose(features(new, name), twice, rtol=1e-3, atol=1e-3)
    # Behind the first skip connection too; only at the last, where the stem is as wide
    # as it was, groups of channels are others.
    name = "up_1_1_attention"
    twice = np.repeat(features(old, name), 2, axis=-1)
    np.testing.assert_allclose(features(new, name), twice, rtol=1e-3, atol=1e-3)
    kernel = ops.convert_to_numpy(new.get_layer("middle_1_residual").conv_2.kernel)
    first, second = kernel[:, :, ::2], kernel[:, :, 1::2]
    assert not np.allclose(first, second, rtol=0.05)
