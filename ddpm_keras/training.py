"""A run, from its configuration to trained weights, in its folder."""

import hashlib
import sys
from importlib.metadata import version

import keras

from ddpm_keras import checkpoint
from ddpm_keras.build import build_model, check_names
from ddpm_keras.callbacks import Checkpoints, Log, SampleGrid
from ddpm_keras.data import (
    check_fills_batch,
    load_images_and_skipped,
    make_batches,
    make_validation_batches,
    split_images,
)
from ddpm_keras.devices import check_same_step, count_cores, distributed, join_hosts
from ddpm_keras.errors import InputError, warn
from ddpm_keras.files import remove_temporary_files, written_whole
from ddpm_keras.measures.in_training import MeasureSamples
from ddpm_keras.report import REPORT, Report, write_report
from ddpm_keras.run_folder import write_config
from ddpm_keras.samplers import configured_options
from ddpm_keras.stop_signal import Stopped, StopSignal
from ddpm_keras.training_state import load_state
from ddpm_keras.weights import RUN_WEIGHTS, load_weights, save_weights

# With fewer images held out, samples are measured against those to train on.
LEAST_HELD_OUT = 16


def train(config, folder):
    """Train in a run's folder, from its newest checkpoint on if it has one.

    Args:
        config: The `Config` of the run.
        folder: The run's folder, as `run_folder` makes it, locked.

    Returns:
        The exit status: 0, or 128 and the signal that stopped the run.

    Raises:
        InputError: When data or keys are not possible, or the checkpoints are not
            those to go on from.
        RunError: When the training diverges, or nothing can be saved.
    """
    join_hosts()
    check_names(config)
    images, skipped = load_images_and_skipped(config)
    if skipped:
        with written_whole(folder / "skipped_images.txt") as file:
            file.write_text("\n".join(skipped) + "\n", encoding="utf-8")
    images, held_out = split_images(images, config.validation_fraction, config.seed)
    print(f"data: {len(images):,} images to train on, {len(held_out):,} held out")
    check_fills_batch(len(images), config.batch_size)
    with distributed(config.batch_size, config.distribute) as num_devices:
        if num_devices > 1:
            print(f"devices: {num_devices}, sharing each batch")
        model = build_model(config)
        print(f"network: {model.network.count_params():,} parameters")
        print(f"run: {folder}")
        return _go_on(config, folder, model, images, held_out)


def _go_on(config, folder, model, images, held_out):
    """Train a model from the run's newest checkpoint on; return the exit status."""
    facts = {
        "images": hashlib.sha256(images).hexdigest(),
        "machine": _machine(),
        "best": None,
    }
    steps_per_epoch = len(images) // config.batch_size
    last_step = steps_per_epoch * config.num_epochs
    first_step, facts = restore_run(folder, model, facts)
    if config.initial_weights and not first_step:
        load_weights(model.network, config.initial_weights)
        model.ema_network.set_weights(model.network.get_weights())
    write_config(folder, config)  # only now that nothing refuses to go on
    epochs_done, steps_done = divmod(first_step, steps_per_epoch)
    grids = SampleGrid(
        folder / "samples",
        every=config.sample_every,
        num_images=config.num_samples,
        seed=config.seed,
        epochs_done=0 if steps_done else epochs_done,
        **configured_options(config),
    )
    if first_step >= last_step:
        print(f"nothing to do: {folder} has done its {config.num_epochs} epochs")
        # But it may have been killed between its last checkpoint and what follows.
        save_weights(model.ema_network, folder / RUN_WEIGHTS, config)
        grids.set_model(model)
        grids.set_params({"epochs": config.num_epochs})
        grids.on_train_begin()
        write_report(folder)
        return 0
    if first_step:
        print(f"resumed: after step {first_step:,} of {last_step:,}")
        _cut_log(folder / "log.csv", epochs_done)
        if not config.learning_rate_warmup_steps:
            model.optimizer.learning_rate = config.learning_rate

    with StopSignal() as stop:
        checkpoints = Checkpoints(
            folder, config, steps_per_epoch, first_step, facts, stop
        )
        log = Log(str(folder / "log.csv"), append=first_step > 0)
        callbacks = [log, checkpoints, grids, Report(folder, grids)]
        if config.eval_every:  # first: the log takes its figures
            enough = len(held_out) >= LEAST_HELD_OUT
            real = held_out if enough else images
            callbacks.insert(0, MeasureSamples(real, config))
        if config.tensorboard:
            callbacks.append(keras.callbacks.TensorBoard(str(folder / "tensorboard")))
        try:
            fit(model, config, images, held_out, first_step, steps_per_epoch, callbacks)
        except Stopped as stopped:
            checkpoints.save(last=True)
            print(
                f"stopped: after step {checkpoints.step:,} of {last_step:,}; go on "
                f"with: python scripts/train.py --run-dir {folder} --resume"
            )
            return stopped.status
    print(f"weights: {folder / RUN_WEIGHTS}")
    if config.sample_every:
        print(f"samples: {grids.path(config.num_epochs)}")
    print(f"report: {folder / REPORT}")
    return 0


def restore_run(folder, model, facts):
    """Set a model to the newest checkpoint of a run's folder, if there is one.

    Args:
        folder: The run's folder, locked.
        model: A compiled `DiffusionModel`.
        facts: What is true of this start: the images' hash, the machine, no best loss.

    Returns:
        The number of steps done, 0 without a checkpoint, and the facts to go on with.

    Raises:
        InputError: When the checkpoints are damaged, not of these images or model, or
            not of the same step on every host.
    """
    remove_temporary_files(folder)
    found = checkpoint.restore(folder, warn=warn)
    check_same_step(found[0] if found else 0)
    if found is None:
        return 0, facts
    step, arrays, before = found
    if before["images"] != facts["images"]:
        raise InputError(
            f"--resume: the training images are not those that {folder} was begun "
            "with; bring those back, or start a new run"
        )
    load_state(model, arrays)
    was, now = before["machine"], facts["machine"]
    other = [
        f"{key} {was.get(key)} -> {now[key]}" for key in now if was.get(key) != now[key]
    ]
    if other:
        warn(f"{', '.join(other)}: the run goes on, not bit for bit as before")
    return step, {**facts, "best": before["best"]}


def fit(model, config, images, held_out, first_step, steps_per_epoch, callbacks):
    """Keras' `fit` over the steps of a run, from any step on."""
    epoch, steps_done = divmod(first_step, steps_per_epoch)
    validation = None
    if len(held_out):
        validation = make_validation_batches(held_out, config.batch_size)

    def fit_from(epoch, steps, callbacks):
        batches, _ = make_batches(
            images,
            config.batch_size,
            config.num_epochs,
            seed=config.seed,
            random_flip=config.random_flip,
            first_step=steps_per_epoch * (epoch + 1) - steps,
        )
        model.fit(
            batches,
            initial_epoch=epoch,
            epochs=config.num_epochs,
            steps_per_epoch=steps,
            validation_data=validation,
            callbacks=callbacks,
            shuffle=False,  # `make_batches` has done so
            verbose=1 if sys.stdout.isatty() else 2,
        )

    if steps_done:  # the rest of an epoch; Keras can begin one only at its start
        fit_from(epoch, steps_per_epoch - steps_done, [*callbacks, _OneEpoch()])
        epoch += 1
    if epoch < config.num_epochs:
        fit_from(epoch, steps_per_epoch, callbacks)


class _OneEpoch(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = True


def _cut_log(path, epochs):
    """Leave the rows of the first epochs: later ones are run again."""
    if path.exists():
        lines = path.read_bytes().splitlines(keepends=True)
        with written_whole(path) as temporary:
            temporary.write_bytes(b"".join(lines[: 1 + epochs]))


def _machine():
    """What may change results in their last bits."""
    packages = ["keras", "numpy", keras.backend.backend()]
    return {
        "backend": keras.backend.backend(),
        "cores": count_cores(),
        **{name: version(name) for name in packages},
    }
