"""`DiffusionModel`: trains a network, and samples from the average of its weights."""

import keras
import numpy as np
from keras import ops

from ddpm_keras.backend import StepModel, draw_share, move_towards
from ddpm_keras.data.pixels import make_grid
from ddpm_keras.denoiser import Denoiser
from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.errors import require
from ddpm_keras.optimizers import SkipNonFinite
from ddpm_keras.sampling import ReverseProcess


@keras.saving.register_keras_serializable("ddpm_keras")
class DiffusionModel(StepModel):
    """A denoising diffusion model over a network.

    A training step adds noise to clean images and is from there an ordinary supervised
    Keras step towards `GaussianDiffusion.target`, so that `compile` takes any loss,
    metric and optimizer. The weights of `ema_network` are the exponential moving
    average of the network's; it evaluates and samples.

    `fit` and `evaluate` take batches of clean images in [-1, 1]. Every evaluation uses
    the same noise, so that validation losses can be compared.

    Args:
        network: A `keras.Model` over `[image_input, time_input]` with an output of the
            images' shape, such as `build_unet` returns.
        ema_network: A network of the same weights' shapes, which is frozen. Default: a
            copy of `network`.
        diffusion: The process. Default: `GaussianDiffusion()`, that of the recipe.
        ema: Decay of the average per step, in [0, 1).
        seed: Seed of timesteps and noise in training, an int. Default: a random one.

    Call arguments:
        inputs: `[noisy_images, t]`.
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
            same object, or `ema` is out of range.

    Reference:
        - [Ho et al., 2020](https://arxiv.org/abs/2006.11239), algorithms 1 and 2
    """

    def __init__(
        self,
        network,
        ema_network=None,
        diffusion=None,
        ema=0.999,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        require(
            not isinstance(ema_network, GaussianDiffusion),
            "`ema_network` must be a network or None; name the diffusion, as in "
            "DiffusionModel(network, diffusion=...).",
            ema_network=ema_network,
        )
        if ema_network is None:
            ema_network = keras.models.clone_model(network)
            ema_network.set_weights(network.get_weights())
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
        require(0.0 <= ema < 1.0, "`ema` must be in [0, 1).", ema=ema)
        self.network = network
        self.ema_network = ema_network
        # Frozen before `compile`: the optimizer must not see these weights.
        self.ema_network.trainable = False
        self.diffusion = GaussianDiffusion() if diffusion is None else diffusion
        self.ema = ema
        self.seed = seed
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
        network = self.network if training else self.ema_network
        return network(inputs, training=training)

    def before_step(self, data, training):
        return self.add_noise(data, self.train_seeds if training else self.test_seeds)

    def add_noise(self, data, seeds):
        """Turn a batch of clean images into the data of a supervised Keras step.

        Args:
            data: Images of shape `(batch, height, width, channels)` in [-1, 1].
            seeds: The `keras.random.SeedGenerator` to draw from.

        Returns:
            `((noisy_images, t), target, sample_weight)`: the network's inputs and its
            target.

        Raises:
            ArgumentError: When the images are integers.
        """
        images, _, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        dtype = keras.backend.standardize_dtype(images.dtype)
        require(
            dtype.startswith(("float", "bfloat")),
            "Images must be floats in [-1, 1], such as `images / 127.5 - 1.0` of 8-bit "
            "ones.",
            dtype=dtype,
        )
        images = ops.cast(images, "float32")

        def draw_timesteps(shape):
            return keras.random.randint(shape, 0, self.diffusion.timesteps, seed=seeds)

        def draw_noise(shape):
            return keras.random.normal(shape, dtype="float32", seed=seeds)

        t = draw_share(draw_timesteps, ops.shape(images)[:1])
        noise = draw_share(draw_noise, ops.shape(images))
        noisy_images = self.diffusion.q_sample(images, t, noise)
        target = self.diffusion.target(images, noise, t)
        return (noisy_images, t), target, sample_weight

    def after_update(self):
        """Update the moving averages in `ema_network`."""
        move_towards(self.ema_network.weights, self.network.weights, 1.0 - self.ema)

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
            The `matplotlib.figure.Figure`.
        """
        import matplotlib.pyplot as plt

        images = self.generate_images(num_rows * num_cols, **options)
        figure, axes = plt.subplots(figsize=figsize)
        axes.imshow(make_grid(images, num_cols), cmap="gray")
        axes.axis("off")
        if epoch is not None:
            axes.set_title(f"epoch {epoch + 1}")
        figure.tight_layout()
        plt.show()
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
        }

    @classmethod
    def from_config(cls, config):
        # The EMA network is created as a copy; its weights are loaded afterwards.
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("network", "diffusion")
        }
        return cls(**{**config, **parts})
