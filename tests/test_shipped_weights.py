"""The weights in `weights/`: small, usable, and described by their cards."""

from pathlib import Path

import numpy as np
import pytest

from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.sampling import ReverseProcess
from ddpm_keras.weights import fingerprint, load_network, read_config

WEIGHTS = sorted((Path(__file__).parents[1] / "weights").glob("*.safetensors"))


def test_shipped_weights_are_small():
    assert WEIGHTS
    assert all(path.stat().st_size <= 16e6 for path in WEIGHTS)


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda path: path.stem)
def test_shipped_weights_match_their_card_and_sample(path):
    config = read_config(path)
    network = load_network(path, config)
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    assert fingerprint(network) in card
    assert f"{network.count_params():,} parameters" in card
    process = ReverseProcess(network, GaussianDiffusion(**config.diffusion_arguments()))
    images = process.generate_images(2, "ddim", steps=5, verbose=0)
    assert images.shape == (2, *config.image_shape)
    # Unlike in noise, neighbouring pixels are correlated.
    left, right = images[:, :, 1:].ravel(), images[:, :, :-1].ravel()
    assert np.corrcoef(left, right)[0, 1] > 0.5
