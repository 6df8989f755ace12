"""`ddpm-export`, and what other programs find in its files."""

import json
import sys
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
from run_script import run_script
from safetensors.numpy import save_file
from saved_run import TINY

from ddpm_keras.backend import BACKEND
from ddpm_keras.config import Config
from ddpm_keras.denoiser import Denoiser
from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.errors import InputError
from ddpm_keras.export import tabulate
from ddpm_keras.networks.layers import (
    AttentionBlock,
    DepthToSpace,
    LabelEmbedding,
    ResidualBlock,
    SpaceToDepth,
    TimeEmbedding,
)
from ddpm_keras.networks.upsampling import UpsampledConv
from ddpm_keras.samplers import make_steps
from ddpm_keras.sampling import ReverseProcess
from ddpm_keras.weights import fingerprint

export = partial(run_script, "export")
CONFIG = Config(
    dataset_name="petals",
    class_labels=True,
    class_names=["rose", "lily", "aster"],
    sample_guidance_scale=2.5,
    **TINY,
    prediction_type="v_prediction",
    schedule="cosine",
    total_timesteps=100,
)
ROOT = Path(__file__).parents[1]
only_tensorflow = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="exports with TensorFlow"
)


@pytest.fixture(scope="module")
def denoiser(randomise):
    """One with each part of a U-Net; a U-Net itself would take ten times as long."""
    image = keras.Input((8, 8, 3), name="image_input")
    t = keras.Input((), dtype="int32", name="time_input")
    label = keras.Input((), dtype="int32", name="label_input")
    augment = keras.Input((11,), name="augment_input")
    embedding = TimeEmbedding(8)(t) + keras.layers.Dense(8)(augment)
    embedding += LabelEmbedding(3, 8, name="label_embedding")(label)
    x = SpaceToDepth(2)(image)
    x = ResidualBlock(8, 4)(keras.layers.Conv2D(8, 3, padding="same")(x), embedding)
    x = UpsampledConv(8)(AttentionBlock(8, 4)(x))
    x = keras.layers.Conv2D(12, 3, 2, padding="same")(x)
    network = randomise(keras.Model([image, t, label, augment], DepthToSpace(2)(x)))
    for weight in network.weights:  # as in a file of float16
        weight.assign(weight.numpy().astype("float16"))
    diffusion = GaussianDiffusion(**CONFIG.diffusion_arguments())
    return Denoiser(network, diffusion, CONFIG)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_file({"w": np.zeros(1)}, path, {"config": CONFIG.model_dump_json()})
    return path


@pytest.fixture(scope="module")
def exported(weights, denoiser):
    out = weights.parent / "new" / "exported"
    flags = f"--weights {weights} --out {out} --sampler dpmpp --eta 0.5 --until 0.1"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Denoiser, "from_weights", lambda *args: denoiser)
        output, _ = export(f"{flags} --steps 5,10")
    count = denoiser.network.count_params()
    assert output == f"exported: {out} ({count:,} parameters)\n"
    assert [path.name for path in out.parent.iterdir()] == ["exported"]
    return out


@pytest.fixture(scope="module")
def call_onnx(exported):
    """A function from the name of a file and the inputs to the output."""
    onnxruntime = pytest.importorskip("onnxruntime")

    def call(name, *inputs):
        session = onnxruntime.InferenceSession(exported / name)
        names = ("image_input", "time_input", "label_input")
        return session.run(["output"], dict(zip(names, inputs, strict=True)))[0]

    return call


@pytest.fixture(scope="module")
def inputs():
    """Five noisy images, at timesteps from first to last, with and without labels."""
    x_t = np.random.default_rng(0).normal(size=(5, 8, 8, 3)).astype("float32")
    return x_t, np.int32([0, 1, 40, 98, 99]), np.int32([2, -1, 0, 1, -1])


@pytest.fixture(scope="module")
def expected(denoiser, inputs):
    return np.asarray(denoiser.network([*inputs, np.zeros((5, 11), "float32")]))


@only_tensorflow
@pytest.mark.parametrize("name", ["network.onnx", "network_float16.onnx"])
def test_onnx_computes_what_keras_computes(call_onnx, inputs, expected, name):
    assert np.abs(expected).max() > 0.5
    # The weights were saved in float16: none of their digits is lost.
    np.testing.assert_allclose(call_onnx(name, *inputs), expected, atol=1e-4)
    one = [array[3:4] for array in inputs]
    np.testing.assert_allclose(call_onnx(name, *one), expected[3:4], atol=1e-4)


@only_tensorflow
def test_saved_model_computes_what_keras_computes(exported, inputs, expected):
    layer = keras.layers.TFSMLayer(exported / "saved_model", call_endpoint="serve")
    np.testing.assert_allclose(layer(list(inputs)), expected, atol=1e-4)


@only_tensorflow
def test_onnx_says_how_to_use_it(exported, denoiser):
    onnx = pytest.importorskip("onnx")
    models = [onnx.load(exported / f"network{name}.onnx") for name in ("", "_float16")]
    for model in models:
        onnx.checker.check_model(model, full_check=True)
        texts = {entry.key: entry.value for entry in model.metadata_props}
        assert texts["prediction_type"] == "v_prediction"
        assert texts["schedule"] == "cosine"
        assert json.loads(texts["class_names"]) == CONFIG.class_names
        assert list(json.loads(texts["inputs"])) == [i.name for i in model.graph.input]
        assert json.loads(texts["alphas_cumprod"]) == list(CONFIG.abar())
        assert Config.model_validate_json(texts["config"]) == CONFIG
        assert texts["weights"] == fingerprint(denoiser.network)
    sizes = [sum(len(t.raw_data) for t in m.graph.initializer) for m in models]
    assert sizes[1] < 0.6 * sizes[0]


@only_tensorflow
def test_sampler_json_and_onnx_suffice_to_sample(exported, call_onnx, denoiser):
    about = json.loads((exported / "sampler.json").read_text())
    assert about["class_names"] == CONFIG.class_names
    assert about["guidance_scale"] == CONFIG.sample_guidance_scale == 2.5
    assert [len(table["timesteps"]) for table in about["tables"]] == [5, 10]
    # Without noise, which each program draws in its own way.
    table = about["tables"][0] | {"sigma": [0.0] * 5}
    plan = make_steps(denoiser.diffusion, "dpmpp", 5, eta=0.5, until=0.1)
    plan.sigma[:] = 0.0
    x = np.random.default_rng(1).normal(size=(2, 8, 8, 3)).astype("float32")
    *_, (_, wanted, _) = ReverseProcess(denoiser).run(
        plan, [0, 1], x, labels=np.int32([2, 0])
    )
    before, low_and_high = 0.0, about["clip"]
    for i, t in enumerate(table["timesteps"]):
        output = call_onnx("network.onnx", x, np.int32([t, t]), np.int32([2, 0]))
        start = table["from_x_t"][i] * x + table["from_output"][i] * output
        start = np.clip(start, *low_and_high)
        x = table["a"][i] * x + table["b"][i] * start + table["c"][i] * before
        before, x = start, x.astype("float32")
    np.testing.assert_allclose(x, wanted, atol=1e-4)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_tables_predict_the_clean_image(prediction_type):
    diffusion = GaussianDiffusion(prediction_type=prediction_type, schedule="cosine")
    plan = make_steps(diffusion, "dpmpp", 4)
    columns = tabulate(diffusion, plan)
    assert columns["timesteps"] == plan.timesteps.tolist()
    output, x_t = np.float32([[[[[0.5]]]], [[[[-0.25]]]]])
    for i, t in enumerate(plan.timesteps):
        wanted = diffusion.predict_start(output, x_t, [t])
        found = columns["from_x_t"][i] * x_t + columns["from_output"][i] * output
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


@only_tensorflow
def test_float16_does_not_write_infinities(exported):
    onnx = pytest.importorskip("onnx")
    from ddpm_keras.export import store_as_float16

    model = onnx.load(exported / "network.onnx")
    large = next(t for t in model.graph.initializer if len(t.raw_data) > 1024)
    numbers = onnx.numpy_helper.to_array(large) + 70_000.0
    large.CopyFrom(onnx.numpy_helper.from_array(numbers, large.name))
    with pytest.raises(InputError, match=f"^{large.name} has numbers that float16 "):
        store_as_float16(model)


@only_tensorflow
@pytest.mark.slow
@pytest.mark.parametrize("name", ["flowers32", "flowers64"])
def test_weights_that_ship_are_exported(tmp_path, name):
    onnxruntime = pytest.importorskip("onnxruntime")
    path = ROOT / "weights" / f"{name}.safetensors"
    export(f"--weights {path} --out {tmp_path / 'out'}")
    denoiser = Denoiser.from_weights(path)
    shape = (4, *denoiser.image_shape)
    x_t = np.random.default_rng(0).normal(size=shape).astype("float32")
    inputs = [x_t, np.int32([0, 250, 750, 999])]
    if denoiser.num_classes:
        inputs.append(np.int32([-1, 0, 50, denoiser.num_classes - 1]))
    wanted = np.asarray(denoiser.network(inputs))
    session = onnxruntime.InferenceSession(tmp_path / "out" / "network.onnx")
    names = [tensor.name for tensor in session.get_inputs()]
    (found,) = session.run(None, dict(zip(names, inputs, strict=True)))
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize(
    "flags, words",
    [
        ("--out .", "--out: . exists; name a new folder"),
        ("--out w.safetensors", "--out: w.safetensors exists; name a new folder"),
        ("--out w.safetensors/x", "--out: cannot write to w.safetensors/x; name"),
        ("--out out --steps 101", "--steps: `steps` must be a whole number from 1 to"),
        ("--out out --steps 5,x", "--steps: must be a whole number of"),
        ("--out out --eta 2", "--eta: "),
    ],
)
def test_mistakes(weights, monkeypatch, flags, words):
    monkeypatch.chdir(weights.parent)
    output, error = export(f"--weights w.safetensors {flags}", status=2)
    assert output == "" and error.startswith(f"error: {words}")
    assert len(error.splitlines()) == 1


def test_what_is_missing_is_named(weights, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    _, error = export(f"--weights {weights} --out {tmp_path / 'out'}", status=2)
    words = {"tensorflow": "the package tf2onnx is missing: pip install "}
    assert error.startswith(f"error: {words.get(BACKEND, 'KERAS_BACKEND: ')}")
    assert not list(tmp_path.iterdir())
