"""`scripts/sample.py`, from weights to pictures."""

import contextlib
import importlib.util
import io
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from ddpm_keras.config import Config
from ddpm_keras.errors import run_command

SCRIPT = Path(__file__).parents[1] / "scripts" / "sample.py"
CONFIG = Config(
    dataset_name="petals",
    img_size=[8, 12],
    first_conv_channels=8,
    channel_multiplier=[1],
    has_attention=[False],
    num_res_blocks=1,
    norm_groups=4,
    total_timesteps=20,
)


def load_script():
    spec = importlib.util.spec_from_file_location("sample", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


MAIN = load_script()


def sample(argv):
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert run_command(MAIN, argv.split()) == 0
    return output.getvalue()


def pixels_of(path):
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image)


def cells(grid, columns):
    """The images of a grid, which are 8 by 12 pixels, 2 pixels apart."""
    rows = [grid[top : top + 8] for top in range(2, len(grid), 10)]
    return [row[:, 2 + 14 * k :][:, :12] for row in rows for k in range(columns)]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with `run`, which holds weights as training leaves them."""
    from ddpm_keras.unet import build_unet
    from ddpm_keras.weights import RUN_WEIGHTS, save_weights

    folder = tmp_path_factory.mktemp("sample")
    network = build_unet(**CONFIG.unet_arguments())
    # As built, the last layer gives 0 whatever the others do.
    rng = np.random.default_rng(0)
    network.set_weights(
        [w + 0.1 * rng.normal(size=w.shape) for w in network.get_weights()]
    )
    save_weights(network, folder / "run" / RUN_WEIGHTS, CONFIG)

    wider = CONFIG.model_copy(update={"first_conv_channels": 16})
    save_weights(network, folder / "other.safetensors", wider)
    save_file({"a": np.zeros(3, "float32")}, folder / "foreign.safetensors")
    network.set_weights([np.full(w.shape, np.nan) for w in network.weights])
    save_weights(network, folder / "nan.safetensors", CONFIG)
    (folder / "text.safetensors").write_text("no weights")
    (folder / "empty").mkdir()
    (folder / "old.png").write_bytes(b"precious")
    return folder


@pytest.fixture(autouse=True)
def in_workplace(workplace, monkeypatch):
    monkeypatch.chdir(workplace)


@pytest.fixture(scope="module")
def grid(workplace):
    """The picture of seeds 5 to 8."""
    with contextlib.chdir(workplace):
        output = sample("--weights run --seed 5 --num-images 4 --out new/grid.png")
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


# Mistakes.


@pytest.mark.parametrize(
    "argv, told",
    [
        (
            "--weights run --interpolate 1 2 --out folder",
            "--out: the images of --interpolate share a seed",
        ),
        ("", "the following arguments are required: --weights"),
        ("--wieghts run", "unknown flag --wieghts: did you mean --weights?"),
        ("--weights run --num-images 0", "--num-images: "),
        ("--weights run --num-images -3", "--num-images: "),
        ("--weights run --num-images x", "argument --num-images: invalid int"),
        ("--weights run --seed -1", "--seed"),
        ("--weights run --seed 2147483647 --num-images 2", "--seed"),
        ("--weights run --seed 1.5", "argument --seed: invalid int"),
        ("--weights run --steps 0", "1 to 20, the timesteps"),
        ("--weights run --steps 21", "1 to 20, the timesteps"),
        ("--weights run --sampler ddim --steps -1", "1 to 20, the timesteps"),
        ("--weights run --batch-size 0", "--batch-size: must be 1 or more"),
        ("--weights run --sampler euler", "argument --sampler: invalid choice"),
        ("--weights run --out a.jpg", "--out: a.jpg must end in .png"),
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
def test_mistake_is_one_line_and_status_2(workplace, capsys, argv, told):
    before = sorted(workplace.rglob("*"))
    assert run_command(MAIN, argv.split()) == 2
    output = capsys.readouterr()
    assert output.err.startswith("error: ") and told in output.err
    assert output.err.endswith("\n") and output.err.count("\n") == 1
    assert output.out == ""
    assert sorted(workplace.rglob("*")) == before
    assert (workplace / "old.png").read_bytes() == b"precious"


def test_place_that_cannot_be_written_is_told(capsys):
    argv = "--weights run --num-images 1 --steps 1 --out old.png/grid.png".split()
    assert run_command(MAIN, argv) in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "old.png" in error
    assert error.count("\n") == 1
