"""`DiffusionModel`: trains a network, and samples from the average of its weights."""

import keras
import numpy as np
from keras import ops

from ddpm_keras.backend import StepModel, move_towards
from ddpm_keras.data.pixels import make_grid
from ddpm_keras.denoiser import Denoiser, takes
from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.errors import renamed, require
from ddpm_keras.first_batch import check_size, look_at
from ddpm_keras.networks.subclassed import declare_inputs
from ddpm_keras.noising import noisy_batch
from ddpm_keras.optimizers import SkipNonFinite
from ddpm_keras.parts import call_in_parts
from ddpm_keras.sampling import ReverseProcess


@keras.saving.register_keras_serializable("ddpm_keras")
class DiffusionModel(StepModel):
    """A denoising diffusion model over a network.

    A training step adds noise to clean images and is from there an ordinary supervised
    Keras step towards `GaussianDiffusion.target`, so that `compile` takes any loss,
    metric and optimizer. The weights of `ema_network` are the exponential moving
    average of the network's; it evaluates and samples.

    `fit` and `evaluate` take batches of clean images in [-1, 1], or `(images, labels)`
    if the network takes labels. Every evaluation uses the same noise, so that
    validation losses can be compared.

    The averaged network is at first as it was initialised. Without `ema_warmup_power`,
    as in the recipe, it stays near that for about 1 / (1 - `ema`) steps: hundreds, in
    which `val_loss` hardly moves from 1 while `loss` falls. Then let `EarlyStopping`
    wait, by its `start_from_epoch`.

    Args:
        network: A `keras.Model` over `[image_input, time_input]`, and `label_input` and
            `augment_input` where it has them, with an output of the images' shape, such
            as `build_unet` returns; with labels, it has a `LabelEmbedding` called
            `label_embedding`. Or a subclass of `keras.Model` that is called on a
            list of the first two, and can be made anew from its `get_config`.
        ema_network: A network of the same weights' shapes, which is frozen. Default: a
            copy of `network`.
        diffusion: The process. Default: `GaussianDiffusion()`, that of the recipe.
        ema: Decay of the average per step, in [0, 1).
        seed: Seed of timesteps and noise in training, an int. Default: a random one.
        snr_gamma: Gamma of the min-SNR weights of `GaussianDiffusion.loss_weights`,
            above 0, for the gradients; the loss that is logged is not weighted, not
            even by a `sample_weight` given to `fit`, so that it compares with other
            runs and, without such weights, with the validation loss. Default: none.
        ema_warmup_power: The decay after k steps is at most 1 - (1 + k)^-power, so that
            the average soon forgets the initial weights. `None` for no warm-up, which
            is the recipe.
        augment: Probability of each change of `augmentation.augment` in training. The
            network must take `augment_input`.
        label_dropout: Share of the labels replaced by "no label" in training, so that
            guidance can do without one.
        image_shape: Height, width and channels of the images, for a subclass of
            `keras.Model` that has not been called yet.

    Call arguments:
        inputs: `[noisy_images, t]`, and the network's other inputs.
        training: Whether to call `network` or `ema_network`.

    Example:

    ```python
    network = build_unet(img_size=64)
    model = DiffusionModel(network, diffusion=GaussianDiffusion())
    model.compile(loss="mean_squared_error", optimizer=keras.optimizers.Adam(2e-4))
    model.fit(images, batch_size=32, epochs=800)
    pictures = model.generate_images(num_images=16, seed=0)
    ```

    Raises:
        ArgumentError: When the networks' weights differ in shape, the networks are the
            same object, or a number is out of range.

    Reference:
        - [Ho et al., 2020](https://arxiv.org/abs/2006.11239), algorithms 1 and 2
        - [Hang et al., 2023](https://arxiv.org/abs/2303.09556), min-SNR weights
        - [Ho and Salimans, 2022](https://arxiv.org/abs/2207.12598), label dropout
        - [Karras et al., 2024](https://arxiv.org/abs/2312.02696), the average's profile
    """

    @renamed(
        gdf_util="is called `diffusion` here",
        timesteps="belong to the diffusion: diffusion=GaussianDiffusion(timesteps=...)",
    )
    def __init__(
        self,
        network,
        ema_network=None,
        diffusion=None,
        ema=0.999,
        seed=None,
        snr_gamma=None,
        ema_warmup_power=0.75,
        augment=0.0,
        label_dropout=0.1,
        image_shape=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        require(
            not isinstance(ema_network, GaussianDiffusion),
            "`ema_network` must be a network or None; name the diffusion, as in "
            "DiffusionModel(network, diffusion=...).",
            ema_network=ema_network,
        )
        require(
            not isinstance(diffusion, int),
            "The third argument is the diffusion, to which the timesteps belong: "
            "DiffusionModel(network, diffusion=GaussianDiffusion(timesteps=...)).",
            diffusion=diffusion,
        )
        network = declare_inputs(network, image_shape)
        if ema_network is None:
            ema_network = keras.models.clone_model(network)
            ema_network.set_weights(network.get_weights())
            ema_network.name = f"{network.name}_ema"  # for `summary`
        ema_network = declare_inputs(ema_network, network.inputs[0].shape[1:])
        require(
            ema_network is not network,
            "`ema_network` must be a network of its own, not `network`.",
            ema_network=ema_network.name,
        )
        shapes = [tuple(w.shape) for w in network.weights]
        require(
            [tuple(w.shape) for w in ema_network.weights] == shapes,
            "`network` and `ema_network` must have the same weights.",
            network=f"{network.count_params():,} parameters",
            ema_network=f"{ema_network.count_params():,} parameters",
        )
        _check_numbers(ema, snr_gamma, ema_warmup_power, augment, label_dropout)
        require(
            not augment or takes(network, "augment_input"),
            "`augment` needs a network that is told of it: build_unet(augment=True).",
            augment=augment,
        )
        self.network = network
        self.ema_network = ema_network
        # Frozen before `compile`: the optimizer must not see these weights.
        self.ema_network.trainable = False
        self.diffusion = GaussianDiffusion() if diffusion is None else diffusion
        self.ema = ema
        self.seed = seed
        self.snr_gamma = snr_gamma
        self.ema_warmup_power = ema_warmup_power
        self.augment = augment
        self.label_dropout = label_dropout
        self.train_seeds = keras.random.SeedGenerator(seed)
        self.test_seeds = keras.random.SeedGenerator(0)
        self._reverse_process = None
        self.built = True

    def compile(self, optimizer="rmsprop", loss=None, **kwargs):
        """Compile as Keras does, with an optimizer that skips non-finite updates.

        `SkipNonFinite` wraps the optimizer, unless it scales the loss for float16 and
        so skips by itself. Optimizer, loss and metrics are built here, so that `fit`
        traces the first step only once.
        """
        optimizer = keras.optimizers.get(optimizer)
        scales = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        if not scales and self.compute_dtype != "float16":
            optimizer = SkipNonFinite(optimizer)
        super().compile(optimizer, loss, **kwargs)
        self.optimizer.build(self.trainable_variables)
        noise = ops.zeros((1, *self.network.output.shape[1:]))
        self.compute_loss(y=noise, y_pred=noise)
        self.compute_metrics(None, noise, noise)
        self.reset_metrics()

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))

    def call(self, inputs, training=False):
        _check_inputs(inputs)
        network = self.network if training else self.ema_network
        return call_in_parts(network, inputs, training)

    def before_step(self, data, training):
        check_size(keras.utils.unpack_x_y_sample_weight(data)[0], self.network)
        return self.add_noise(
            data, self.train_seeds if training else self.test_seeds, training
        )

    def add_noise(self, data, seeds, training=True):
        """Turn a batch of clean images into the data of a supervised Keras step.

        Returns `(inputs, target, sample_weight)`; see `noising.noisy_batch`.
        """
        changes = {}
        if training:
            changes = {
                "augment_probability": self.augment,
                "label_dropout": self.label_dropout,
                "snr_gamma": self.snr_gamma,
            }
        return noisy_batch(data, self.network, self.diffusion, seeds, **changes)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """Compute Keras' loss; min-SNR weights change its gradients, not its value."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not training or self.snr_gamma is None or sample_weight is None:
            return loss
        unweighted = super().compute_loss(x, y, y_pred, None, training)
        return loss + ops.stop_gradient(unweighted - loss)

    def after_update(self):
        """Update the moving averages in `ema_network`."""
        rate = 1.0 - self.ema
        if self.ema_warmup_power is not None:
            steps = ops.cast(self.optimizer.iterations, "float32")
            rate = ops.maximum(rate, (1.0 + steps) ** -self.ema_warmup_power)
        move_towards(self.ema_network.weights, self.network.weights, rate)

    def fit(self, x=None, y=None, *args, **kwargs):
        """Train as Keras does; the first images are checked before, see `look_at`."""
        look_at(x, self.network, y)
        return super().fit(x, y, *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        """Predict as Keras does, with the EMA network, from `[noisy_images, t]`."""
        _check_inputs(x)
        return super().predict(x, *args, **kwargs)

    def export(self, *args, **kwargs):
        """Export the EMA network as Keras does, to be called on `[noisy_images, t]`."""
        # Without a signature Keras refuses a network that was never called.
        kwargs = {"input_signature": [self.ema_network.inputs], **kwargs}
        return self.ema_network.export(*args, **kwargs)

    def evaluate(self, *args, **kwargs):
        """Evaluate as Keras does, with the same timesteps and noise at every call."""
        self.test_seeds.state.assign(np.zeros(2, "uint32"))
        return super().evaluate(*args, **kwargs)

    @property
    def reverse_process(self):
        """The `ReverseProcess` of the EMA network."""
        if self._reverse_process is None:
            denoiser = Denoiser(self.ema_network, self.diffusion)
            self._reverse_process = ReverseProcess(denoiser)
        return self._reverse_process

    def generate_images(self, num_images=16, **options):
        """Sample images with the EMA network: `ReverseProcess.generate_images`.

        Returns:
            A float32 NumPy array of shape `(num_images, height, width, channels)`, in
            [-1, 1].
        """
        return self.reverse_process.generate_images(num_images, **options)

    def plot_images(
        self, epoch=None, logs=None, num_rows=2, num_cols=8, figsize=(12, 5), **options
    ):
        """Sample a grid of images and show it with matplotlib.

        Fits `keras.callbacks.LambdaCallback(on_epoch_end=model.plot_images)`.

        Args:
            epoch: Number of the epoch from 0, for the title.
            logs: Ignored; Keras passes it to callbacks.
            num_rows: Rows of the grid.
            num_cols: Columns of the grid.
            figsize: Size of the figure in inches.
            **options: Of `generate_images`.

        Returns:
            The `matplotlib.figure.Figure`, no longer open in pyplot.
        """
        import matplotlib.pyplot as plt

        images = self.generate_images(num_rows * num_cols, **options)
        figure, axes = plt.subplots(figsize=figsize)
        axes.imshow(make_grid(images, num_cols), cmap="gray", vmin=0, vmax=255)
        axes.axis("off")
        if epoch is not None:
            axes.set_title(f"epoch {epoch + 1}")
        figure.tight_layout()
        plt.show()
        plt.close(figure)  # or pyplot would keep one of every epoch
        return figure

    # Keras does not save the state of seed generators; a loaded model would train on
    # the same noise again.

    def save_own_variables(self, store):
        store["train_seeds"] = ops.convert_to_numpy(self.train_seeds.state)

    def load_own_variables(self, store):
        self.train_seeds.state.assign(np.array(store["train_seeds"]))

    def get_config(self):
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.network),
            "diffusion": keras.saving.serialize_keras_object(self.diffusion),
            "ema": self.ema,
            "seed": self.seed,
            "snr_gamma": self.snr_gamma,
            "ema_warmup_power": self.ema_warmup_power,
            "augment": self.augment,
            "label_dropout": self.label_dropout,
        }

    @classmethod
    def from_config(cls, config):
        # The EMA network is created as a copy; its weights are loaded afterwards.
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("network", "diffusion")
        }
        # Models that 0.1.0 saved have no such entry, and trained without it.
        return cls(**{"ema_warmup_power": None, **config, **parts})


def _check_numbers(ema, snr_gamma, ema_warmup_power, augment, label_dropout):
    require(0.0 <= ema < 1.0, "`ema` must be in [0, 1).", ema=ema)
    require(
        (snr_gamma is None or snr_gamma > 0)
        and (ema_warmup_power is None or ema_warmup_power > 0),
        "`snr_gamma` and `ema_warmup_power` must be above 0, or None.",
        snr_gamma=snr_gamma,
        ema_warmup_power=ema_warmup_power,
    )
    require(
        0.0 <= augment <= 1.0 and 0.0 <= label_dropout < 1.0,
        "`augment` must be in [0, 1], and `label_dropout` in [0, 1).",
        augment=augment,
        label_dropout=label_dropout,
    )


def _check_inputs(inputs):
    require(
        not hasattr(inputs, "shape"),
        "A call or `predict` takes `[noisy_images, t]`, and gives what the EMA network "
        "predicts. To sample images, call `generate_images`; to train, `fit`.",
        shape=tuple(getattr(inputs, "shape", ())),
    )
