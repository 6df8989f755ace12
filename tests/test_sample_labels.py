"""`ddpm-sample` with labels and guidance."""

import numpy as np
import pytest
from PIL import Image
from sample_command import CONFIG, cells, pixels_of, sample
from saved_run import save_run

NAMES = ["daisy", "rose", "water lily"]
LABELLED = CONFIG.model_copy(update={"class_labels": True, "class_names": NAMES})


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    save_run(folder / "run", LABELLED)
    save_run(folder / "weaker", LABELLED, seed=1)
    guided = LABELLED.model_copy(update={"sample_guidance_scale": 3.0})
    save_run(folder / "guided", guided)
    save_run(folder / "unlabelled", CONFIG)
    others = LABELLED.model_copy(update={"class_names": ["oak", "elm", "ash"]})
    save_run(folder / "trees", others)
    slower = CONFIG.model_copy(update={"total_timesteps": 10})
    save_run(folder / "ten_steps", slower)
    return folder


@pytest.fixture(autouse=True)
def in_workplace(workplace, monkeypatch):
    monkeypatch.chdir(workplace)


def arrays(flags):
    sample(f"{flags} --steps 4 --force --out images.npz")
    with np.load("images.npz") as file:
        return dict(file)


def test_grid_has_a_named_row_for_each_label():
    flags = "--weights run --steps 4 --num-images 3 --force"
    sample(f'{flags} --labels rose,"Water Lily" --out rows.png')
    pixels = pixels_of("rows.png")
    assert pixels.shape[0] == 2 * 8 + 3 * 2
    names = pixels.shape[1] - (3 * 12 + 4 * 2)  # the column on the left
    assert names > 20
    assert all((row[:, :names] < 128).any() for row in np.split(pixels[1:-1], 2))
    with Image.open("rows.png") as image:
        assert image.text["labels"] == "rose, water lily"
    sample(f"{flags} --labels 2 --out row.png")
    row = cells(pixels_of("row.png")[:, -(3 * 12 + 4 * 2) :], 3)
    for found, expected in zip(cells(pixels[:, names:], 3)[3:], row, strict=True):
        np.testing.assert_allclose(found.astype(int), expected, atol=1)


def test_an_image_depends_on_its_seed_and_label():
    found = arrays("--weights run --labels all --seeds 7,3")
    assert found["seeds"].tolist() == [7, 3] * 3
    assert found["labels"].tolist() == [n for n in NAMES for _ in range(2)]
    assert len({image.tobytes() for image in found["images"]}) == 6
    alone = arrays("--weights run --labels rose --seeds 3")
    difference = np.int32(alone["images"][0]) - found["images"][3]
    assert np.abs(difference).max() <= 1


def test_a_seed_has_its_random_label():
    many = arrays("--weights run --num-images 30")["labels"].tolist()
    assert set(many) == set(NAMES)
    few = arrays("--weights run --seeds 29,4 --labels random")["labels"].tolist()
    assert few == [many[29], many[4]]


def test_images_of_an_interpolation_share_one_random_label():
    found = arrays("--weights run --interpolate 1 2 --num-images 6")["labels"]
    assert len(set(found.tolist())) == 1


def test_files_are_named_by_seed_and_class():
    sample("--weights run --labels 'water lily' --seeds 5 --steps 2 --out folder")
    with Image.open("folder/000005_water-lily.png") as image:
        assert image.text["label"] == "water lily"


def test_guidance_goes_beyond_the_label():
    common = "--weights run --labels rose --num-images 2 --no-clip"
    plain = arrays(common)
    same = arrays(f"{common} --guidance-scale 1")
    np.testing.assert_array_equal(same["images"], plain["images"])
    none = arrays("--weights run --labels none --num-images 2 --no-clip")
    zero = arrays(f"{common} --guidance-scale 0")
    np.testing.assert_array_equal(zero["images"], none["images"])
    strong = arrays(f"{common} --guidance-scale 3")
    assert strong["guidance_scale"] == 3
    configured = arrays(f"{common.replace('run', 'guided')}")
    np.testing.assert_array_equal(configured["images"], strong["images"])
    assert (strong["images"] != plain["images"]).any()
    never = arrays(f"{common} --guidance-scale 3 --guidance-interval 0 0.01")
    np.testing.assert_array_equal(never["images"], plain["images"])
    assert str(never["guidance_interval"]) == "0.0 0.01"


def test_a_guide_takes_the_place_of_no_label():
    common = "--weights run --labels rose --num-images 2 --guidance-scale 2"
    by_itself = arrays(f"{common} --guide run")  # the difference is 0
    plain = arrays("--weights run --labels rose --num-images 2")
    np.testing.assert_allclose(by_itself["images"].astype(int), plain["images"], atol=1)
    guided = arrays(f"{common} --guide weaker")
    assert (guided["images"] != plain["images"]).any()
    assert len(str(guided["guide"])) > 8
    arrays("--weights unlabelled --num-images 2 --guidance-scale 2 --guide unlabelled")


def test_images_between_two_labels():
    found = arrays("--weights run --interpolate-labels daisy rose --num-images 3")
    assert found["seeds"].tolist() == [0, 0, 0]
    assert set(found["labels"].tolist()) == {"daisy to rose"}
    for place, name in ((0, "daisy"), (2, "rose")):
        end = arrays(f"--weights run --labels {name} --num-images 1")["images"][0]
        difference = np.int32(found["images"][place]) - end
        assert np.abs(difference).max() <= 1


def test_classes_are_listed():
    output, _ = sample("--weights run --list-labels")
    assert output.splitlines() == ["   0  daisy", "   1  rose", "   2  water lily"]


def test_no_name_of_a_class_reaches_the_terminal(workplace):
    names = ["daisy", "\x1b[2J", "water lily"]
    save_run(workplace / "hostile", LABELLED.model_copy(update={"class_names": names}))
    output, _ = sample("--weights hostile/weights.safetensors --list-labels")
    assert output.splitlines()[1] == "   1  \\x1b[2J"
    _, error = sample(
        "--weights hostile/weights.safetensors --labels x --out x.png", status=2
    )
    assert "\x1b" not in output + error


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--weights run --labels roze", "--labels: there is no class 'roze' among the"),
        ("--weights run --labels roze", "did you mean 'rose'? (--list-labels shows"),
        ("--weights run --labels 3", "--labels: there is no class '3'"),
        ("--weights run --labels ''", "--labels: name one class"),
        ("--weights unlabelled --labels rose", "--labels: these weights know no class"),
        ("--weights unlabelled --list-labels", "--list-labels: these weights know no"),
        ("--weights run --guidance-scale -1", "--guidance-scale: "),
        ("--weights run --guidance-scale nan", "--guidance-scale: "),
        ("--weights run --guidance-interval 0.8 0.2", "--guidance-interval: "),
        ("--weights unlabelled --guidance-scale 2", "--guidance-scale: these weights"),
        ("--weights run --guide weaker", "--guide: needs a --guidance-scale"),
        ("--weights run --guidance-scale 2 --guide trees", "--guide: trees"),
        ("--weights run --guidance-scale 2 --guide ten_steps", "--guide: ten_steps"),
        ("--weights run --guidance-scale 2 --guide none", "--guide: "),
        (
            "--weights run --interpolate-labels rose tulip",
            "--interpolate-labels: there",
        ),
        (
            "--weights run --interpolate-labels rose,daisy rose",
            "--interpolate-labels: 'rose,daisy' names 2 classes; name one",
        ),
        (
            "--weights run --interpolate-labels rose daisy --labels rose",
            "--interpolate-labels: give it or --labels",
        ),
        ("--weights run --labels rose,daisy --interpolate 1 2", "--labels: --interpol"),
        ("--weights run --labels all --num-images 2000", "--out: 6000 images are too"),
    ],
)
def test_a_mistake_is_one_line(flags, message):
    _, errors = sample(flags, status=2)
    assert message in errors
    assert errors.count("\n") == 1


def test_folder_with_labels_goes_on(tmp_path):
    flags = (
        f"--weights run --steps 2 --labels rose,daisy --seeds 3-5 --out {tmp_path}/a"
    )
    sample(flags)
    files = sorted((tmp_path / "a").iterdir())
    assert [path.name for path in files[:2]] == ["000003_daisy.png", "000003_rose.png"]
    whole = {path: path.read_bytes() for path in files}
    for path in files[1:3]:
        path.unlink()
    output, _ = sample(flags)
    assert "resumed: 4 of 6 images are there" in output
    for path, content in whole.items():
        with Image.open(path) as image:
            assert image.text["label"] == path.stem.split("_")[1]
            found = np.int32(image)
        path.write_bytes(content)
        assert np.abs(found - pixels_of(path)).max() <= 1
