"""Grids of samples during a training."""

import sys
from pathlib import Path

import keras
import numpy as np

from ddpm_keras.data.pixels import make_grid, name_rows, save_png
from ddpm_keras.errors import short, warn
from ddpm_keras.labels import spread_labels
from ddpm_keras.runs.attempts import Attempts


class SampleGrid(keras.callbacks.Callback):
    """Saver of a grid of EMA samples every few epochs, always from the same noise.

    In a notebook it displays the grid as well.

    Args:
        folder: Folder for `epoch-0010.png` and so on.
        every: Epochs between grids; the last epoch always has one. 0: never.
        num_images: Images in a grid.
        seed: Seed of the first image.
        epochs_done: Epochs already completed when resuming; tells which of their grids
            are missing.
        at_boundary: Whether the model is as the last of them left it, so that its grid
            is drawn if it is missing.
        class_names: Names of the classes, over which the images of a grid are spread,
            a row each where they fit. Default: no labels.
        **options: Options of `DiffusionModel.generate_images`, such as `sampler`.
    """

    def __init__(
        self,
        folder,
        every=10,
        num_images=16,
        seed=0,
        epochs_done=0,
        at_boundary=True,
        class_names=(),
        **options,
    ):
        super().__init__()
        self.folder = Path(folder)
        self.every = every
        self.epochs_done = epochs_done
        self.at_boundary = at_boundary
        self.options = {"num_images": num_images, "seed": seed, **options}
        self.num_cols, self.rows = None, ()
        self._attempts = Attempts()
        if class_names:
            self.options["labels"] = spread_labels(num_images, len(class_names))
            if num_images % len(class_names) == 0:
                self.num_cols, self.rows = num_images // len(class_names), class_names

    def path(self, epoch):
        """Return the path of the grid after `epoch` epochs."""
        return self.folder / f"epoch-{epoch:04d}.png"

    def real_grid(self, images):
        """Arrange real images as the samples are, each of the class of its place.

        Args:
            images: `Images`; where they have no more of a class, places stay white.

        Returns:
            A uint8 array, as `data.pixels.make_grid` returns it.
        """
        order = np.random.default_rng(self.options["seed"]).permutation(len(images))
        labels = self.options.get("labels")
        if labels is None:
            return self._arrange(images.pixels[order[: self.options["num_images"]]])
        of_class = {k: iter(order[images.labels[order] == k]) for k in set(labels)}
        blank = np.full(images.pixels.shape[1:], 255, "uint8")
        places = [next(of_class[label], None) for label in labels]
        pixels = [blank if k is None else images.pixels[k] for k in places]
        return self._arrange(np.stack(pixels))

    def _arrange(self, images):
        grid = make_grid(images, self.num_cols)
        return name_rows(grid, self.rows) if self.rows else grid

    def on_train_begin(self, logs=None):
        if not self.epochs_done or not self.every:
            return
        if self.at_boundary and not self.path(self.epochs_done).exists():
            self.on_epoch_end(self.epochs_done - 1)
        end = self.epochs_done + (not self.at_boundary)
        turns = range(self.every, end, self.every)
        missing = [str(n) for n in turns if not self.path(n).exists()]
        if missing:
            warn(
                f"{self.folder}: there is no grid after {len(missing)} epochs "
                f"({short(', '.join(missing))}), and their weights are gone"
            )

    def on_epoch_end(self, epoch, logs=None):
        if not self.every or not is_turn(self, epoch):
            return
        path = self.path(epoch + 1)
        in_notebook = "ipykernel" in sys.modules  # shows the grid, not the progress
        verbose = 0 if in_notebook else 1
        images = self.model.generate_images(**self.options, verbose=verbose)
        grid = self._arrange(images)
        with self._attempts.attempt(path):
            save_png(path, grid)
        if in_notebook and path.exists():
            from IPython.display import Image, display

            display(Image(str(path), width=max(256, grid.shape[1])))


def is_turn(callback, epoch):
    """Whether an epoch is the last, or one of every `callback.every`."""
    done = epoch + 1
    return done % callback.every == 0 or done == callback.params["epochs"]
