"""All keys beyond the recipe at once: the same on both backends, and after a stop."""

import numpy as np
import pytest
from every_key import KEYS, five_steps
from run_script import run_script
from whole_runs import assert_as_whole, copied, saved_steps

from ddpm_keras.config import Config
from ddpm_keras.config_file import load_config
from ddpm_keras.runs.folder import resume_run_folder
from ddpm_keras.weights import read_config


def test_five_steps_are_the_same_on_both_backends(golden):
    """TensorFlow wrote the golden numbers; every number drawn is given."""
    wanted, found = golden("every_key"), five_steps()
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two epochs of three steps, with a checkpoint of every step."""
    folder = tmp_path_factory.mktemp("every_key")
    options = {"num_epochs": 2, "save_every": 1, "keep": 9, "sample_every": 0}
    config = Config(**KEYS, **options, validation_fraction=0.25)
    (folder / "tiny.yaml").write_text(config.to_yaml())
    run = folder / "run"
    output, _ = run_script("train", f"--config {folder}/tiny.yaml --run-dir {run}")
    assert "classes: 4" in output.splitlines()
    return run


def test_stopped_run_ends_as_the_whole_one(whole, tmp_path):
    last = max(saved_steps(whole))
    stop = last - 1  # within the last epoch
    run = copied(whole, tmp_path / "run", stop)
    output, _ = run_script("train", f"--run-dir {run} --resume")
    assert f"resumed: after step {stop} of {last}" in output
    assert_as_whole(run, whole)


def test_weights_hold_the_keys(whole):
    config = read_config(whole)
    assert config == load_config(whole / "config.yaml")
    assert {key: getattr(config, key) for key in KEYS} == KEYS
    assert config.class_names == ["round", "pointed", "notched", "narrow"]


def test_another_number_of_epochs_moves_the_end_of_the_decay(whole, capsys):
    config = load_config(whole / "config.yaml")
    resume_run_folder(config, whole)
    assert capsys.readouterr().out == ""
    resume_run_folder(config.model_copy(update={"num_epochs": 3}), whole)
    assert capsys.readouterr().out.splitlines() == [
        "changed: num_epochs (was 2, is 3)",
        "learning_rate_decay: the rate goes on at its place on the cosine curve that "
        "ends after epoch 3",
    ]
