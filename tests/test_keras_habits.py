"""What people who know Keras do with a model, and what they are told."""

import inspect
import sys
import warnings

import keras
import numpy as np
import pytest
from keras import ops

from ddpm_keras import errors, saved_classes
from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.errors import ArgumentError
from ddpm_keras.first_batch import look_at
from ddpm_keras.model import DiffusionModel
from ddpm_keras.networks import layers
from ddpm_keras.networks.subclassed import declare_inputs
from ddpm_keras.networks.unet import build_unet

# On TensorFlow XLA takes long to compile a step for the CPU.
JIT = keras.backend.backend() == "jax"


@keras.saving.register_keras_serializable("test_keras_habits")
class OwnNetwork(keras.Model):
    """As people write one: layers in `__init__`, no declared inputs."""

    def __init__(self, width=4, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.conv = keras.layers.Conv2D(width, 3, padding="same", activation="relu")
        self.time = keras.layers.Embedding(20, width)
        self.head = keras.layers.Conv2D(3, 3, padding="same")

    def call(self, inputs):
        images, t = inputs
        return self.head(self.conv(images) + self.time(t)[:, None, None])

    def get_config(self):
        return {**super().get_config(), "width": self.width}


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (4, 8, 8, 3)).astype("float32")


@pytest.fixture(scope="module")
def model(make_network):
    return DiffusionModel(make_network(), diffusion=GaussianDiffusion(timesteps=20))


# Classes in files.


def test_every_class_has_a_placeholder():
    from ddpm_keras import optimizers  # noqa: F401

    registered = keras.saving.get_custom_objects()
    ours = {k: v for k, v in registered.items() if k.startswith("ddpm_keras>")}
    assert {name.partition(">")[2] for name in ours} == set(saved_classes.HOME)
    for name, home in saved_classes.HOME.items():
        real = getattr(sys.modules[f"ddpm_keras.{home}"], name)
        assert ours[f"ddpm_keras>{name}"] is real  # it has taken its place


def test_model_is_loaded_by_placeholders(monkeypatch, make_tiny_unet, tmp_path):
    model = DiffusionModel(make_tiny_unet(), diffusion=GaussianDiffusion(timesteps=5))
    model.compile(loss="mse", optimizer="adam", jit_compile=JIT)
    model.save(tmp_path / "model.keras")
    registered = keras.saving.get_custom_objects()
    for name in saved_classes.HOME:
        monkeypatch.delitem(registered, f"ddpm_keras>{name}")
    saved_classes.register_when_keras_loads()
    assert registered["ddpm_keras>DiffusionModel"] is not DiffusionModel
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is DiffusionModel
    pairs = zip(loaded.get_weights(), model.get_weights(), strict=True)
    assert all(np.array_equal(*pair) for pair in pairs)


# A network of one's own.


def test_subclass_of_a_model_is_trained_sampled_and_saved(images, tmp_path):
    network = OwnNetwork()
    diffusion = GaussianDiffusion(timesteps=20)
    model = DiffusionModel(
        network, diffusion=diffusion, ema=0.5, seed=0, image_shape=(8, 8, 3)
    )
    model.compile(loss="mse", optimizer=keras.optimizers.Adam(0.1), jit_compile=JIT)
    before = network.get_weights()
    model.fit(images, batch_size=2, verbose=0)
    assert any(
        (a != b).any() for a, b in zip(before, network.get_weights(), strict=True)
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    options = {"sampler": "ddim", "steps": 2, "verbose": 0}
    wanted = model.generate_images(2, **options)
    assert wanted.shape == (2, 8, 8, 3)
    np.testing.assert_array_equal(loaded.generate_images(2, **options), wanted)


def test_shape_of_the_images_is_that_of_the_first_call(images, make_network):
    network = OwnNetwork()
    with pytest.raises(ArgumentError, match="give `image_shape`, .* or call it once"):
        declare_inputs(network)
    network([images, np.zeros(4, "int32")])
    assert declare_inputs(network).inputs[0].shape == (None, 8, 8, 3)
    functional = make_network()
    assert declare_inputs(functional) is functional


# What is told.


@pytest.mark.parametrize(
    "scale, shift, told",
    [
        (1.0, 0.0, None),
        (0.5, 0.5, r"in \[0, 1\], and should be in \[-1, 1\]: 2.0 \* images - 1.0"),
        (127.5, 127.5, r"in \[0, 255\], and .*: images / 127.5 - 1.0"),
        (0.0, 0.0, None),  # all black or grey: nobody knows
    ],
)
@pytest.mark.parametrize("kind", ["array", "labelled", "dataset"])
def test_range_of_the_first_images_is_told(
    images, make_network, kind, scale, shift, told
):
    pixels = data = scale * images + shift

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return pixels, np.zeros(4)

    if kind == "labelled":
        data = Batches()
    elif kind == "dataset":
        tf = pytest.importorskip("tensorflow")
        data = tf.data.Dataset.from_tensor_slices(data).batch(2)
    network = make_network()
    if told:
        with pytest.warns(UserWarning, match=told):
            look_at(data, network)
    else:
        with warnings.catch_warnings(action="error"):
            look_at(data, network)


@pytest.mark.parametrize("kind", ["arrays", "dataset"])
def test_unknown_labels_are_refused(images, kind):
    """As those that count from 1, whose last one would be trained as "no label"."""
    levels = {"channel_multiplier": [1], "has_attention": [False]}
    network = build_unet(8, first_conv_channels=8, num_classes=4, **levels)
    labels = np.int32([1, 2, 3, 4])
    model = DiffusionModel(network, diffusion=GaussianDiffusion(timesteps=20))
    model.compile(loss="mean_squared_error")
    data = images, labels
    if kind == "dataset":
        tf = pytest.importorskip("tensorflow")
        data = (tf.data.Dataset.from_tensor_slices(data).batch(4),)
    with pytest.raises(ArgumentError, match="must be 0 to 3, or -1 for none") as error:
        model.fit(*data, verbose=0)
    assert error.value.keys == ("labels",)


def test_generator_is_left_as_it_is(images, make_network):
    batches = iter([images])
    look_at(batches, make_network())
    assert next(batches) is images


def test_fit_looks_at_its_images(make_network, images):
    model = DiffusionModel(make_network(), diffusion=GaussianDiffusion(timesteps=20))
    model.compile(loss="mean_squared_error")
    with pytest.warns(UserWarning, match="in \\[-1, 1\\]"):
        model.fit(127.5 * (images + 1.0), verbose=0)


def test_images_of_another_size_are_refused(model, images):
    message = r"takes images of shape \(8, 8, 3\): resize them, .* shape=\(4, 4, 8, 3\)"
    with pytest.raises(ArgumentError, match=message):
        model.fit(images[:, :4])
    with pytest.raises(ArgumentError, match=message):  # as a generator gives them
        model.before_step((images[:, :4],), training=True)


def test_images_alone_are_answered_with_what_to_call(model, images):
    with pytest.raises(ArgumentError, match="To sample images, call `generate_images`"):
        model.predict(images)
    with pytest.raises(ValueError, match="To sample images, call `generate_images`"):
        model(images)
    found = model([images, np.zeros(4, "int32")])
    assert found.shape == (4, 8, 8, 3)


def test_summary_names_the_averaged_network(model):
    lines = []
    model.summary(print_fn=lambda text, **options: lines.append(text))
    assert f"{model.network.name}_ema " in "".join(lines)


def test_export_is_that_of_the_averaged_network(model, monkeypatch):
    exported = []
    monkeypatch.setattr(
        type(model.ema_network), "export", lambda self, *_, **__: exported.append(self)
    )
    model.export("model")
    assert exported == [model.ema_network]


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports there")
@pytest.mark.parametrize("format", ["onnx", "tf_saved_model"])
def test_a_fitted_model_is_exported(make_network, images, tmp_path, format):
    model = DiffusionModel(make_network(), diffusion=GaussianDiffusion(timesteps=20))
    model.compile(loss="mean_squared_error", optimizer="adam")
    model.fit(images, batch_size=2, epochs=2, verbose=0)
    path, t = tmp_path / "flowers.onnx", np.int32([0, 5, 10, 19])
    model.export(path, format=format, verbose=False)
    wanted = model.predict([images, t], verbose=0)
    if format == "onnx":
        session = pytest.importorskip("onnxruntime").InferenceSession(path)
        names = [tensor.name for tensor in session.get_inputs()]
        (found,) = session.run(None, dict(zip(names, [images, t], strict=True)))
    else:
        import tensorflow as tf

        loaded = tf.saved_model.load(path)  # its variables live as long as this
        found = loaded.serve([images, t]).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize(
    "keys, answer",
    [
        ({"gdf_util": None}, "`gdf_util` is called `diffusion` here. Received: "),
        (
            {"timesteps": 1000},
            "`timesteps` belong to the diffusion: diffusion=Gauss",
        ),
        (
            {"diffusion": 1000},
            "The third argument is the diffusion, to which the ti",
        ),
    ],
)
def test_names_of_the_example_are_answered(make_network, keys, answer):
    with pytest.raises(ArgumentError, match=answer.replace("(", r"\(")):
        DiffusionModel(make_network(), **keys)


def test_names_of_the_examples_network_are_answered():
    with pytest.raises(ArgumentError, match="`activation_fn` is called `activation` h"):
        build_unet(64, activation_fn=keras.activations.swish)
    with pytest.raises(ArgumentError, match="`widths` is called `channel_multipli"):
        build_unet(64, widths=[64, 128])
    # Help and completion show the function's own arguments.
    assert list(inspect.signature(build_unet).parameters)[0] == "img_size"
    assert errors.renamed()(build_unet).__doc__ == build_unet.__doc__


# Attention.


def test_huge_attention_is_told_with_its_memory(make_tiny_unet, monkeypatch):
    def built(*args):
        raise InterruptedError

    monkeypatch.setattr("ddpm_keras.networks.unet._embed", built)
    level = {"channel_multiplier": (1,), "has_attention": (False,)}
    message = r"Attention among 4,096 pixels takes about 0.4 GB for each image"
    with pytest.warns(UserWarning, match=message), pytest.raises(InterruptedError):
        make_tiny_unet(img_size=64, **level)
    with warnings.catch_warnings(action="error"), pytest.raises(InterruptedError):
        make_tiny_unet(img_size=32, **level)


def test_fused_attention_computes_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(2, 6, 8)).astype("float32") for _ in range(3)]
    query, key, value = map(ops.convert_to_tensor, arrays)
    plain = ops.convert_to_numpy(layers._attend(query, key, value))
    monkeypatch.setattr(layers, "has_fused_attention", lambda: True)
    fused = ops.convert_to_numpy(layers._attend(query, key, value))
    np.testing.assert_allclose(fused, plain, atol=1e-6)
