"""`ddpm-sample` as a function, a small network for it, and its pictures."""

from functools import partial

import numpy as np
from PIL import Image
from run_script import SCRIPTS, run_script

from ddpm_keras.config import Config

SCRIPT = SCRIPTS / "sample.py"
sample = partial(run_script, "sample")
CONFIG = Config(
    dataset_name="petals",
    img_size=[8, 12],
    first_conv_channels=8,
    channel_multiplier=[1],
    has_attention=[False],
    num_res_blocks=1,
    norm_groups=4,
    total_timesteps=20,
)


def pixels_of(path):
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image)


def cells(grid, columns):
    """The images of a grid, which are 8 by 12 pixels, 2 pixels apart."""
    rows = [grid[top : top + 8] for top in range(2, len(grid), 10)]
    return [row[:, 2 + 14 * k :][:, :12] for row in rows for k in range(columns)]
