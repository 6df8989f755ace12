"""The U-Net against Keras 2's, and in the shapes that the recipe does not have."""

import keras
import numpy as np
import pytest
from keras import ops

from ddpm_keras.errors import ArgumentError
from ddpm_keras.networks.layers import AttentionBlock
from ddpm_keras.networks.unet import build_unet
from ddpm_keras.networks.unet_arguments import AUGMENT_DIM


@pytest.fixture(scope="module")
def keras2(golden):
    return golden("unet_tiny")


def build_golden():
    return build_unet(
        img_size=16,
        first_conv_channels=16,
        channel_multiplier=(1, 2),
        has_attention=(False, True),
        num_res_blocks=1,
    )


@pytest.fixture(scope="module")
def golden_network(keras2, numbered):
    network = build_golden()
    network.set_weights(numbered(keras2, "w"))
    return network


def predict(network, image, t):
    return ops.convert_to_numpy(network([image, t], training=False))


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def test_output_matches_keras2(golden_network, keras2):
    found = predict(golden_network, keras2["image"], keras2["time"])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, keras2["output"], atol=1e-4)


def test_weights_come_in_the_order_of_keras2(golden_network, keras2, numbered):
    shapes = [w.shape for w in numbered(keras2, "w")]
    assert [tuple(w.shape) for w in golden_network.weights] == shapes
    names = [name.split("/")[-1].split(":")[0] for name in keras2["names"]]
    assert [w.name for w in golden_network.weights] == names


def test_recipe_has_its_parameters(monkeypatch):
    # Zeros: drawing 63 million random numbers would take most of the time.
    for module in ("unet", "layers"):
        monkeypatch.setattr(
            f"ddpm_keras.networks.{module}.kernel_init", lambda *_: "zeros"
        )
    network = build_unet(img_size=64)
    assert network.count_params() == 63_200_387
    assert len(network.weights) == 382
    assert network.output_shape == (None, 64, 64, 3)


def test_inputs_are_named_and_typed(make_tiny_unet):
    image, t = make_tiny_unet().inputs
    assert (image.name, image.shape) == ("image_input", (None, 8, 8, 3))
    assert (t.name, t.shape) == ("time_input", (None,))
    assert keras.backend.standardize_dtype(t.dtype) == "int32"


def test_fresh_network_predicts_almost_nothing(make_tiny_unet, randomise):
    network = make_tiny_unet()
    image, t = images(2, 8, 8, 3), np.array([0, 999])
    assert np.abs(predict(network, image, t)).max() < 1e-3
    # The head is what keeps it so.
    head = network.get_layer("head")
    randomise(head)
    assert np.abs(predict(network, image, t)).max() > 0.1


@pytest.mark.parametrize(
    "changes, downsamplings, attentions",
    [
        ({}, 1, 4),
        # The paper's multipliers: levels of equal width are halved too.
        (
            dict(
                img_size=16,
                channel_multiplier=(1, 2, 2, 2),
                has_attention=(False,) * 4,
            ),
            3,
            1,
        ),
        (dict(img_size=(8, 16)), 1, 4),
        (dict(img_size=[4, 2], img_channels=1), 1, 4),
        (
            dict(img_size=7, channel_multiplier=[2], has_attention=[True]),
            0,
            4,
        ),
        (dict(has_attention=(False, False)), 1, 1),
        (dict(interpolation="bilinear"), 1, 4),
        (dict(num_res_blocks=2, activation="relu", img_channels=2), 1, 6),
        (dict(patch_size=2), 1, 4),
        (dict(img_size=(6, 12), patch_size=3, img_channels=1), 1, 4),
    ],
    ids=str,
)
def test_every_shape_works(
    make_tiny_unet, randomise, changes, downsamplings, attentions
):
    network = randomise(make_tiny_unet(**changes))
    size = changes.get("img_size", 8)
    height, width = (size, size) if isinstance(size, int) else size
    image = images(2, height, width, changes.get("img_channels", 3))
    found = predict(network, image, np.array([1, 900]))
    assert found.shape == image.shape == (2, *network.output_shape[1:])
    assert np.isfinite(found).all()
    # Each image is answered by itself and by its own timestep.
    other_t = predict(network, image, np.array([1, 500]))
    other_image = predict(network, image * [[[[1]]], [[[2]]]], np.array([1, 900]))
    for other in (other_t, other_image):
        np.testing.assert_allclose(other[0], found[0], atol=1e-4)
        assert np.abs(other[1] - found[1]).max() > 1e-3

    names = [layer.name for layer in network.layers]
    assert sum(name.endswith("_downsample") for name in names) == downsamplings
    deepest = network.get_layer("middle_0_residual").output.shape[1:3]
    factor = changes.get("patch_size", 1) * 2**downsamplings
    assert deepest == (height // factor, width // factor)
    found = sum(isinstance(layer, AttentionBlock) for layer in network.layers)
    assert found == attentions


def test_patches_become_channels_of_the_stem_and_the_head(make_tiny_unet):
    plain, patched = make_tiny_unet(), make_tiny_unet(patch_size=2)
    shapes = {w.path: tuple(w.shape) for w in plain.weights}
    changed = {
        w.path: tuple(w.shape)
        for w in patched.weights
        if shapes.get(w.path) != tuple(w.shape)
    }
    assert changed == {
        "stem/kernel": (3, 3, 12, 8),
        "head/kernel": (3, 3, 8, 12),
        "head/bias": (12,),
    }


@pytest.mark.parametrize(
    "options, paths",
    [
        (dict(num_classes=5), ["label_embedding/table"]),
        (dict(augment=True), ["augment_dense/kernel"]),
        (
            dict(num_classes=5, augment=True),
            ["label_embedding/table", "augment_dense/kernel"],
        ),
    ],
    ids=str,
)
def test_further_inputs_add_these_weights_alone(make_tiny_unet, options, paths):
    plain, conditional = make_tiny_unet(), make_tiny_unet(**options)
    before, after = (
        {w.path: tuple(w.shape) for w in network.weights}
        for network in (plain, conditional)
    )
    assert after.keys() - before.keys() == set(paths)
    assert after.items() >= before.items()


def copy_shared_weights(network, source):
    values = {w.path: w.numpy() for w in source.weights}
    for weight in network.weights:
        if weight.path in values:
            weight.assign(values[weight.path])


def test_zero_changes_change_nothing(make_tiny_unet, randomise):
    plain = randomise(make_tiny_unet())
    told = randomise(make_tiny_unet(augment=True), seed=1)
    copy_shared_weights(told, plain)
    image, t = images(2, 8, 8, 3), np.array([10, 500])
    changes = np.zeros((2, AUGMENT_DIM), "float32")
    found = ops.convert_to_numpy(told([image, t, changes]))
    np.testing.assert_array_equal(found, predict(plain, image, t))
    changes[1, 4] = 1.0
    other = ops.convert_to_numpy(told([image, t, changes]))
    np.testing.assert_allclose(other[0], found[0], atol=1e-6)
    assert np.abs(other[1] - found[1]).max() > 1e-3


def test_each_image_has_its_label(make_tiny_unet, randomise):
    network = randomise(make_tiny_unet(num_classes=3))
    image = np.repeat(images(1, 8, 8, 3), 4, axis=0)
    labels = np.array([-1, 0, 2, 0])
    found = ops.convert_to_numpy(network([image, np.full(4, 10), labels]))
    np.testing.assert_allclose(found[1], found[3], atol=1e-6)
    for k, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(found[k] - found[other]).max() > 1e-2


def test_network_with_every_input_survives_saving(make_tiny_unet, randomise, tmp_path):
    network = make_tiny_unet(
        patch_size=2,
        num_classes=3,
        augment=True,
        channel_multiplier=(1,),
        has_attention=(False,),
    )
    randomise(network).save(tmp_path / "unet.keras")
    loaded = keras.models.load_model(tmp_path / "unet.keras")
    changes = images(2, AUGMENT_DIM)
    inputs = [images(2, 8, 8, 3), np.array([10, 500]), np.array([-1, 2]), changes]
    np.testing.assert_array_equal(
        ops.convert_to_numpy(loaded(inputs)), ops.convert_to_numpy(network(inputs))
    )


def test_interpolations_differ(make_tiny_unet, randomise):
    image, t = images(1, 8, 8, 3), np.array([10])
    nearest, bilinear = (
        predict(randomise(make_tiny_unet(interpolation=name)), image, t)
        for name in ("nearest", "bilinear")
    )
    assert np.abs(nearest - bilinear).max() > 1e-2


def test_dropout_is_active_in_training_only(make_tiny_unet, randomise):
    image, t = images(2, 8, 8, 3), np.array([10, 500])
    plain = randomise(make_tiny_unet())
    network = randomise(make_tiny_unet(dropout=0.5))
    np.testing.assert_array_equal(predict(network, image, t), predict(plain, image, t))
    in_training = ops.convert_to_numpy(network([image, t], training=True))
    assert np.abs(in_training - predict(plain, image, t)).max() > 0.1


def test_save_and_load(golden_network, keras2, tmp_path):
    golden_network.save(tmp_path / "unet.keras")
    loaded = keras.models.load_model(tmp_path / "unet.keras")
    image, t = keras2["image"], keras2["time"]
    np.testing.assert_array_equal(
        predict(loaded, image, t), predict(golden_network, image, t)
    )


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(golden_network, keras2, set_policy, tmp_path, policy):
    set_policy(policy)
    network = build_golden()
    network.set_weights(golden_network.get_weights())
    image, t = keras2["image"], keras2["time"]
    assert network.get_layer("stem").compute_dtype == policy.removeprefix("mixed_")
    assert all(w.dtype == "float32" for w in network.weights)
    found = predict(network, image, t)
    assert found.dtype == np.float32
    # Values reach 2.3 and pass through some fifty roundings to 8 or 11 bits.
    tolerance = {"mixed_bfloat16": 0.1, "mixed_float16": 0.01}[policy]
    np.testing.assert_allclose(found, keras2["output"], atol=tolerance)

    network.save(tmp_path / "unet.keras")
    set_policy("float32")
    loaded = keras.models.load_model(tmp_path / "unet.keras")
    np.testing.assert_array_equal(predict(loaded, image, t), found)


def test_arguments_are_checked():
    with pytest.raises(ArgumentError) as error:
        build_unet(img_size=60)
    assert error.value.keys == ("img_size", "channel_multiplier")
