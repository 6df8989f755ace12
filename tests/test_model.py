"""Training: the recipe's steps, Keras' promises, saving, sampling from the average."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from keras import ops

from ddpm_keras.data.pixels import make_grid
from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.model import DiffusionModel
from ddpm_keras.networks.layers import TimeEmbedding
from ddpm_keras.networks.normalization import GroupNormalization
from ddpm_keras.networks.unet import build_unet

# On TensorFlow XLA takes half a minute to compile a U-Net's training step for the CPU.
JIT = keras.backend.backend() == "jax"


class GivenNoise(DiffusionModel):
    """Is given the noise too: batches are `(images, {"t": t, "noise": noise})`."""

    def add_noise(self, data, seeds, training=True):
        images, given, _ = keras.utils.unpack_x_y_sample_weight(data)
        noisy_images = self.diffusion.q_sample(images, given["t"], given["noise"])
        return (noisy_images, given["t"]), given["noise"], None


class Batches(keras.utils.PyDataset):
    """The same batches, in the same order, each time it is read."""

    def __init__(self, *batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


@pytest.fixture(scope="module")
def images():
    """Three batches of four clean images."""
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (3, 4, 8, 8, 3)).astype("float32")


@pytest.fixture(scope="module")
def make_model(make_network):
    """A function that makes a small model and compiles it."""

    def make(cls=DiffusionModel, loss="mse", optimizer="adam", **options):
        options = {"ema": 0.9, "seed": 0, "ema_warmup_power": None} | options
        model = cls(make_network(), None, GaussianDiffusion(timesteps=20), **options)
        model.compile(loss=loss, optimizer=optimizer, jit_compile=JIT)
        return model

    return make


def train(model, batch):
    """The loss of one step."""
    model.reset_metrics()
    return float(model.train_on_batch(*batch))


def assert_weights_equal(network, other, tolerance=0.0):
    pairs = zip(network.get_weights(), other.get_weights(), strict=True)
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def given_batch(images, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    noise = scale * rng.normal(size=images.shape).astype("float32")
    return images, {"t": rng.integers(0, 20, len(images)), "noise": noise}


def noise_and_prediction(model, network, batch):
    images, given = batch
    noisy_images = model.diffusion.q_sample(images, given["t"], given["noise"])
    t = ops.convert_to_tensor(given["t"])
    pred_noise = network([noisy_images, t], training=False)
    return given["noise"], ops.convert_to_numpy(pred_noise)


def test_five_steps_match_keras2(golden, numbered):
    keras2 = golden("train_tiny")
    network = build_unet(
        img_size=16,
        first_conv_channels=16,
        channel_multiplier=(1, 2),
        has_attention=(False, True),
        num_res_blocks=1,
    )
    network.set_weights(numbered(keras2, "start"))
    ema = float(keras2["ema"])
    model = GivenNoise(
        network, None, GaussianDiffusion(), ema=ema, ema_warmup_power=None
    )
    optimizer = keras.optimizers.Adam(float(keras2["learning_rate"]))
    model.compile(loss="mean_squared_error", optimizer=optimizer, jit_compile=JIT)

    steps = zip(keras2["images"], keras2["t"], keras2["noise"], strict=True)
    losses = [train(model, (x, {"t": t, "noise": z})) for x, t, z in steps]
    np.testing.assert_allclose(losses, keras2["losses"], rtol=0, atol=1e-5)
    for network, prefix in ((model.network, "net"), (model.ema_network, "ema")):
        pairs = zip(network.get_weights(), numbered(keras2, prefix), strict=True)
        for found, expected in pairs:
            np.testing.assert_allclose(found, expected, rtol=0, atol=5e-6)


def test_add_noise_is_q_sample_of_uniform_timesteps_and_normal_noise(make_model):
    model = make_model()
    images = np.random.default_rng(0).uniform(-1, 1, (4000, 2, 2, 3))
    (noisy_images, t), noise, _ = model.add_noise((images,), model.train_seeds)
    expected = model.diffusion.q_sample(images.astype("float32"), t, noise)
    np.testing.assert_allclose(
        ops.convert_to_numpy(noisy_images), ops.convert_to_numpy(expected), atol=1e-6
    )
    # 200 of each are expected, with a standard deviation of 14.
    counts = np.bincount(ops.convert_to_numpy(t), minlength=20)
    assert len(counts) == 20
    assert counts.min() > 130 and counts.max() < 270
    # 48,000 draws: standard errors are 0.005 and 0.0065.
    noise = ops.convert_to_numpy(noise)
    assert abs(noise.mean()) < 0.02
    assert abs(noise.var() - 1) < 0.03


def test_each_step_draws_anew(make_model, images):
    model = make_model(optimizer=keras.optimizers.SGD(0.0))
    losses = [train(model, (images[0],)) for _ in range(4)]
    assert len(set(losses)) == 4


@pytest.mark.parametrize(
    "loss, formula",
    [
        ("mean_squared_error", lambda e: e**2),
        ("mean_absolute_error", np.abs),
        ("huber", lambda e: np.where(np.abs(e) < 1, e**2 / 2, np.abs(e) - 0.5)),
        (keras.losses.MeanSquaredError(), lambda e: e**2),
    ],
    ids=["mse", "mae", "huber", "object"],
)
def test_loss_is_of_noise_and_prediction(make_model, images, loss, formula):
    model = make_model(GivenNoise, loss=loss)
    batch = given_batch(images[0])
    noise, pred_noise = noise_and_prediction(model, model.network, batch)
    found = train(model, batch)
    np.testing.assert_allclose(found, formula(noise - pred_noise).mean(), rtol=1e-5)
    _, after = noise_and_prediction(model, model.network, batch)
    assert formula(noise - after).mean() < found


def test_logged_loss_is_the_mean_of_the_epoch(make_model, images):
    model = make_model(GivenNoise, optimizer=keras.optimizers.SGD(0.0))
    batches = [
        given_batch(x, scale) for x, scale in zip(images, (1, 2, 3), strict=True)
    ]
    losses = []
    for batch in batches:
        noise, pred_noise = noise_and_prediction(model, model.network, batch)
        losses.append(((noise - pred_noise) ** 2).mean())
    assert abs(np.mean(losses) / losses[-1] - 1) > 0.2  # the last batch is another
    history = model.fit(Batches(*batches), shuffle=False, epochs=2, verbose=0).history
    np.testing.assert_allclose(history["loss"], [np.mean(losses)] * 2, rtol=1e-5)


def test_fit_takes_the_steps_of_train_on_batch(make_model, images):
    """On JAX they carry the state in different ways."""
    fitted, stepped = make_model(), make_model()
    history = fitted.fit(
        Batches(*((x,) for x in images)), shuffle=False, epochs=2, verbose=0
    ).history
    losses = [train(stepped, (x,)) for x in (*images, *images)]
    np.testing.assert_allclose(
        history["loss"], [np.mean(losses[:3]), np.mean(losses[3:])], rtol=1e-5
    )
    assert_weights_equal(fitted.network, stepped.network, 1e-6)
    assert_weights_equal(fitted.ema_network, stepped.ema_network, 1e-6)


def test_fit_takes_arrays(make_model, images):
    model = make_model()
    history = model.fit(images[0], batch_size=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_average_follows_the_network(make_model, images):
    model = make_model(ema=0.75)
    averages = model.ema_network.get_weights()
    for batch in images:
        train(model, (batch,))
        weights = model.network.get_weights()
        averages = [
            0.75 * average + 0.25 * weight
            for average, weight in zip(averages, weights, strict=True)
        ]
    for found, expected in zip(model.ema_network.get_weights(), averages, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    changes = [
        np.abs(average - weight).max()
        for average, weight in zip(averages, weights, strict=True)
    ]
    assert max(changes) > 1e-4


def test_average_is_frozen(make_model):
    model = make_model()
    trainable = {id(v) for v in model.trainable_variables}
    assert trainable == {id(v) for v in model.network.trainable_variables}
    assert not model.ema_network.trainable_variables
    # Adam: two slots for each weight, the step number and the learning rate.
    assert len(model.optimizer.inner_optimizer.variables) == 2 * len(trainable) + 2


def test_average_starts_equal(make_network):
    network = make_network()
    model = DiffusionModel(network, None, GaussianDiffusion())
    assert model.network is network
    assert model.ema_network is not network
    assert_weights_equal(model.ema_network, network)


def test_given_average_is_used_as_it_is(make_network):
    ema_network = make_network(seed=1)
    before = ema_network.get_weights()
    model = DiffusionModel(make_network(seed=0), ema_network, GaussianDiffusion())
    assert model.ema_network is ema_network
    for found, expected in zip(ema_network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_evaluate_is_of_the_average_and_repeats(make_model, make_network, images):
    model = make_model()
    data = Batches(*((x,) for x in images))
    first = model.evaluate(data, verbose=0)
    train(model, (images[0],))  # moves both networks, and the training's seeds
    model.ema_network.set_weights(make_network().get_weights())
    assert model.evaluate(data, verbose=0) == first
    model.network.set_weights(make_network(seed=1).get_weights())
    assert model.evaluate(data, verbose=0) == first
    model.ema_network.set_weights(make_network(seed=1).get_weights())
    assert abs(model.evaluate(data, verbose=0) - first) > 1e-3 * first


def test_evaluate_computes_the_loss_of_the_average(make_model, make_network, images):
    model = make_model(GivenNoise)
    model.ema_network.set_weights(make_network(seed=1).get_weights())
    batch = given_batch(images[0])
    noise, pred_noise = noise_and_prediction(model, model.ema_network, batch)
    found = model.evaluate(Batches(batch), verbose=0)
    np.testing.assert_allclose(found, ((noise - pred_noise) ** 2).mean(), rtol=1e-5)


def test_validation_repeats_its_noise_every_epoch(make_model, images):
    model = make_model(optimizer=keras.optimizers.SGD(0.0))
    history = model.fit(
        Batches((images[0],)),
        validation_data=Batches((images[1],)),
        epochs=2,
        verbose=0,
    ).history
    assert history["loss"][0] != history["loss"][1]
    # The same, but for 0.9 w + 0.1 w in the average, which rounds.
    np.testing.assert_allclose(history["val_loss"], history["val_loss"][0], rtol=1e-5)
    again = model.evaluate(Batches((images[1],)), verbose=0)
    np.testing.assert_allclose(again, history["val_loss"][1], rtol=1e-5)


def test_same_seed_trains_the_same(make_model, images):
    models = [make_model(seed=seed) for seed in (5, 5, 6)]
    losses = [[train(model, (x,)) for x in images] for model in models]
    assert losses[0] == losses[1]
    assert_weights_equal(models[0].network, models[1].network)
    assert_weights_equal(models[0].ema_network, models[1].ema_network)
    assert not set(losses[0]) & set(losses[2])


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains(make_model, images, set_policy, policy):
    expected = train(make_model(), (images[0],))
    set_policy(policy)
    model = make_model()
    assert {w.dtype for w in model.network.weights} == {"float32"}
    np.testing.assert_allclose(train(model, (images[0],)), expected, rtol=0.02)
    before = model.ema_network.get_weights()
    assert np.isfinite([train(model, (x,)) for x in images]).all()
    after = model.ema_network.get_weights()
    assert any((a != b).any() for a, b in zip(after, before, strict=True))
    assert all(np.isfinite(a).all() for a in after)


def small_network():
    """As small as can be with a normalisation: TensorFlow takes long to compile."""
    image, t = keras.Input((8, 8, 3)), keras.Input((), dtype="int32")
    x = keras.layers.Dense(4)(image) + TimeEmbedding(4)(t)[:, None, None, :]
    x = keras.layers.Dense(3, dtype="float32")(GroupNormalization(2)(x))
    return keras.Model([image, t], x)


@pytest.mark.skipif(JIT, reason="the other tests compile with XLA there")
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("unet", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_xla_trains(make_tiny_unet, images, set_policy, policy, unet):
    """XLA refuses whatever would leave the device in the middle of a step."""
    set_policy(policy)
    network = make_tiny_unet() if unet else small_network()
    model = DiffusionModel(network, ema=0.5, ema_warmup_power=None)
    model.compile(loss="mse", optimizer="adam", jit_compile=True)
    before = network.get_weights()
    assert np.isfinite(train(model, (images[0],)))
    after, averages = network.get_weights(), model.ema_network.get_weights()
    assert any((a != b).any() for a, b in zip(after, before, strict=True))
    for start, end, average in zip(before, after, averages, strict=True):
        np.testing.assert_allclose(average, (start + end) / 2, atol=1e-6)


@pytest.mark.parametrize("epochs_before_saving", [0, 1])
def test_loaded_model_trains_on_as_if_never_saved(
    make_model, images, tmp_path, epochs_before_saving
):
    model = make_model()
    data = Batches(*((x,) for x in images))
    if epochs_before_saving:
        model.fit(data, shuffle=False, epochs=epochs_before_saving, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is DiffusionModel
    assert (loaded.ema, loaded.seed) == (model.ema, model.seed)
    assert loaded.diffusion.get_config() == model.diffusion.get_config()
    assert_weights_equal(loaded.network, model.network)
    assert_weights_equal(loaded.ema_network, model.ema_network)
    pairs = zip(loaded.optimizer.variables, model.optimizer.variables, strict=True)
    for found, expected in pairs:
        np.testing.assert_array_equal(
            ops.convert_to_numpy(found), ops.convert_to_numpy(expected)
        )
    losses = [[train(m, (x,)) for x in images] for m in (loaded, model)]
    assert losses[0] == losses[1]
    assert_weights_equal(loaded.network, model.network)
    assert_weights_equal(loaded.ema_network, model.ema_network)


def test_unet_survives_saving_in_a_model(make_tiny_unet, randomise, tmp_path):
    network = randomise(make_tiny_unet(channel_multiplier=(1,), has_attention=(True,)))
    model = DiffusionModel(network, None, GaussianDiffusion(timesteps=20))
    randomise(model.ema_network, seed=1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    t = np.array([3, 12])
    for training in (True, False):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(loaded([x, t], training=training)),
            ops.convert_to_numpy(model([x, t], training=training)),
        )
    assert loaded.ema_network.trainable is False


def test_models_of_0_1_0_go_on_without_warm_up(make_network):
    config = DiffusionModel(make_network()).get_config()
    assert config.pop("ema_warmup_power") == 0.75
    assert DiffusionModel.from_config(config).ema_warmup_power is None


def test_generate_images_samples_the_average(make_model, make_network):
    model = make_model()
    options = dict(num_images=3, sampler="ddim", steps=4, seed=0, verbose=0)
    first = model.generate_images(**options)
    assert first.shape == (3, 8, 8, 3)
    assert first.dtype == np.float32
    assert np.abs(first).max() <= 1.0
    assert first.std() > 0.05
    model.network.set_weights(make_network(seed=1).get_weights())
    np.testing.assert_array_equal(model.generate_images(**options), first)
    model.ema_network.set_weights(make_network(seed=1).get_weights())
    assert np.abs(model.generate_images(**options) - first).max() > 1e-2


def test_plot_images_shows_and_returns_a_grid(make_model, monkeypatch):
    model, shown = make_model(), []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gcf()))
    options = dict(sampler="ddim", steps=2, seed=7, verbose=0)
    figure = model.plot_images(
        epoch=4, logs={"loss": 1.0}, num_rows=2, num_cols=3, figsize=(6, 4), **options
    )
    assert shown == [figure]
    assert tuple(figure.get_size_inches()) == (6, 4)
    (axes,) = figure.axes
    assert axes.get_title() == "epoch 5"
    expected = make_grid(model.generate_images(6, **options), num_cols=3)
    np.testing.assert_array_equal(axes.images[0].get_array(), expected)
    assert axes.images[0].get_clim() == (0, 255)  # of grey images, whatever is in them
    assert not plt.get_fignums()  # a training would leave one of every epoch


def test_same_network_twice_raises(make_network):
    network = make_network()
    with pytest.raises(ValueError, match="Received: ema_network='"):
        DiffusionModel(network, network, GaussianDiffusion())


def test_networks_of_different_shapes_raise(make_network):
    network, other = make_network(), make_network(img_channels=1)
    received = f"network='{network.count_params():,} parameters', ema_network="
    with pytest.raises(ValueError, match=f"Received: {received}"):
        DiffusionModel(network, other, GaussianDiffusion())


def test_network_alone_is_enough(make_network):
    network = make_network()
    model = DiffusionModel(network, diffusion=GaussianDiffusion(timesteps=10))
    assert model.diffusion.timesteps == 10
    assert DiffusionModel(network).diffusion.timesteps == 1000
    assert_weights_equal(model.ema_network, network)
    with pytest.raises(ValueError, match="name the diffusion, as in"):
        DiffusionModel(network, GaussianDiffusion())


@pytest.mark.parametrize("ema", [-0.1, 1.0])
def test_wrong_ema_raises(make_network, ema):
    with pytest.raises(ValueError, match=rf"`ema`.*Received: ema={ema}$"):
        DiffusionModel(make_network(), None, GaussianDiffusion(), ema=ema)


def test_integer_images_raise(make_network):
    model = DiffusionModel(make_network(), None, GaussianDiffusion(timesteps=20))
    model.compile(loss="mean_squared_error", optimizer="adam")
    images = np.full((2, *model.network.output.shape[1:]), 128, "uint8")
    # JAX adds lines of its own behind the message.
    with pytest.raises(ValueError, match="Received: dtype='uint8'(\n|$)"):
        model.fit(images, batch_size=2, verbose=0)
