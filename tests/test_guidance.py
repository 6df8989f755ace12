"""Guidance against its formulas, with small networks of random weights."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from ddpm_keras.denoiser import Denoiser
from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.errors import ArgumentError
from ddpm_keras.guidance import Guided
from ddpm_keras.labels import NO_LABEL, between_labels, make_labels
from ddpm_keras.networks.layers import LabelEmbedding, TimeEmbedding
from ddpm_keras.samplers import make_steps
from ddpm_keras.sampling import ReverseProcess

CLASSES, TIMESTEPS = 3, 12
OPTIONS = {"sampler": "ddim", "eta": 1.0, "steps": 6, "verbose": 0}


@pytest.fixture(scope="module")
def make_denoiser(randomise):
    def make(seed=0, num_classes=CLASSES, size=4, timesteps=TIMESTEPS):
        image = keras.Input((size, size, 2), name="image_input")
        t = keras.Input((), dtype="int32", name="time_input")
        inputs, embedding = [image, t], TimeEmbedding(8)(t)
        if num_classes:
            inputs.append(keras.Input((), dtype="int32", name="label_input"))
            label = LabelEmbedding(num_classes, 8, name="label_embedding")
            embedding = embedding + layers.Rescaling(4.0)(label(inputs[-1]))
        x = layers.Dense(8)(image) + layers.Reshape((1, 1, 8))(embedding)
        network = keras.Model(inputs, layers.Dense(2)(layers.Activation("tanh")(x)))
        return Denoiser(
            randomise(network, seed), GaussianDiffusion(timesteps=timesteps)
        )

    return make


@pytest.fixture(scope="module")
def denoiser(make_denoiser):
    return make_denoiser()


@pytest.fixture(scope="module")
def process(denoiser):
    return ReverseProcess(denoiser)


def batch(count=3):
    x = np.random.default_rng(0).normal(size=(count, 4, 4, 2)).astype("float32")
    return ops.convert_to_tensor(x), ops.convert_to_tensor(np.full(count, 5, "int32"))


def predict(denoiser, *inputs):
    return ops.convert_to_numpy(denoiser(*inputs))


def guide(guided, x, t, labels, scale):
    return ops.convert_to_numpy(guided(x, t, *guided.conditions(labels, scale)))


def as_labels(labels):
    return make_labels(labels, len(labels), CLASSES)


def test_no_label_is_the_default(denoiser):
    x, t = batch()
    found = predict(denoiser, x, t)
    none = np.full(3, NO_LABEL, "int32")
    np.testing.assert_array_equal(predict(denoiser, x, t, none), found)
    labelled = predict(denoiser, x, t, np.int32([0, 1, 2]))
    assert np.abs(labelled - found).max(axis=(1, 2, 3)).min() > 0.1
    assert denoiser.num_classes == CLASSES


def test_scale_1_is_the_label_and_scale_0_none(denoiser, process):
    x, t = batch()
    labels = as_labels(np.array([2, 0, 1]))
    guided = Guided(denoiser)
    np.testing.assert_array_equal(
        guide(guided, x, t, labels, 1.0), predict(denoiser, x, t, labels.labels[:, 0])
    )
    np.testing.assert_array_equal(
        guide(guided, x, t, labels, 0.0), predict(denoiser, x, t)
    )
    plain = process.generate_images(3, labels=2, **OPTIONS)
    np.testing.assert_array_equal(
        process.generate_images(3, labels=2, guidance_scale=1.0, **OPTIONS), plain
    )
    none = process.generate_images(3, **OPTIONS)
    np.testing.assert_array_equal(
        process.generate_images(3, labels=2, guidance_scale=0.0, **OPTIONS), none
    )
    assert np.abs(plain - none).max() > 0.1


def test_scale_goes_beyond_the_label(denoiser):
    x, t = batch()
    labels = np.int32([2, 0, 1])
    none, label = predict(denoiser, x, t), predict(denoiser, x, t, labels)
    found = guide(Guided(denoiser), x, t, as_labels(labels), 2.0)
    np.testing.assert_allclose(found, none + 2.0 * (label - none), atol=1e-5)


def test_mixtures_of_labels(denoiser):
    x, t = batch()
    ends = [predict(denoiser, x, t, np.full(3, k, "int32")) for k in (0, 2)]
    share = np.array([0.0, 0.5, 1.0]).reshape(3, 1, 1, 1)
    mixed = (1 - share) * ends[0] + share * ends[1]
    labels = between_labels(0, 2, 3)
    found = guide(Guided(denoiser), x, t, labels, 1.0)
    np.testing.assert_allclose(found, mixed, atol=1e-5)
    none = predict(denoiser, x, t)
    found = guide(Guided(denoiser), x, t, labels, 3.0)
    np.testing.assert_allclose(found, none + 3.0 * (mixed - none), atol=1e-5)


@pytest.mark.parametrize("classes, labelled", [(3, True), (3, False), (0, True)])
def test_guide_takes_the_place_of_no_label(denoiser, make_denoiser, classes, labelled):
    """It is given the label too if it knows any."""
    x, t = batch()
    weak = make_denoiser(seed=1, num_classes=classes)
    labels = np.int32([2, 0, 1]) if labelled else None
    given = [labels] if labelled and classes else []
    wanted = predict(weak, x, t, *given)
    strong = predict(denoiser, x, t, *([labels] if labelled else []))
    wanted = wanted + 2.5 * (strong - wanted)
    labels = as_labels(labels) if labelled else None
    found = guide(Guided(denoiser, weak), x, t, labels, 2.5)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    # Without guidance the guide is not asked.
    found = guide(Guided(denoiser, weak), x, t, labels, 1.0)
    np.testing.assert_array_equal(found, strong)


def test_guidance_acts_inside_its_interval_only(denoiser, process):
    """Each step's clean images, from those of the step before; steps of two."""
    plan = make_steps(process.diffusion, "ddim", 6)
    labels = np.int32([1, 2])
    chain = process.run(
        plan,
        np.arange(2),
        clip_denoised=False,
        labels=labels,
        guidance_scale=3.0,
        guidance_interval=(0.3, 0.7),
    )
    x, kinds = process.noise(np.arange(2)), []
    for t, (_, x_prev, x_start) in zip(plan.timesteps, chain, strict=True):
        t = np.full(2, t)
        none, label = predict(denoiser, x, t), predict(denoiser, x, t, labels)
        wanted = {"label": label, "guided": none + 3.0 * (label - none)}
        x_start = ops.convert_to_numpy(x_start)
        kinds += [k for k, w in wanted.items() if np.abs(w - x_start).max() < 1e-3]
        x = x_prev
    # The steps start from 12, 10, 8, 6, 4 and 2 twelfths of the process.
    assert kinds == ["label", "label", "guided", "guided", "guided", "label"]


@pytest.mark.parametrize("batch_size", [1, 2, 4, 64])
@pytest.mark.parametrize("options", [{}, {"guidance_interval": (0.2, 0.6)}], ids=str)
def test_guided_image_does_not_depend_on_its_batch(process, batch_size, options):
    options = {**OPTIONS, **options, "guidance_scale": 2.0}
    labels = np.array([0, 1, 2, -1, 1])
    expected = process.generate_images(5, labels=labels, batch_size=10, **options)
    found = process.generate_images(5, labels=labels, batch_size=batch_size, **options)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    alone = process.generate_images(1, labels=labels[4:], seed=4, **options)
    np.testing.assert_allclose(alone[0], expected[4], atol=1e-5)


def test_a_network_without_labels_is_guided_by_another(make_denoiser):
    strong, weak = (make_denoiser(seed, num_classes=0) for seed in (0, 1))
    process = ReverseProcess(strong, guide=weak)
    plain = process.generate_images(2, **OPTIONS)
    np.testing.assert_array_equal(
        plain, ReverseProcess(strong).generate_images(2, **OPTIONS)
    )
    guided = process.generate_images(2, guidance_scale=2.0, **OPTIONS)
    assert np.abs(guided - plain).max() > 0.05


@pytest.mark.parametrize(
    "options, keys",
    [
        (dict(labels=3), "labels"),
        (dict(labels=[0, 1]), "labels"),
        (dict(guidance_scale=2.0), "guidance_scale"),
        (dict(labels=1, guidance_scale=-1.0), "guidance_scale"),
        (dict(labels=1, guidance_interval=(0.5, 0.2)), "guidance_interval"),
    ],
    ids=str,
)
def test_invalid_arguments_are_named(process, options, keys):
    with pytest.raises(ArgumentError) as error:
        process.generate_images(3, **OPTIONS, **options)
    assert error.value.keys == tuple(keys.split())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(size=6), "images of the same size"),
        (dict(timesteps=13), "the same timesteps and schedule"),
        (dict(num_classes=2), "the same classes, or none"),
    ],
    ids=str,
)
def test_guide_of_another_kind_is_refused(denoiser, make_denoiser, changes, message):
    with pytest.raises(ArgumentError, match=message):
        ReverseProcess(denoiser, guide=make_denoiser(**changes))


def test_labels_without_a_labelled_network_are_refused(make_denoiser):
    process = ReverseProcess(make_denoiser(num_classes=0))
    with pytest.raises(ArgumentError, match="^The network has no labels."):
        process.generate_images(2, labels=0, **OPTIONS)
