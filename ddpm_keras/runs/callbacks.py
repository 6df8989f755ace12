"""What happens between the steps of a training: grids, measures, checkpoints."""

import contextlib
import sys
import time
from pathlib import Path

import keras
import numpy as np

from ddpm_keras.runs.checkpoint import save
from ddpm_keras.backend import read_variable, sync_variables, variables_lag_in_fit
from ddpm_keras.errors import InputError, RunError, warn
from ddpm_keras.metrics.features import load_extractor
from ddpm_keras.metrics.kid import kernel_distance
from ddpm_keras.metrics.swd import sliced_wasserstein
from ddpm_keras.data.pixels import make_grid, save_png, to_uint8
from ddpm_keras.optimizers import SkipNonFinite
from ddpm_keras.runs.stop_signal import StopSignal
from ddpm_keras.runs.state import state_arrays
from ddpm_keras.weights import RUN_WEIGHTS, save_weights

BEST_WEIGHTS = "best.safetensors"
EXTRACTOR = "random:0"  # needs no download, and any two runs can be compared


class SampleGrid(keras.callbacks.Callback):
    """Saves a grid of EMA samples every few epochs, always from the same noise.

    In a notebook the grid is shown as well.

    Args:
        folder: Where `epoch-0010.png` and so on go.
        every: Epochs between two grids; the last epoch always has one. 0: never.
        num_images: Images in the grid.
        seed: Seed of the first image's noise.
        epochs_done: Epochs that a training which goes on has behind it, when it stands
            between two; their last grid is drawn if it is missing.
        **options: Of `DiffusionModel.generate_images`: `sampler`, `steps` and so on.
    """

    def __init__(
        self, folder, every=10, num_images=16, seed=0, epochs_done=0, **options
    ):
        super().__init__()
        self.folder = Path(folder)
        self.every = every
        self.epochs_done = epochs_done
        self.options = {"num_images": num_images, "seed": seed, **options}

    def path(self, epoch):
        """Where the grid after `epoch` epochs goes."""
        return self.folder / f"epoch-{epoch:04d}.png"

    def on_train_begin(self, logs=None):
        if self.epochs_done and not self.path(self.epochs_done).exists():
            self.on_epoch_end(self.epochs_done - 1)

    def on_epoch_end(self, epoch, logs=None):
        last = epoch + 1 == self.params["epochs"]
        if not self.every or ((epoch + 1) % self.every and not last):
            return
        path = self.path(epoch + 1)
        grid = make_grid(self.model.generate_images(**self.options, verbose=0))
        try:
            save_png(path, grid)
        except OSError as error:
            warn(f"{path}: {error}; training goes on")
            return
        if "ipykernel" in sys.modules:
            from IPython.display import Image, display

            display(Image(str(path), width=max(256, grid.shape[1])))


class MeasureSamples(keras.callbacks.Callback):
    """Logs KID and SWD of EMA samples every few epochs, and in the last one.

    Put it before `Log`, `TensorBoard` and `Checkpoints`, which take the figures
    from the logs as `kid` and `swd`; in other epochs they are nan. It samples the same
    seeds each time by stochastic DPM-Solver++(2M), 20 steps: most of its cost. Of the
    real images at most twice as many as samples count, chosen at random.

    Args:
        real: uint8 images to compare with, `(num_images, height, width, channels)`.
        config: The `Config` of the run, of which `eval_every`, `eval_images` and `seed`
            count here.

    Raises:
        InputError: When there are fewer than 4 real images.
    """

    def __init__(self, real, config):
        super().__init__()
        self.every = config.eval_every
        self.num_images = config.eval_images
        self.seed = config.seed
        if len(real) < 4:
            raise InputError(
                "eval_every: measures need 4 images or more to compare with; there are "
                f"{len(real)}; use 0"
            )
        chosen = np.random.default_rng(config.seed).permutation(len(real))
        self.real = real[chosen[: 2 * config.eval_images]]
        self._extract = load_extractor(EXTRACTOR, real.shape[1:])
        self._features = self._extract(self.real)

    def on_epoch_end(self, epoch, logs=None):
        logs["kid"] = logs["swd"] = float("nan")
        last = epoch + 1 == self.params["epochs"]
        if (epoch + 1) % self.every and not last:
            return
        images = to_uint8(
            self.model.generate_images(
                self.num_images,
                sampler="dpmpp",
                eta=1.0,
                seed=self.seed,
                verbose=0,
            )
        )
        logs["kid"] = kernel_distance(self._features, self._extract(images)).mean
        n = min(len(images), len(self.real))
        logs["swd"] = sliced_wasserstein(self.real[:n], images[:n])["mean"]


class Checkpoints(keras.callbacks.Callback):
    """Saves a run so that it can go on from any step, and its weights for sampling.

    Put it behind `Log`, whose row of an epoch must be there when the epoch's
    checkpoint is made, and before callbacks that a signal may cut short.

    Args:
        folder: The run's folder: `checkpoints`, `weights.safetensors` and
            `best.safetensors` go there. The best are those of the lowest `kid`, or
            `val_loss` where that is not measured.
        config: The `Config` of the run, of which `save_every` and `keep` count here.
        steps_per_epoch: Steps of an epoch.
        first_step: Steps done before this training.
        facts: A dict of plain JSON that belongs to every checkpoint.
        stop: An entered `StopSignal`. Default: one that never comes.

    Raises:
        Stopped: From `fit`, after a signal; `save` is still to be called.
        RunError: From `fit`, when no update has been finite for a while, when saving
            failed three times in a row, or when the last save failed.
    """

    PATIENCE = 10  # steps without a finite update

    def __init__(
        self, folder, config, steps_per_epoch, first_step=0, facts=None, stop=None
    ):
        super().__init__()
        self.folder = Path(folder)
        self.config = config
        self.steps_per_epoch = steps_per_epoch
        self.step = first_step
        self.saved_step = first_step
        self.facts = {"best": None, **(facts or {})}
        self.stop = stop or StopSignal()
        self._saved_time = time.monotonic()
        self._failures = 0  # checkpoints in a row that could not be saved
        self._patience = min(self.PATIENCE, steps_per_epoch)
        self._metrics = None
        self._cut_short = contextlib.ExitStack()

    def on_train_begin(self, logs=None):
        if self.step % self.steps_per_epoch:  # within an epoch: its running means count
            variables = self.model.metrics_variables
            self._metrics = [keras.ops.convert_to_numpy(v.value) for v in variables]
        self._cut_short.enter_context(self.stop.stoppable())

    def on_epoch_begin(self, epoch, logs=None):
        self._cut_short.close()
        if self._metrics is not None:  # Keras has just reset them
            variables = self.model.metrics_variables
            for variable, value in zip(variables, self._metrics, strict=True):
                variable.assign(value)
            self._metrics = None

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self.step % self._patience == 0:
            # Where variables lag, to bring them up to date takes time: gradients that
            # alone are not finite wait for the end of the epoch.
            if not variables_lag_in_fit() or not np.isfinite(float(logs["loss"])):
                sync_variables(self.model)
                self._refuse_divergence(logs)
        if self.step % self.steps_per_epoch:  # else `on_epoch_end` follows
            self.stop.check()
            if self._is_due():
                self.save()

    def on_epoch_end(self, epoch, logs=None):
        self._refuse_divergence(logs)
        self._keep_best(logs)
        last = epoch + 1 == self.params["epochs"]
        if last or self._is_due():
            self.save(last)
        # What other callbacks do before the next epoch changes nothing: a signal need
        # not wait for it.
        self._cut_short.enter_context(self.stop.stoppable())

    def on_train_end(self, logs=None):
        self._cut_short.close()

    def save(self, last=False):
        """Save now, unless this step is saved; `last` makes a failure an error."""
        if self.step == self.saved_step:
            return
        try:
            self._save()
            self._failures = 0
        except (RunError, OSError) as error:  # a full disk may have room next time
            self._failures += 1
            if last or self._failures == 3:
                raise RunError(f"{error}; make room and go on with --resume") from error
            warn(f"{error}; training goes on")
        self._saved_time = time.monotonic()

    def _keep_best(self, logs):
        measure = "kid" if "kid" in logs else "val_loss"
        value, best = float(logs.get(measure, np.nan)), self.facts["best"]
        # After a change of the measure its first value is the best.
        same = best is not None and best["measure"] == measure
        better = not same or value < best["value"]
        if np.isfinite(value) and better:
            try:
                self._save_weights(BEST_WEIGHTS)
                self.facts["best"] = {"measure": measure, "value": value}
            except (RunError, OSError) as error:
                warn(f"{error}; training goes on")

    def _is_due(self):
        every = self.config.save_every
        if isinstance(every, int):
            return self.step % every == 0
        minutes = int(every.removesuffix("min"))
        return time.monotonic() - self._saved_time >= 60 * minutes

    def _save(self):
        arrays = state_arrays(self.model)
        save(self.folder, self.step, arrays, self.facts, self.config.keep)
        self._save_weights(RUN_WEIGHTS)
        self.saved_step = self.step

    def _save_weights(self, name):
        save_weights(self.model.ema_network, self.folder / name, self.config)

    def _refuse_divergence(self, logs):
        loss, optimizer = float(logs["loss"]), self.model.optimizer
        if isinstance(optimizer, SkipNonFinite):
            skipped = optimizer.skipped_in_a_row
            if skipped < self._patience:
                return
            problem = f"{skipped} steps in a row had no finite gradients"
        else:  # Keras' scaling of float16, which halves its scale with each such step
            scale = float(read_variable(optimizer.dynamic_scale))
            if scale >= 1.0:
                return
            problem = f"no gradients are finite, even with a loss scale of {scale:.3g}"
        rate = float(read_variable(optimizer.learning_rate))
        raise RunError(
            f"step {self.step}: {problem}; nothing was changed (loss {loss:.3g}, "
            f"learning_rate {rate:.3g}); go on from the last checkpoint with --resume "
            "and a lower --learning_rate"
        )
