"""PyTorch as the backend: what the other tests do not cover."""

import os
import subprocess
import sys

import numpy as np
import pytest
from run_script import SCRIPTS
from sample_command import CONFIG

from ddpm_keras import backend


def test_compiled_calls_keep_nothing_for_gradients(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(backend, "BACKEND", "torch")
    monkeypatch.setattr(backend, "torch", torch, raising=False)
    weight = torch.ones(3, requires_grad=True)
    twice = backend.compile_calls(lambda x: 2 * weight * x, owner=None)
    assert (2 * weight * weight).requires_grad
    assert not twice(torch.ones(3)).requires_grad


def test_no_draws_of_neighbouring_images_are_equal():
    """Keras adds the two numbers of a seed on PyTorch."""
    pytest.importorskip("torch")
    program = """
import numpy as np
from keras import ops
from ddpm_keras.sampling import _draw
seeds = ops.convert_to_tensor([0, 1, 2], "int32")
draws = [ops.convert_to_numpy(_draw(seeds, i, (4, 4, 1))) for i in range(3)]
assert np.std(draws) > 0.8
assert len(np.unique(np.reshape(draws, (9, 16)), axis=0)) == 9
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_commands_train_and_sample(tmp_path):
    pytest.importorskip("torch")
    changes = {"num_images": 8, "batch_size": 4, "num_epochs": 2, "num_samples": 1}
    config = CONFIG.model_copy(update=changes)
    (tmp_path / "tiny.yaml").write_text(config.to_yaml())
    for command in (
        "train --config tiny.yaml --run-dir run",
        "sample --weights run --num-images 2 --out images.npz",
    ):
        name, *flags = command.split()
        ended = subprocess.run(
            [sys.executable, SCRIPTS / f"{name}.py", *flags],
            cwd=tmp_path,
            env=os.environ | {"KERAS_BACKEND": "torch"},
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, ended.stderr
    images = np.load(tmp_path / "images.npz")["images"]
    assert images.shape == (2, 8, 12, 3) and images.std() > 0
