"""What happens between epochs: pictures of samples, and saved weights."""

import sys
from pathlib import Path

import keras

from ddpm_keras.images import make_grid, save_png
from ddpm_keras.weights import save_weights


class SampleGrid(keras.callbacks.Callback):
    """Saves a grid of EMA samples every few epochs, always from the same noise.

    In a notebook the grid is shown as well.

    Args:
        folder: Where `epoch-0010.png` and so on go.
        every: Epochs between two grids; the last epoch always has one. 0: never.
        num_images: Images in the grid.
        seed: Seed of the first image's noise.
        **options: Of `DiffusionModel.generate_images`: `sampler`, `steps` and so on.
    """

    def __init__(self, folder, every=10, num_images=16, seed=0, **options):
        super().__init__()
        self.folder = Path(folder)
        self.every = every
        self.options = {"num_images": num_images, "seed": seed, **options}

    def path(self, epoch):
        """Where the grid after `epoch` epochs goes."""
        return self.folder / f"epoch-{epoch:04d}.png"

    def on_epoch_end(self, epoch, logs=None):
        if _is_due(epoch, self.every, self.params["epochs"]):
            grid = make_grid(self.model.generate_images(**self.options, verbose=0))
            save_png(self.path(epoch + 1), grid)
            if "ipykernel" in sys.modules:
                from IPython.display import Image, display

                display(Image(str(self.path(epoch + 1))))


class SaveWeights(keras.callbacks.Callback):
    """Saves the EMA network's weights every few epochs and at the last one.

    Args:
        path: The `.safetensors` file to write, over and over.
        config: The `Config` of the run, which goes into the file.
        every: Epochs between two saves.
    """

    def __init__(self, path, config, every=10):
        super().__init__()
        self.path = path
        self.config = config
        self.every = every

    def on_epoch_end(self, epoch, logs=None):
        if _is_due(epoch, self.every, self.params["epochs"]):
            save_weights(self.model.ema_network, self.path, self.config)


def _is_due(epoch, every, epochs):
    """Whether `epoch`, counted from 0, ends a period or the training."""
    return every > 0 and ((epoch + 1) % every == 0 or epoch + 1 == epochs)
