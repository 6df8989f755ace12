"""A training run: from a configuration to trained weights in a run folder."""

import contextlib
import dataclasses
import shlex
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np

from ddpm_keras.config import Config
from ddpm_keras.data import load_images
from ddpm_keras.data.batches import (
    check_fills_batch,
    make_batches,
    make_validation_batches,
)
from ddpm_keras.data.images import Images, split_indices
from ddpm_keras.devices import (
    check_same_step,
    count_cores,
    distributed,
    host_share,
    join_hosts,
    kernel_settings,
)
from ddpm_keras.errors import InputError, RunError, warn
from ddpm_keras.files import written_whole
from ddpm_keras.model import DiffusionModel
from ddpm_keras.runs import checkpoint
from ddpm_keras.runs.attempts import Attempts
from ddpm_keras.runs.build import build_model, check_names, has_fixed_rate
from ddpm_keras.runs.callbacks import Checkpoints, training_images
from ddpm_keras.runs.folder import (
    SKIPPED,
    check_same_run,
    remove_leftovers,
    write_config,
)
from ddpm_keras.runs.grids import SampleGrid
from ddpm_keras.runs.log import Log, open_log
from ddpm_keras.runs.measures import MeasureSamples
from ddpm_keras.runs.progress import TrainingProgress
from ddpm_keras.runs.report import REPORT, Report, write_report
from ddpm_keras.runs.state import load_state
from ddpm_keras.runs.stop_signal import Stopped, StopSignal
from ddpm_keras.samplers import configured_options
from ddpm_keras.weights import RUN_WEIGHTS, load_weights, save_weights

# With fewer held-out images, metrics compare samples with the training images.
LEAST_HELD_OUT = 16


def train(config, folder):
    """Train in a run folder, from its newest checkpoint if there is one.

    Args:
        config: The `Config` of the run.
        folder: The run folder, made by `runs.folder` and locked.

    Returns:
        The exit status: 0, or 128 plus the number of the signal that stopped the run.

    Raises:
        InputError: When the data, keys or checkpoints cannot be used.
        RunError: When training diverges, or saving fails repeatedly.
    """
    join_hosts()
    check_names(config)
    images = load_images(config)
    if config.class_labels:
        config = config.model_copy(update={"class_names": list(images.names)})
        print(f"classes: {len(images.names):,}")
    training, held_out = split_indices(images.ids, config.validation_fraction)
    print(f"data: {len(training):,} images to train on, {len(held_out):,} held out")
    check_fills_batch(len(training), config.batch_size)
    with distributed(config.batch_size, config.distribute) as num_devices:
        if num_devices > 1:
            print(f"devices: {num_devices}, sharing each batch")
        num_steps = len(training) // config.batch_size * config.num_epochs
        model = build_model(config, num_steps)
        print(f"network: {model.network.count_params():,} parameters")
        print(f"run: {folder}")
        return Run(config, folder, model, images, training, held_out).train()


@dataclasses.dataclass
class Run:
    """A run with its data loaded and its model built.

    Attributes:
        config: The `Config`.
        folder: The run folder.
        model: The compiled `DiffusionModel`.
        images: All `Images`.
        training: Indices of the training images.
        held_out: Indices of the held-out images.
    """

    config: Config
    folder: Path
    model: DiffusionModel
    images: Images
    training: np.ndarray
    held_out: np.ndarray

    @property
    def steps_per_epoch(self):
        return len(self.training) // self.config.batch_size

    @property
    def last_step(self):
        return self.steps_per_epoch * self.config.num_epochs

    def train(self):
        """Train from the newest checkpoint to the end; return the exit status."""
        first_step, facts = self.restore()
        if self.config.initial_weights and not first_step:
            load_weights(self.model.network, self.config.initial_weights)
            self.model.ema_network.set_weights(self.model.network.get_weights())
        write_config(self.folder, self.config)  # not before: a refusal changes nothing
        if skipped := self.images.skipped:
            with written_whole(self.folder / SKIPPED) as file:
                file.write_text("\n".join(skipped) + "\n", encoding="utf-8")
        epochs_done, steps_done = divmod(first_step, self.steps_per_epoch)
        log_path = self.folder / "log.csv"
        facts["log"] = open_log(log_path, epochs_done, facts.get("log"))
        self.grids = SampleGrid(
            self.folder / "samples",
            every=self.config.sample_every,
            num_images=self.config.num_samples,
            seed=self.config.seed,
            epochs_done=epochs_done,
            at_boundary=not steps_done,
            class_names=self.config.class_names or (),
            guidance_scale=self.config.sample_guidance_scale,
            **configured_options(self.config),
        )
        if first_step >= self.last_step:
            self.complete(facts)
            return 0
        if first_step:
            print(f"resumed: after step {first_step:,} of {self.last_step:,}")
            if has_fixed_rate(self.config):
                self.model.optimizer.learning_rate = self.config.learning_rate
        with StopSignal() as stop:
            size = self.steps_per_epoch
            checkpoints = Checkpoints(
                self.folder, self.config, size, first_step, facts, stop
            )
            try:
                with contextlib.closing(self.progress(first_step)) as progress:
                    self.fit(first_step, [*self.callbacks(checkpoints), progress])
            except RunError:  # of `checkpoints`: diverged, or out of room
                raise
            except Stopped as stopped:
                checkpoints.save(last=True)
                if not checkpoints.step:  # then there is nothing to resume
                    return stopped.status
                print(
                    f"stopped: after step {checkpoints.step:,} of {self.last_step:,}; "
                    "resume with: ddpm-train --run-dir "
                    f"{shlex.quote(str(self.folder))} --resume"
                )
                return stopped.status
            except BaseException:
                checkpoints.rescue()
                raise
        print(f"weights: {self.folder / RUN_WEIGHTS}")
        if self.config.sample_every:
            print(f"samples: {self.grids.path(self.config.num_epochs)}")
        print(f"report: {self.folder / REPORT}")
        return 0

    def restore(self):
        """Set the model to the newest checkpoint, if there is one.

        Returns:
            The number of steps completed, and facts for the next checkpoints: the hash
            and number of the images, the machine, the best value so far, the
            configuration and the lines of the log.

        Raises:
            InputError: When the checkpoints are damaged, belong to other images or keys
                or another model, or differ in step between hosts.
        """
        digest = self.images.digest(self.training)
        facts = {
            "images": digest,
            "num_images": len(self.training),
            "machine": _machine(),
            "best": None,
            "config": self.config.model_dump(),
        }
        remove_leftovers(self.folder)
        found = checkpoint.restore(self.folder, warn=warn)
        check_same_step(found[0] if found else 0)
        if found is None:
            return 0, facts
        step, arrays, before = found
        if "config" in before:  # else an earlier version wrote it
            check_same_run(self.folder, before["config"], self.config)
        if before["images"] != facts["images"]:
            raise InputError(
                f"--resume: the training images are not those that {self.folder} was "
                "begun with; bring those back, or start a new run"
            )
        load_state(self.model, arrays)
        was, now = before["machine"], facts["machine"]
        # Earlier versions kept fewer of them.
        changed = [key for key in now if key in was and was[key] != now[key]]
        other = [f"{key} {was[key]} -> {now[key]}" for key in changed]
        if other:
            warn(f"{', '.join(other)}: the run resumes, but not bit for bit as before")
        return step, {**facts, "best": before["best"], "log": before.get("log")}

    def complete(self, facts):
        """Write what a run killed after its last checkpoint has not written."""
        epochs = self.config.num_epochs
        print(f"nothing to do: {self.folder} has done its {epochs} epochs")
        network, path = self.model.ema_network, self.folder / RUN_WEIGHTS
        images = training_images(facts)
        save_weights(network, path, self.config, training_images=images)
        self.grids.set_model(self.model)
        self.grids.set_params({"epochs": epochs})
        self.grids.on_train_begin()
        with Attempts().attempt(self.folder / REPORT):
            write_report(self.folder)

    def progress(self, first_step):
        """Return the callback that shows how far the training is."""
        size, epochs = self.steps_per_epoch, self.config.num_epochs
        return TrainingProgress(size, epochs, first_step)

    def callbacks(self, checkpoints):
        """Return the callbacks of `fit` in their order of dependence."""
        callbacks = [
            Log(self.folder / "log.csv", checkpoints.facts["log"]),
            checkpoints,
            self.grids,
            Report(self.folder, self.grids, self.images.take(self.training)),
        ]
        if self.config.eval_every:  # before the log, which records its results
            enough = len(self.held_out) >= LEAST_HELD_OUT
            real = self.images.take(self.held_out if enough else self.training)
            measures = MeasureSamples(real, self.config)
            checkpoints.kid_name = measures.name
            callbacks.insert(0, measures)
        if self.config.tensorboard:
            logs = str(self.folder / "tensorboard")
            callbacks.append(keras.callbacks.TensorBoard(logs))
        return callbacks

    def fit(self, first_step, callbacks):
        """Run the remaining steps with Keras' `fit`."""
        epoch, steps_done = divmod(first_step, self.steps_per_epoch)
        steps = self.steps_per_epoch - steps_done
        if steps_done:  # the rest of an epoch, in a `fit` of its own
            self.fit_from(epoch, steps, [*callbacks, _OneEpoch()])
            epoch += 1
        if epoch < self.config.num_epochs:
            self.fit_from(epoch, self.steps_per_epoch, callbacks)

    def fit_from(self, epoch, steps, callbacks):
        """Run `fit`, beginning with the last `steps` steps of an epoch."""
        config = self.config
        batches, _ = make_batches(
            self.images,
            config.batch_size,
            config.num_epochs,
            seed=config.seed,
            random_flip=config.random_flip,
            first_step=self.steps_per_epoch * (epoch + 1) - steps,
            indices=self.training,
            share=host_share(),
        )
        validation = None
        if len(self.held_out):
            validation = make_validation_batches(
                self.images, config.batch_size, self.held_out, host_share()
            )
        self.model.fit(
            batches,
            initial_epoch=epoch,
            epochs=config.num_epochs,
            steps_per_epoch=steps,
            validation_data=validation,
            callbacks=callbacks,
            shuffle=False,  # `make_batches` has shuffled
            verbose=0,  # `TrainingProgress` shows it
        )


class _OneEpoch(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = True


def _machine():
    """Return what may change the last bits of results."""
    packages = ["keras", "numpy", keras.backend.backend()]
    return {
        "backend": keras.backend.backend(),
        "cores": count_cores(),
        **kernel_settings(),
        **{name: version(name) for name in packages},
    }
