"""Writers of sampled images: grid, folder, npz, animation, strip."""

import errno

import numpy as np
import pytest
from PIL import Image

from ddpm_keras.cli.sample_folder import SAMPLE
from ddpm_keras.cli.writers import (
    png_of,
    write_folder,
    write_gif,
    write_grid,
    write_npz,
    write_strip,
)
from ddpm_keras.data.pixels import make_grid, to_uint8
from ddpm_keras.errors import RunError

SEEDS = np.array([3, 4, 9])
IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, 4, 6, 3)).astype("float32")


def batches():
    yield SEEDS[:2], IMAGES[:2]
    yield SEEDS[2:], IMAGES[2:]


def interrupted():
    """Batches of `ddpm-sample` when Ctrl-C comes in the second."""
    yield SEEDS[:2], IMAGES[:2]


def test_folder_holds_one_png_per_seed_with_its_text(tmp_path):
    assert write_folder(tmp_path / "out", batches(), {"sampler": "ddim"}) == 3
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["000003.png", "000004.png", "000009.png"]
    with Image.open(tmp_path / "out" / "000009.png") as picture:
        assert picture.text == {"sampler": "ddim", "seed": "9"}
        np.testing.assert_array_equal(np.asarray(picture), to_uint8(IMAGES[2]))


def test_grid_holds_all_batches_and_the_text(tmp_path):
    assert write_grid(tmp_path / "g.png", batches(), {"steps": 20}, num_cols=3) == 3
    with Image.open(tmp_path / "g.png") as picture:
        pixels = np.asarray(picture)
        assert picture.text == {"steps": "20"}
    assert pixels.shape == (4 + 2 * 2, 3 * 6 + 4 * 2, 3)
    np.testing.assert_array_equal(pixels[2:6, 18:24], to_uint8(IMAGES[2]))


def test_npz_is_read_by_numpy_without_pickle(tmp_path):
    path = tmp_path / "a.npz"
    assert write_npz(path, batches(), (4, 6, 3), {"sampler": "ddpm"}) == 3
    with np.load(path, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["images"], to_uint8(IMAGES))
        np.testing.assert_array_equal(arrays["seeds"], SEEDS)
        assert arrays["sampler"] == "ddpm"


@pytest.mark.parametrize("name", ["g.png", "a.npz"])
def test_same_images_give_the_same_bytes(tmp_path, name):
    def write(path):
        if path.suffix == ".png":
            write_grid(path, batches(), {"seeds": "3-9"})
        else:
            write_npz(path, batches(), (4, 6, 3), {"seeds_text": "3-9"})
        return path.read_bytes()

    assert write(tmp_path / "one" / name) == write(tmp_path / "two" / name)


def test_an_interrupted_run_leaves_what_is_finished(tmp_path):
    assert write_folder(tmp_path / "out", interrupted()) == 2
    assert write_grid(tmp_path / "g.png", interrupted(), num_cols=2) == 2
    assert write_npz(tmp_path / "a.npz", interrupted(), (4, 6, 3)) == 2
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["images"].shape == (2, 4, 6, 3)


def test_nothing_finished_writes_nothing(tmp_path):
    assert write_grid(tmp_path / "g.png", iter(())) == 0
    assert write_npz(tmp_path / "a.npz", iter(()), (4, 6, 3)) == 0
    assert write_folder(tmp_path / "out", iter(())) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_no_half_file(tmp_path):
    def failing():
        yield SEEDS[:2], IMAGES[:2]
        raise RuntimeError("stop")

    for write in (
        lambda: write_grid(tmp_path / "g.png", failing()),
        lambda: write_npz(tmp_path / "a.npz", failing(), (4, 6, 3)),
    ):
        with pytest.raises(RuntimeError, match="stop"):
            write()
    assert list(tmp_path.iterdir()) == []


def test_an_npz_streams_in_constant_memory(tmp_path):
    """157 MB of images pass through; the peak stays near one batch's 6 MB."""
    tracemalloc = pytest.importorskip("tracemalloc")
    batch = np.zeros((8, 256, 256, 3), "float32")
    tracemalloc.start()
    write_npz(
        tmp_path / "a.npz",
        ((np.arange(8), batch) for _ in range(100)),
        batch.shape[1:],
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6


def frames_of(number, channels=1):
    """Pairs (x_t, x_0) of two images each, all of them different."""
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (number, 2, 2, 4, 6, channels), "uint8")


def test_gif_shows_noisy_images_beside_predicted_ones(tmp_path):
    """Of gray images, which lose nothing to a palette."""
    frames = frames_of(3)
    write_gif(tmp_path / "a.gif", frames)
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.n_frames == 3 and animation.info["loop"] == 0
        durations = []
        for k, (noisy, predicted) in enumerate(frames):
            animation.seek(k)
            durations.append(animation.info["duration"])
            pixels = np.asarray(animation.convert("L"))
            # A frame is 8 by 36 pixels, enlarged 14 times.
            assert pixels.shape == (14 * 8, 14 * 36)
            assert (pixels.reshape(8, 14, 36, 14).std(axis=(1, 3)) == 0).all()
            left, right = np.split(pixels[::14, ::14], 2, axis=1)
            np.testing.assert_array_equal(left, make_grid(noisy))
            np.testing.assert_array_equal(right, make_grid(predicted))
    assert durations == [200, 200, 2000]


def test_gif_of_many_frames_lasts_seconds(tmp_path):
    write_gif(tmp_path / "a.gif", frames_of(51, channels=3))
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.n_frames == 51
        assert animation.info["duration"] == 100


@pytest.mark.parametrize(
    "number, shown",
    [(4, [0, 1, 2, 3]), (20, [0, 2, 4, 6, 8, 11, 13, 15, 17, 19])],
)
def test_strip_shows_predicted_images_over_time(tmp_path, number, shown):
    frames = frames_of(number)
    write_strip(tmp_path / "s.png", frames, {"steps": 5}, num_rows=1)
    with Image.open(tmp_path / "s.png") as picture:
        assert picture.text == {"steps": "5"}
        expected = make_grid(frames[shown, 1, 0], num_cols=len(shown))
        np.testing.assert_array_equal(np.asarray(picture), expected)


@pytest.mark.parametrize(
    "name, write",
    [
        ("g.png", lambda path: write_grid(path, batches())),
        ("a.npz", lambda path: write_npz(path, batches(), (4, 6, 3))),
        ("a.gif", lambda path: write_gif(path, frames_of(2))),
        ("s.png", lambda path: write_strip(path, frames_of(2))),
    ],
)
def test_full_disk_is_reported_and_leaves_no_half_file(
    tmp_path, monkeypatch, name, write
):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(RunError, match=f"{name}: cannot be written .No space left"):
        write(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_classes_do_not_share_a_file():
    names = ["c", "c++", "c#", "a" * 70, "a" * 71, "+", "water-lily", "water lily"]
    paths = [png_of("out", 7, name)[0] for name in names]
    assert len(set(paths)) == len(names)
    assert paths[0].name == "000007_c.png"
    assert paths[-1].name == "000007_water-lily.png"
    assert all(SAMPLE.fullmatch(path.name) for path in paths)
