"""The callback that saves checkpoints and the best weights."""

import contextlib
import time
from pathlib import Path

import keras
import numpy as np

from ddpm_keras.backend import read_in_fit, read_variable, sync_variables
from ddpm_keras.errors import RunError, warn
from ddpm_keras.optimizers import SkipNonFinite
from ddpm_keras.runs.checkpoint import save
from ddpm_keras.runs.state import state_arrays
from ddpm_keras.runs.stop_signal import StopSignal
from ddpm_keras.weights import RUN_WEIGHTS, TrainingImages, save_weights

BEST_WEIGHTS = "best.safetensors"


class Checkpoints(keras.callbacks.Callback):
    """Saver of checkpoints, which can be resumed at any step, and of EMA weights.

    Put it after `Log`, which must write an epoch's row before the epoch's checkpoint,
    and before callbacks that a signal may interrupt.

    Args:
        folder: The run folder, for `checkpoints`, `weights.safetensors` and
            `best.safetensors`: the weights of the lowest `kid`, or else `val_loss`.
        config: The `Config` of the run; uses `save_every` and `keep`.
        steps_per_epoch: Steps per epoch.
        first_step: Steps completed before this training.
        facts: Dict of plain JSON to store in every checkpoint; see `training_images`.
        stop: An entered `StopSignal`. Default: no signal.

    Attributes:
        kid_name: What `kid` is in the logs, as `MeasureSamples.name` says it. The best
            value is forgotten when this changes.

    Whatever ends `fit`, the caller must still call `save` or `rescue`.

    Raises:
        Stopped: From `fit`, after a signal.
        RunError: From `fit`, when too many updates in a row were not finite, when
            saving failed three times in a row, or when the last save failed.
    """

    PATIENCE = 10  # steps without a finite update before training stops, or all

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
        self.kid_name = "kid"
        self._saved_time = time.monotonic()
        self._failures = 0  # in a row
        self._in_step = False
        self._patience = min(self.PATIENCE, steps_per_epoch * config.num_epochs)
        self._metrics = None
        self._cut_short = contextlib.ExitStack()

    def on_train_begin(self, logs=None):
        if self.step % self.steps_per_epoch:  # keep the epoch's running means
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

    def on_train_batch_begin(self, batch, logs=None):
        self._in_step = True

    def on_train_batch_end(self, batch, logs=None):
        self._in_step = False
        self.step += 1
        if self.step % self._patience == 0:
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
        # A signal may interrupt the other callbacks: they do not change the state.
        self._cut_short.enter_context(self.stop.stoppable())

    def on_train_end(self, logs=None):
        self._cut_short.close()

    def save(self, last=False):
        """Save this step unless it is saved; with `last`, a failure is an error."""
        if self.step == self.saved_step:
            return
        try:
            self._save()
            self._failures = 0
        except (RunError, OSError) as error:  # a full disk may have room next time
            self._failures += 1
            if last or self._failures == 3:
                raise RunError(
                    f"{error}; make room and continue with --resume"
                ) from error
            warn(f"{error}; training goes on")
        self._saved_time = time.monotonic()

    def rescue(self):
        """Save this step, if it can be saved, when an unforeseen error has come."""
        if self.step == self.saved_step:
            return
        if self._in_step:  # which may have changed some of the weights already
            warn(f"step {self.step + 1} was not completed, and so nothing is saved")
            return
        try:
            self.save(last=True)
        except Exception as error:
            warn(str(error))
        else:
            warn(f"saved after step {self.step:,}; continue with --resume")

    def _keep_best(self, logs):
        name = "kid" if "kid" in logs else "val_loss"
        value, best = float(logs.get(name, np.nan)), self.facts["best"]
        measure = self.kid_name if name == "kid" else name
        first = best is None or best["measure"] != measure
        if np.isfinite(value) and (first or value < best["value"]):
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
        images = training_images(self.facts)
        network, path = self.model.ema_network, self.folder / name
        save_weights(network, path, self.config, training_images=images)

    def _refuse_divergence(self, logs):
        loss, optimizer = float(logs["loss"]), self.model.optimizer
        if isinstance(optimizer, SkipNonFinite):
            skipped = int(read_in_fit(self.model, optimizer.step_counter))
            if skipped < self._patience:
                return
            problem = f"{skipped} steps in a row had no finite gradients"
        else:  # Keras' loss scaling of float16, halved by each such step
            scale = float(read_in_fit(self.model, optimizer.dynamic_scale))
            if scale >= 1.0:
                return
            problem = f"no gradients are finite, even with a loss scale of {scale:.3g}"
        sync_variables(self.model)
        rate = float(read_variable(optimizer.learning_rate))
        raise RunError(
            f"step {self.step}: {problem}; nothing was changed (loss {loss:.3g}, "
            f"learning_rate {rate:.3g}); go on from the last checkpoint with --resume "
            "and a lower --learning_rate"
        )


def training_images(facts):
    """Return the `TrainingImages` in a run's facts, or `None` if they name none."""
    if "num_images" not in facts:
        return None
    return TrainingImages(facts["num_images"], facts["images"])
