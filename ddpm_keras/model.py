"""`DiffusionModel`: trains a network to predict noise, and samples from its average."""

import keras
import numpy as np
from keras import ops

from ddpm_keras.devices import draw_share
from ddpm_keras.images import make_grid
from ddpm_keras.optimizers import SkipNonFinite
from ddpm_keras.reverse import ReverseProcess


@keras.saving.register_keras_serializable("ddpm_keras")
class DiffusionModel(keras.Model):
    """A denoising diffusion model over a noise-predicting network.

    A training step turns clean images into noisy ones; from there it is an ordinary
    supervised Keras step with the noise as the target, so that `compile` takes any
    loss, metric and optimizer. After each step the weights of `ema_network` follow as
    an exponential moving average. That network evaluates and samples.

    `fit` and `evaluate` take batches of clean images in [-1, 1]. Each evaluation uses
    the same noise, so that validation losses can be compared.

    Args:
        network: A `keras.Model` over `[image_input, time_input]` that predicts the
            noise, such as `build_unet` returns.
        ema_network: A second network like it, with equal weights at the start of
            training. `None` makes one. It is frozen here.
        diffusion: A `GaussianDiffusion`.
        ema: Decay of the average, per step.
        seed: Seed of timesteps and noise in training, an int. Default: a random one.

    Call arguments:
        inputs: `[noisy_images, t]`.
        training: Whether `network` answers, or its average.

    Example:

    ```python
    network = build_unet(img_size=64)
    model = DiffusionModel(network, None, GaussianDiffusion())
    model.compile(loss="mean_squared_error", optimizer=keras.optimizers.Adam(2e-4))
    model.fit(images, batch_size=32, epochs=800)
    pictures = model.generate_images(num_images=16, seed=0)
    ```

    Raises:
        ValueError: When the two networks differ, or are the same object.

    Reference:
        - [Ho et al., 2020](https://arxiv.org/abs/2006.11239), algorithms 1 and 2
    """

    def __init__(self, network, ema_network, diffusion, ema=0.999, seed=None, **kwargs):
        super().__init__(**kwargs)
        if ema_network is None:
            ema_network = keras.models.clone_model(network)
            ema_network.set_weights(network.get_weights())
        if ema_network is network:
            raise ValueError(
                "`ema_network` must be a network of its own. "
                "Received: ema_network is network"
            )
        shapes = [tuple(w.shape) for w in network.weights]
        if [tuple(w.shape) for w in ema_network.weights] != shapes:
            raise ValueError(
                "`network` and `ema_network` must have the same weights. "
                f"Received: {network.count_params():,} and "
                f"{ema_network.count_params():,} parameters"
            )
        if not 0.0 <= ema < 1.0:
            raise ValueError(f"`ema` must be in [0, 1). Received: ema={ema}")
        self.network = network
        self.ema_network = ema_network
        # Frozen before `compile`: the optimizer must not see these weights.
        self.ema_network.trainable = False
        self.diffusion = diffusion
        self.ema = ema
        self.seed = seed
        self.train_seeds = keras.random.SeedGenerator(seed)
        self.test_seeds = keras.random.SeedGenerator(0)
        self._reverse_process = None
        self.built = True

    def compile(self, optimizer="rmsprop", loss=None, **kwargs):
        """Keras' `compile`, with an optimizer that leaves out non-finite updates.

        Optimizer, loss and metrics are built at once: with everything there before
        `fit`, the first step is traced only once. `SkipNonFinite` wraps the optimizer,
        unless it scales the loss and so skips by itself, as float16 needs.
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

    def add_noise(self, data, seeds):
        """Turn a batch of clean images into inputs and targets of the network.

        Args:
            data: Images of shape `(batch, height, width, channels)` in [-1, 1].
            seeds: The `keras.random.SeedGenerator` to draw from.

        Returns:
            `((noisy_images, t), noise, sample_weight)`, what a Keras step takes.

        Raises:
            ValueError: When the images are integers.
        """
        images, _, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        dtype = keras.backend.standardize_dtype(images.dtype)
        if not dtype.startswith(("float", "bfloat")):
            raise ValueError(
                "Images must be floats in [-1, 1], such as `images / 127.5 - 1.0` of "
                f"8-bit ones. Received: {dtype}"
            )
        images = ops.cast(images, "float32")
        t = draw_share(
            lambda shape: keras.random.randint(
                shape, 0, self.diffusion.timesteps, seed=seeds
            ),
            ops.shape(images)[:1],
        )
        noise = draw_share(
            lambda shape: keras.random.normal(shape, dtype="float32", seed=seeds),
            ops.shape(images),
        )
        noisy_images = self.diffusion.q_sample(images, t, noise)
        return (noisy_images, t), noise, sample_weight

    def update_ema(self):
        """Move every weight of the EMA network towards its twin in the network."""
        pairs = zip(self.ema_network.weights, self.network.weights, strict=True)
        if keras.backend.backend() == "tensorflow":
            _update_ema_tensorflow(pairs, 1.0 - self.ema)
            return
        for average, weight in pairs:
            average.assign(self.ema * average + (1.0 - self.ema) * weight)

    if keras.backend.backend() == "jax":
        # Keras steps on JAX take the state and return it. `_run` does so for the same
        # two methods that the other backends call as they are.

        def train_step(self, state, data):
            data, state = self._run(self.add_noise, state, data, self.train_seeds)
            logs, state = super().train_step(state, data)
            _, state = self._run(self.update_ema, state)
            return logs, state

        def test_step(self, state, data):
            data, state = self._run(self.add_noise, state, data, self.test_seeds)
            return super().test_step(state, data)

        def _run(self, method, state, *args):
            """Call a method on the variables' values in `state`; return them anew."""
            trainable, non_trainable, *others = state
            mapping = [
                *zip(self.trainable_variables, trainable, strict=True),
                *zip(self.non_trainable_variables, non_trainable, strict=True),
            ]
            with keras.StatelessScope(state_mapping=mapping) as scope:
                result = method(*args)
            non_trainable = [
                scope.get_current_value(v) for v in self.non_trainable_variables
            ]
            return result, (trainable, non_trainable, *others)

    else:

        def train_step(self, data):
            logs = super().train_step(self.add_noise(data, self.train_seeds))
            self.update_ema()
            return logs

        def test_step(self, data):
            return super().test_step(self.add_noise(data, self.test_seeds))

    def evaluate(self, *args, **kwargs):
        """Keras' `evaluate`, with the same timesteps and noise at every call."""
        self.test_seeds.state.assign(np.zeros(2, "uint32"))
        return super().evaluate(*args, **kwargs)

    @property
    def reverse_process(self):
        """The `ReverseProcess` of the EMA network; `run` yields its single steps."""
        if self._reverse_process is None:
            self._reverse_process = ReverseProcess(self.ema_network, self.diffusion)
        return self._reverse_process

    def generate_images(self, num_images=16, **options):
        """Sample images from the EMA network.

        Args:
            num_images: How many.
            **options: Of `ReverseProcess.generate_images`: `sampler`, `steps`, `seed`,
                `batch_size`, `verbose` and so on.

        Returns:
            A float32 NumPy array of shape `(num_images, height, width, channels)`,
            in [-1, 1].
        """
        return self.reverse_process.generate_images(num_images, **options)

    def plot_images(
        self, epoch=None, logs=None, num_rows=2, num_cols=8, figsize=(12, 5), **options
    ):
        """Sample a grid of images and show it with matplotlib.

        Fits `keras.callbacks.LambdaCallback(on_epoch_end=model.plot_images)`.

        Args:
            epoch: Number of the epoch, for the title.
            logs: Unused; what Keras hands to callbacks.
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

    # Keras leaves the state of seed generators out of files: a model that goes on
    # training from one would see the same noise again.

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
        # The EMA network is the network's twin: it is made anew, then its weights load.
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("network", "diffusion")
        }
        return cls(ema_network=None, **{**config, **parts})


def _update_ema_tensorflow(pairs, rate):
    """The same in half of the operations, which trace in half the time.

    The handle is that of the replica at work: every replica moves its own average.
    """
    import tensorflow as tf

    for average, weight in pairs:
        tf.raw_ops.ResourceApplyGradientDescent(
            var=average.value.handle,
            alpha=tf.cast(rate, average.dtype),
            delta=average.value - weight.value,
        )
