"""`scripts/sample.py` as a function, and a run folder for it to sample from."""

import contextlib
import io

import numpy as np
from load_script import SCRIPTS, load_script
from PIL import Image

from ddpm_keras.config import Config
from ddpm_keras.errors import run_command

SCRIPT = SCRIPTS / "sample.py"
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


MAIN = load_script("sample").main


def sample(argv):
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert run_command(MAIN, argv.split()) == 0
    return output.getvalue()


def pixels_of(path):
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image)


def cells(grid, columns):
    """The images of a grid, which are 8 by 12 pixels, 2 pixels apart."""
    rows = [grid[top : top + 8] for top in range(2, len(grid), 10)]
    return [row[:, 2 + 14 * k :][:, :12] for row in rows for k in range(columns)]


def save_run(folder, config=CONFIG):
    """Save random weights to a folder, as training leaves them; return the network."""
    import keras

    from ddpm_keras.unet import build_unet
    from ddpm_keras.weights import RUN_WEIGHTS, save_weights

    keras.utils.set_random_seed(0)
    network = build_unet(**config.unet_arguments())
    # As built, the last layer gives 0 whatever the others do.
    rng = np.random.default_rng(0)
    network.set_weights(
        [w + 0.1 * rng.normal(size=w.shape) for w in network.get_weights()]
    )
    save_weights(network, folder / RUN_WEIGHTS, config)
    return network
