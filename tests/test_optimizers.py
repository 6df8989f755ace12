"""Adam against Keras' own, updates left out, states that are saved, the rate."""

import keras
import numpy as np
import pytest

from ddpm_keras.config import Config
from ddpm_keras.data.flowers import draw_flowers
from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.errors import ArgumentError, InputError
from ddpm_keras.model import DiffusionModel
from ddpm_keras.optimizers import Adam, Muon, SkipNonFinite, WarmupDecay
from ddpm_keras.runs.build import build_optimizer, check_names


def values(variables):
    return [keras.ops.convert_to_numpy(v.value).copy() for v in variables]


def assert_equal(found, wanted):
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def update(optimizer, weights, gradients):
    """As in a training step of the backend."""
    if keras.backend.backend() != "jax":
        optimizer.apply(gradients)
        return
    state = optimizer.stateless_apply(
        [v.value for v in optimizer.variables], gradients, [w.value for w in weights]
    )
    for variables, new in zip((weights, optimizer.variables), state, strict=True):
        for variable, value in zip(variables, new, strict=True):
            variable.assign(value)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"global_clipnorm": 0.5, "weight_decay": 1e-2},
        {"gradient_accumulation_steps": 2},
        {"amsgrad": True, "epsilon": 1e-3, "beta_1": 0.5, "beta_2": 0.9},
    ],
    ids=str,
)
def test_adam_is_that_of_keras(options):
    results = []
    for kind in (keras.optimizers.Adam, Adam):
        rng = np.random.default_rng(0)
        weights = [keras.Variable(rng.normal(size=n).astype("float32")) for n in (5, 3)]
        optimizer = kind(1e-2, **options)
        optimizer.build(weights)
        for _ in range(6):
            gradients = [
                keras.ops.array(rng.normal(size=w.shape), "float32") for w in weights
            ]
            update(optimizer, weights, gradients)
        optimizer.learning_rate = 2e-2
        update(optimizer, weights, gradients)
        results.append(values([*weights, *optimizer.variables]))
    for theirs, ours in zip(*results, strict=True):
        # Rounded in another order, a step of 0.01 at a time.
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_number_stops_the_whole_update(bad):
    weights = [keras.Variable(np.ones(3, "float32")) for _ in range(2)]
    optimizer = SkipNonFinite(keras.optimizers.Adam(0.1))
    optimizer.build(weights)
    good = [keras.ops.ones(3), keras.ops.ones(3)]
    update(optimizer, weights, good)
    before = values(weights + optimizer.inner_optimizer.variables)
    for skipped in (1, 2):
        spoilt = [keras.ops.ones(3), keras.ops.array([1.0, bad, 1.0])]
        update(optimizer, weights, spoilt)
        assert optimizer.skipped_in_a_row == skipped
        assert_equal(values(weights + optimizer.inner_optimizer.variables), before)
    update(optimizer, weights, good)
    assert optimizer.skipped_in_a_row == 0
    assert (values(weights)[0] < before[0]).all()


def test_fit_is_bit_for_bit_the_inner_optimizers(make_network, monkeypatch):
    images = draw_flowers(8, 8).astype("float32") / 127.5 - 1.0
    results = []
    for wrap in (SkipNonFinite, lambda inner: inner):
        monkeypatch.setattr("ddpm_keras.model.SkipNonFinite", wrap)
        model = DiffusionModel(make_network(), None, GaussianDiffusion(), seed=1)
        model.compile(optimizer="adam", loss="mse")
        fit = model.fit(images, batch_size=4, epochs=2, shuffle=False, verbose=0)
        results.append((fit.history["loss"], values(model.weights)))
    assert results[0][0] == results[1][0]
    assert_equal(results[0][1], results[1][1])


def test_one_image_that_is_not_finite_leaves_out_its_steps(make_network):
    images = draw_flowers(8, 8).astype("float32") / 127.5 - 1.0
    images[5] = np.nan
    model = DiffusionModel(make_network(), None, GaussianDiffusion(), seed=1)
    model.compile(optimizer="adam", loss="mse")
    before = values(model.weights)
    model.fit(images, batch_size=4, epochs=2, shuffle=False, verbose=0)
    after = values(model.weights)
    assert all(np.isfinite(array).all() for array in after)
    assert any((a != b).any() for a, b in zip(after, before, strict=True))
    assert int(model.optimizer.iterations.value) == 2  # of four
    assert model.optimizer.skipped_in_a_row == 1


def test_configuration_comes_back():
    optimizer = SkipNonFinite(keras.optimizers.SGD(0.3, momentum=0.5), name="mine")
    config = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is SkipNonFinite
    assert again.get_config() == optimizer.get_config()


@pytest.mark.parametrize(
    "decay, warmup, wanted",
    [
        ("none", 0, {0: 1.0, 5: 1.0, 10: 1.0, 99: 1.0}),
        ("none", 4, {0: 0.25, 2: 0.625, 4: 1.0, 10: 1.0}),
        ("linear", 0, {0: 1.0, 5: 0.5, 9: 0.1, 10: 0.0, 11: 0.0}),
        ("linear", 4, {0: 0.25, 2: 0.625, 4: 1.0, 7: 0.5, 10: 0.0, 99: 0.0}),
        ("cosine", 0, {0: 1.0, 1: 0.975528, 5: 0.5, 9: 0.024472, 10: 0.0, 11: 0.0}),
        ("cosine", 4, {0: 0.25, 2: 0.625, 4: 1.0, 6: 0.75, 7: 0.5, 10: 0.0}),
    ],
)
def test_rate_rises_and_falls(decay, warmup, wanted):
    rate = WarmupDecay(0.02, warmup, decay, None if decay == "none" else 10)
    copy = WarmupDecay.from_config(rate.get_config())
    for schedule in (rate, copy):
        found = [float(schedule(step)) / 0.02 for step in wanted]
        np.testing.assert_allclose(found, list(wanted.values()), atol=1e-6)


def test_optimizer_follows_the_rate():
    weight = keras.Variable(np.zeros(1, "float32"))
    optimizer = keras.optimizers.SGD(WarmupDecay(1.0, 2, "linear", 6))
    optimizer.build([weight])
    moved = []
    for _ in range(8):
        before = values([weight])[0].item()
        update(optimizer, [weight], [keras.ops.ones(1)])
        moved.append(before - values([weight])[0].item())
    wanted = [0.5, 0.75, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    np.testing.assert_allclose(moved, wanted, atol=1e-6)


@pytest.mark.parametrize("num_steps", [None, 0, 3, 4])
def test_decay_needs_steps_after_the_warm_up(num_steps):
    with pytest.raises(ArgumentError) as error:
        WarmupDecay(0.1, 4, "linear", num_steps)
    assert error.value.keys == ("learning_rate_warmup_steps", "num_steps")
    assert WarmupDecay(0.1, 4, "none", num_steps)(4) == np.float32(0.1)


def test_a_decay_that_does_not_exist_is_named():
    with pytest.raises(ArgumentError, match="linear or cosine. Received: .*cosin") as e:
        WarmupDecay(0.1, decay="cosin", num_steps=100)
    assert e.value.keys == ("decay",)


# Every optimizer of Keras: a run that stops keeps all of its state.


def optimizer_names():
    """What `optimizer` may be, as Keras grows."""
    base = keras.optimizers.Optimizer
    classes = {n.lower(): c for n, c in vars(keras.optimizers).items() if n[0] != "_"}
    kinds = {
        n for n, c in classes.items() if isinstance(c, type) and issubclass(c, base)
    }
    assert {"adam", "nadam", "sgd", "lion"} <= kinds
    return sorted(kinds)


@pytest.mark.parametrize("name", optimizer_names())
def test_state_of_every_optimizer_is_in_its_variables(name):
    config = Config(optimizer=name, gradient_accumulation_steps=2)
    try:
        check_names(config)
    except InputError:  # those that need others, and one that has no name
        assert name in ("lamb", "lossscaleoptimizer", "multioptimizer", "optimizer")
        return
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(7, 3, 4)).astype("float32")

    def start():
        weights = [keras.Variable(gradients[0], name="kernel")]
        optimizer = SkipNonFinite(build_optimizer(config))
        optimizer.build(weights)
        return optimizer, weights

    whole, resumed = start(), start()
    for gradient in gradients[:3]:
        update(*whole, [keras.ops.array(gradient)])
    saved = values([*whole[1], *whole[0].variables])
    for variable, value in zip(
        [*resumed[1], *resumed[0].variables], saved, strict=True
    ):
        variable.assign(value)
    for gradient in gradients[3:]:
        for optimizer, weights in (whole, resumed):
            update(optimizer, weights, [keras.ops.array(gradient)])
    assert (values(whole[1])[0] != saved[0]).any()
    ends = [values([*w, *o.variables]) for o, w in (whole, resumed)]
    assert_equal(*ends)


def test_nadam_multiplies_its_schedule_of_momentums():
    optimizer = build_optimizer(Config(optimizer="nadam"))
    weights = [keras.Variable(np.ones(3, "float32"))]
    optimizer.build(weights)
    for _ in range(3):
        update(optimizer, weights, [keras.ops.ones(3)])
    (product,) = [v for v in optimizer.variables if v.name == "u_product"]
    steps = np.arange(1, 4)
    wanted = np.prod(0.9 * (1 - 0.5 * 0.96**steps))
    np.testing.assert_allclose(values([product])[0], wanted, rtol=1e-6)


# Muon.


def muon_step(weight):
    """Return a random gradient, and what Muon at a rate of 1 adds for it."""
    gradient = np.random.default_rng(0).normal(size=weight.shape).astype("float32")
    optimizer = Muon(1.0, weight_decay=0.0, adam_weight_decay=0.0)
    optimizer.build([weight])
    before = values([weight])[0]
    update(optimizer, [weight], [keras.ops.array(gradient)])
    return gradient, values([weight])[0] - before


def convolution(name, inputs, outputs):
    layer = keras.layers.Conv2D(outputs, 3, name=name)
    layer.build((None, 8, 8, inputs))
    return layer


def test_muon_updates_the_kernel_of_a_convolution_as_a_matrix():
    gradient, change = muon_step(convolution("conv_1", 8, 16).kernel)
    left, _, right = np.linalg.svd(gradient.reshape(72, 16), full_matrices=False)
    # As large as 0.2 of a step of Adam.
    found = left.T @ change.reshape(72, 16) @ right.T / (-0.2 * 72**0.5)
    # The iteration of Muon ends near 1, between 0.68 and 1.14.
    singular = np.diag(found)
    assert 0.65 < singular.min() and singular.max() < 1.2
    np.testing.assert_allclose(found, np.diag(singular), atol=1e-4)


def embedding():
    layer = keras.layers.Embedding(5, 16, name="label_embedding")
    layer.build()
    return layer


@pytest.mark.parametrize(
    "weight",
    [
        convolution("stem", 4, 16).kernel,
        convolution("head", 16, 4).kernel,
        convolution("conv_1", 8, 16).bias,
        embedding().embeddings,
    ],
    ids=["stem", "head", "bias", "embedding"],
)
def test_muon_leaves_the_rest_to_adamw(weight):
    gradient, change = muon_step(weight)
    # Adam's first step is the sign of the gradient, but for its epsilon.
    np.testing.assert_allclose(change, -np.sign(gradient), rtol=1e-2)


def test_a_configuration_gets_this_muon():
    assert type(build_optimizer(Config(optimizer="muon"))) is Muon
