"""`ddpm-sample`, from weights to pictures."""

import contextlib
import json
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from sample_command import CONFIG, SCRIPT, cells, pixels_of, sample
from saved_run import save_run

MANY_DIGITS = "9" * 5000


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with `run`, which holds weights as training leaves them."""
    from ddpm_keras.weights import save_weights

    folder = tmp_path_factory.mktemp("sample")
    network = save_run(folder / "run", CONFIG)
    wider = CONFIG.model_copy(update={"first_conv_channels": 16})
    save_weights(network, folder / "other.safetensors", wider)
    save_file({"a": np.zeros(3, "float32")}, folder / "foreign.safetensors")
    network.set_weights([np.full(w.shape, np.nan) for w in network.weights])
    save_weights(network, folder / "nan.safetensors", CONFIG)
    network.set_weights([np.full(w.shape, 1e30) for w in network.weights])
    save_weights(network, folder / "huge.safetensors", CONFIG)
    (folder / "text.safetensors").write_text("no weights")
    (folder / "empty").mkdir()
    (folder / "link").symlink_to(folder)
    (folder / "old.png").write_bytes(b"precious")
    return folder


@pytest.fixture(autouse=True)
def in_workplace(workplace, monkeypatch):
    monkeypatch.chdir(workplace)


@pytest.fixture(scope="module")
def grid(workplace):
    """The picture of seeds 5 to 8."""
    with contextlib.chdir(workplace):
        output, _ = sample("--weights run --seed 5 --num-images 4 --out new/grid.png")
    assert "samples: new/grid.png" in output
    return workplace / "new" / "grid.png"


# Pictures.


def test_grid_has_the_images_size_and_number(grid):
    pixels = pixels_of(grid)
    assert pixels.shape == (2 * 8 + 3 * 2, 2 * 12 + 3 * 2, 3)
    images = cells(pixels, 2)
    assert all(image.std() > 10 for image in images)
    assert len({image.tobytes() for image in images}) == 4
    assert [path.name for path in grid.parent.iterdir()] == ["grid.png"]


def test_moved_weights_and_the_same_seed_give_the_same_bytes(grid, tmp_path):
    # In a process of its own, from nothing but the file.
    shutil.copy("run/weights.safetensors", tmp_path / "w.safetensors")
    argv = "--weights w.safetensors --seed 5 --num-images 4".split()
    run = subprocess.run(
        [sys.executable, str(SCRIPT), *argv],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
    assert (tmp_path / "grid.png").read_bytes() == grid.read_bytes()


def test_image_depends_on_its_own_seed(grid, tmp_path):
    out = tmp_path / "grid.png"
    sample(f"--weights run --seed 7 --num-images 3 --batch-size 2 --out {out}")
    first, second, third, nothing = cells(pixels_of(out), 2)
    images = cells(pixels_of(grid), 2)
    np.testing.assert_array_equal(first, images[2])
    np.testing.assert_array_equal(second, images[3])
    assert not any(np.array_equal(third, image) for image in images)
    assert (nothing == 255).all()


def test_16_images_by_another_sampler_over_an_old_file(tmp_path):
    out = tmp_path / "grid.png"
    out.write_bytes(b"old")
    sample(f"--weights run --sampler ddim --steps 2 --out {out} --force")
    pixels = pixels_of(out)
    assert pixels.shape == (4 * 8 + 5 * 2, 4 * 12 + 5 * 2, 3)
    assert len({image.tobytes() for image in cells(pixels, 4)}) == 16


def test_seeds_of_a_list_as_arrays(grid, tmp_path):
    out = tmp_path / "images.npz"
    sample(f"--weights run --seeds 8,5-6 --out {out}")
    with np.load(out) as arrays:
        assert arrays["images"].shape == (3, 8, 12, 3)
        np.testing.assert_array_equal(arrays["seeds"], [8, 5, 6])
        images = cells(pixels_of(grid), 2)
        for image, k in zip(arrays["images"], (3, 0, 1), strict=True):
            np.testing.assert_array_equal(image, images[k])


def test_a_folder_and_the_way_to_the_images(grid, tmp_path):
    sample(
        f"--weights run --seeds 5,6 --out {tmp_path}/images --gif {tmp_path}/way.gif "
        f"--strip {tmp_path}/way.png"
    )
    names = [path.name for path in sorted((tmp_path / "images").iterdir())]
    assert names == ["000005.png", "000006.png"]
    images = cells(pixels_of(grid), 2)
    for name, image in zip(names, images, strict=False):
        np.testing.assert_array_equal(pixels_of(tmp_path / "images" / name), image)
    with Image.open(tmp_path / "way.gif") as image:
        assert image.n_frames == 20
    # A row an image; at the end of the way is the image.
    strip = cells(pixels_of(tmp_path / "way.png"), 10)
    assert len(strip) == 20
    np.testing.assert_array_equal(strip[9], images[0])
    np.testing.assert_array_equal(strip[19], images[1])


def npz(argv, path):
    sample(f"--weights run {argv} --out {path}")
    with np.load(path) as arrays:
        return arrays["images"].astype(int)


def test_interpolation_of_seeds_begins_and_ends_at_their_images(tmp_path):
    ends = npz("--seeds 5,8 --sampler ddim", tmp_path / "ends.npz")
    path = npz("--interpolate 5 8 --num-images 5 --sampler ddim", tmp_path / "path.npz")
    np.testing.assert_allclose(path[[0, -1]], ends, atol=1)  # levels, once rounded
    steps = np.abs(np.diff(path, axis=0)).mean(axis=(1, 2, 3))
    # No step of the path is more than half of the way.
    assert 0 < steps.min() and steps.max() < np.abs(ends[0] - ends[1]).mean() / 2


def test_images_of_an_interpolation_share_the_noise_of_every_step(tmp_path):
    own = npz("--seeds 5", tmp_path / "own.npz")[0]
    path = tmp_path / "path.npz"
    first = npz("--interpolate 5 8 --num-images 3", path)[0]
    np.testing.assert_allclose(first, own, atol=1)
    with np.load(path) as arrays:
        assert arrays["seeds"].tolist() == [5, 5, 5]


def test_steps_may_end_early_and_pixels_be_clipped_at_the_end_alone(tmp_path):
    flags = "--seeds 5 --sampler ddim --steps 6"
    whole = npz(flags, tmp_path / "whole.npz")
    for flag in ("--until 0.5", "--no-clip"):
        assert (npz(f"{flags} {flag}", tmp_path / f"{flag[2:4]}.npz") != whole).any()
    with np.load(tmp_path / "un.npz") as arrays:
        assert arrays["until"] == 0.5


def test_interpolation_of_images_begins_and_ends_at_theirs(tmp_path):
    """Which are what --start-from makes of either, with the same noise."""
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    for level, picture in zip((40, 200), pictures, strict=True):
        Image.fromarray(np.full((8, 12, 3), level, "uint8")).save(picture)
    argv = "--sampler ddim --strength 0.4"
    ends = [
        npz(f"--start-from {picture} --seeds 3 {argv}", picture.with_suffix(".npz"))[0]
        for picture in pictures
    ]
    a, b = pictures
    path = npz(f"--interpolate {a} {b} --seeds 3-7 {argv}", tmp_path / "path.npz")
    np.testing.assert_allclose(path[[0, -1]], ends, atol=1)
    assert (np.diff(path.mean(axis=(1, 2, 3))) > 0).all()


def test_start_from_an_image_stays_as_near_as_the_strength_says(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (8, 12, 3), "uint8")
    Image.fromarray(image).save(tmp_path / "image.png")
    distances = []
    for strength in (0.05, 0.5, 1.0):
        images = npz(
            f"--start-from {tmp_path}/image.png --strength {strength} --num-images 2",
            tmp_path / f"{strength}.npz",
        )
        assert (images[0] != images[1]).any()
        distances.append(np.abs(images - image).mean())
    # Two images of random pixels are 85 levels apart.
    assert 2 * distances[0] < min(distances[1:])


def test_start_image_has_the_background_of_training(tmp_path):
    save_run(tmp_path / "run", CONFIG.model_copy(update={"background": "black"}))
    for name, colour in (("clear", (0, 0, 0, 0)), ("black", (0, 0, 0, 255))):
        Image.new("RGBA", (12, 8), colour).save(tmp_path / f"{name}.png")
        flags = f"--weights {tmp_path}/run --start-from {tmp_path}/{name}.png"
        sample(f"{flags} --seeds 3 --steps 4 --out {tmp_path}/{name}.npz")
    with (
        np.load(tmp_path / "clear.npz") as clear,
        np.load(tmp_path / "black.npz") as black,
    ):
        np.testing.assert_array_equal(clear["images"], black["images"])


def test_start_image_may_have_any_name_of_the_system(tmp_path):
    image = tmp_path / os.fsdecode(b"\xff.png")  # not UTF-8
    Image.new("RGB", (12, 8)).save(image)
    out = tmp_path / "grid.png"
    sample(f"--weights run --start-from {image} --steps 4 --out {out}")
    with Image.open(out) as picture:
        assert picture.text["start_from"].endswith("\\udcff.png")


def test_animation_ends_with_the_sample(tmp_path):
    out, gif = tmp_path / "grid.png", tmp_path / "chain.gif"
    sample(f"--weights run --num-images 4 --steps 10 --out {out} --gif {gif}")
    grid = pixels_of(out).astype(int)
    with Image.open(gif) as animation:
        assert animation.n_frames == 10
        distances = []
        for k in (0, 9):
            animation.seek(k)
            frame = np.asarray(animation.convert("RGB")).astype(int)
            factor = frame.shape[0] // len(grid)
            halves = np.split(frame[::factor, ::factor], 2, axis=1)
            distances.append([np.abs(half - grid).mean() for half in halves])
        assert animation.info["duration"] == 2000
    # 256 colours are a few levels off; another image is many.
    assert max(distances[1]) < 4 and min(distances[0]) > 15


def test_png_records_how_it_was_made(tmp_path):
    argv = "--weights run --seeds 4,6 --sampler ddim --eta 0.5 --steps 5"
    sample(f"{argv} --out {tmp_path}/images --strip {tmp_path}/strip.png")
    with Image.open(tmp_path / "images" / "000006.png") as image:
        text = image.text
    assert len(text.pop("weights")) >= 8
    assert json.loads(text.pop("diffusion"))["timesteps"] == 20
    assert text.pop("backend") == keras.backend.backend()
    made = {"seeds": "4,6", "sampler": "ddim", "steps": "5", "eta": "0.5"}
    made["spacing"] = "trailing"
    assert text == {**made, "seed": "6"}
    with Image.open(tmp_path / "strip.png") as image:
        assert {**made, **image.text} == image.text


def test_second_run_writes_the_same_bytes(tmp_path):
    argv = "--weights run --num-images 3 --batch-size 2"
    for run in ("one", "two"):
        place = tmp_path / run
        sample(f"{argv} --out {place}/images --gif {place}/a.gif --strip {place}/a.png")
    files = [
        {path.name: path.read_bytes() for path in (tmp_path / run).rglob("*.*")}
        for run in ("one", "two")
    ]
    assert len(files[0]) == 5 and files[0] == files[1]


def test_files_are_written_over_only_with_force(tmp_path):
    argv = f"--weights run --num-images 1 --steps 1 --out {tmp_path}/images"
    assert sample(argv)[1] == ""
    (before,) = (tmp_path / "images").iterdir()
    before.write_bytes(b"mine")
    assert sample(argv, status=2)[1] == (
        f"error: --out: {before} cannot be read; remove it, and it is sampled again\n"
    )
    assert before.read_bytes() == b"mine"
    sample(argv + " --force")
    assert pixels_of(before).shape == (8, 12, 3)

    (tmp_path / "images" / "notes.txt").touch()
    message = f"error: --out: {tmp_path}/images exists; name another or use --force\n"
    assert sample(argv, status=2)[1] == message


# Mistakes.


@pytest.mark.parametrize(
    "argv, message",
    [
        (
            "--weights run --interpolate 1 2 --out folder",
            "--out: images between two others share a seed",
        ),
        ("", "the following arguments are required: --weights"),
        ("--wieghts run", "unknown flag --wieghts: did you mean --weights?"),
        ("--num-samples 4", "unknown flag --num-samples: did you mean --num-images?"),
        ("--lr 1", "unknown flag --lr: --help lists the flags"),
        ("--weights run --num-images 0", "--num-images: "),
        ("--weights run --num-images -3", "--num-images: "),
        ("--weights run --num-images x", "argument --num-images: must be a whole n"),
        ("--weights run --seed -1", "--seed"),
        ("--weights run --seed 2147483645 --num-images 2", "--seed"),
        (f"--weights run --seed {MANY_DIGITS}", f"18 digits; received '{'9' * 56}..."),
        (f"--weights run --seeds {MANY_DIGITS}", "--seeds: write 0-63 or 1,5,20-29"),
        (
            f"--weights run --interpolate 1 {MANY_DIGITS}",
            "--interpolate: seeds go from",
        ),
        ("--weights run --out 'a\0b.png'", "a flag must not hold a zero byte"),
        ("--weights run --seed 1.5", "argument --seed: must be a whole number"),
        ("--weights run --steps 0", "1 to 20, the timesteps"),
        ("--weights run --steps 21", "1 to 20, the timesteps"),
        ("--weights run --sampler ddim --steps -1", "1 to 20, the timesteps"),
        ("--weights run --batch-size 0", "--batch-size: must be 1 or more"),
        (
            "--weights run --sampler euler",
            "--sampler: unknown name 'euler'; choose from ddpm, ddim, dpmpp",
        ),
        (
            "--weights run --sampler dpmp",
            "--sampler: unknown name 'dpmp'; did you mean dpmpp?",
        ),
        ("--weights run --spacing trail", "did you mean trailing?"),
        (
            "--weights run --num-images 1000000000",
            "--num-images: must be 1 to 1000000; received 1000000000",
        ),
        (
            "--weights run --seeds 0-999999999",
            "--seeds: must be 1000000 seeds or fewer",
        ),
        ("--weights run --seeds 1 --num-images 1", "give it or --seeds, not both"),
        ("--weights run --num-images 5000", "--out: 5000 images are too many for a"),
        (
            "--weights run --sampler ddim --eta nan",
            "`eta_until` in 0 to 1. Received: eta=nan",
        ),
        ("--weights run --eta 0.5", "The sampler 'ddpm' does not take `eta`"),
        (
            "--weights run --variance beta --steps 5",
            "is known to fail with fewer steps",
        ),
        ("--weights run --sampler dpmpp --spacing leading", 'spacing="trailing"'),
        ("--weights run --strength 0.5", "--strength: is for image files"),
        (
            "--weights run --start-from old.png --strength 0",
            "--strength: must be above",
        ),
        ("--weights run --start-from old.png", "--start-from: cannot read the image"),
        ("--weights run --interpolate 1 nofile.png", "--interpolate: cannot read"),
        ("--weights run --interpolate 1 99999999999", "--interpolate: seeds go from 0"),
        ("--weights run --interpolate 1 2 --num-images 1", "needs 2 or more"),
        ("--weights run --interpolate 1 2 --start-from a.png", "or --interpolate, not"),
        ("--weights run --gif a.png", "--gif: a.png must end in .gif"),
        (
            "--weights run --strip a.png --out a.png",
            "--strip: a.png is a file of",
        ),
        (
            "--weights run --strip link/a.png --out a.png",
            "link/a.png is a file of --out",
        ),
        ("--weights run --strip link/new/000003.png --out new", "is a file of --out"),
        ("--weights run --strip old.png", "--strip: old.png exists; name another"),
        ("--weights run --out a.jpg", "--out: a.jpg must end in .png"),
        ("--weights run --out /", "--out: / exists; name another"),
        ("--weights run --out old.png", "--out: old.png exists; name another"),
        ("--weights nowhere", "nowhere: no such file or folder; check the path"),
        ("--weights empty", "empty: no weights.safetensors in this folder"),
        ("--weights text.safetensors", "text.safetensors: "),
        (
            "--weights other.safetensors",
            "other.safetensors: weights of another network",
        ),
        ("--weights foreign.safetensors", "foreign.safetensors: "),
        ("--weights nan.safetensors", "is not finite; use other weights"),
    ],
)
def test_mistake_is_one_line_and_status_2(workplace, argv, message):
    before = sorted(workplace.rglob("*"))
    output, errors = sample(argv, status=2)
    assert errors.startswith("error: ") and message in errors
    assert errors.endswith("\n") and errors.count("\n") == 1
    assert output == ""
    assert sorted(workplace.rglob("*")) == before
    assert (workplace / "old.png").read_bytes() == b"precious"


@pytest.mark.parametrize("out", ["a.png", "a.npz", "images"])
def test_weights_that_give_no_numbers_are_told(tmp_path, out):
    flags = f"--weights huge.safetensors --num-images 1 --out {tmp_path}/{out}"
    assert sample(flags, status=1)[1].splitlines()[-1] == (
        "error: huge.safetensors: sampling with these weights gives numbers that are "
        "not finite; use other weights"
    )
    assert not list(tmp_path.iterdir())


def test_place_that_cannot_be_written_is_reported():
    argv = "--weights run --num-images 1 --steps 1 --out old.png/grid.png"
    _, error = sample(argv, status=2)
    assert error.startswith("error: ") and "old.png" in error
    assert error.count("\n") == 1
