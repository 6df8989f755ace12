"""Progress of a training: the epoch, the loss and the time that is left."""

import keras

from ddpm_keras.progress import Progress


class TrainingProgress(keras.callbacks.Callback):
    """Shows how far a training is, from its first step to its last.

    It may serve several calls of `fit`, one after another.

    Args:
        steps_per_epoch: Steps per epoch.
        num_epochs: Number of epochs.
        first_step: Steps completed before.
    """

    def __init__(self, steps_per_epoch, num_epochs, first_step=0):
        super().__init__()
        self.steps_per_epoch = steps_per_epoch
        self.num_epochs = num_epochs
        self.step = first_step
        total = steps_per_epoch * num_epochs
        self._progress = Progress("training", total, "steps", first_step)
        self._measured = {}  # at the end of the last epoch

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        self._progress.update(self.step, lambda: self._note(logs))

    def on_epoch_end(self, epoch, logs=None):
        self._measured = {k: v for k, v in logs.items() if k in ("val_loss", "kid")}

    def close(self):
        """End the line of a bar."""
        self._progress.close()

    def _note(self, logs):
        epoch = -(-self.step // self.steps_per_epoch)
        values = {"loss": logs["loss"], **self._measured}
        shown = [f"{name} {float(value):.4f}" for name, value in values.items()]
        return ", ".join([f"epoch {epoch:,} of {self.num_epochs:,}", *shown])
