"""Classes of images and their names."""

import json

import numpy as np
import pytest
from refusal import refusal
from safetensors.numpy import save_file

from ddpm_keras.config import Config
from ddpm_keras.config_file import load_config
from ddpm_keras.data.classes import check_class_names, find_classes, number_classes
from ddpm_keras.weights.safetensors_file import metadata_of, read_config


def test_classes_are_numbered_in_sorted_order_without_gaps():
    labels, names = number_classes([7, 30, 7, 4])
    assert (labels.dtype, names) == (np.int32, ("4", "7", "30"))
    np.testing.assert_array_equal(labels, [1, 2, 1, 0])
    labels, names = number_classes([2, 0, 2], "zyx".__getitem__)
    np.testing.assert_array_equal(labels, [1, 0, 1])
    assert names == ("z", "x")


@pytest.mark.parametrize(
    "name, shown",
    [
        ("Rosé 花", "Rosé 花"),
        ("  wide  rose ", "wide  rose"),
        ("\x1b[31mred\n", "?[31mred"),
        ("caf\udce9", "caf?"),  # a name that is not UTF-8
        ("x" * 200, "x" * 200),
    ],
)
def test_names_are_printable(name, shown):
    assert number_classes([name])[1] == (shown,)


@pytest.mark.parametrize(
    "names, message",
    [
        ([" \n"], "class_labels: ' \\n' is no class name; rename the class"),
        (
            ["x" * 201],
            f"class_labels: the class name '{'x' * 56}... has 201 characters; shorten "
            "it to 200",
        ),
        (
            ["a", "b ", "b"],
            "class_labels: the classes 'b' and 'b ' have the same name; rename one",
        ),
        (["\0", "\1"], "class_labels: the classes '\\x00' and '\\x01' have the same"),
    ],
)
def test_names_that_cannot_be_used_are_refused(names, message):
    assert refusal(number_classes, names).startswith(message)


def test_as_many_names_as_are_possible_go_into_files(tmp_path):
    _, names = number_classes([f"{k:04d} 'ä: 花" + "x" * 6 for k in range(10_000)])
    config = Config(class_labels=True, class_names=list(names))
    (tmp_path / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(tmp_path / "config.yaml") == config
    weights = tmp_path / "weights.safetensors"
    save_file({"a": np.zeros(1)}, weights, metadata_of(config, None))
    assert read_config(weights) == config
    longer = [f"{name}!!" for name in names]
    assert "bytes; shorten them to 200,000 in all" in refusal(number_classes, longer)


def test_number_of_classes_is_bounded():
    assert len(number_classes(range(10_000))[1]) == 10_000
    assert refusal(number_classes, range(10_001)) == (
        "class_labels: the images have 10,001 classes; join some of them, up to "
        "10,000 are possible"
    )


def test_first_class_that_differs_is_named():
    check_class_names(("a", "b"), ["a", "b"])
    message = refusal(check_class_names, ["x" * 30] * 9, ["x" * 30] * 8 + ["y"])
    assert f"classes are {'x' * 30}, {'x' * 25}...; class 8 is " in message


# Folders: find_classes reads names alone.


def test_image_outside_of_a_class_folder_is_named(tmp_path):
    assert refusal(find_classes, str(tmp_path), ["a/1.png", "b.png", "c.png"]) == (
        f"class_labels: 'b.png' in {tmp_path} lies outside of a class folder; put each "
        "image into a subfolder named after its class, or leave the key out"
    )


@pytest.mark.parametrize(
    "text, problem",
    [
        ("{", "cannot read {path} (Expecting property name"),
        (b"\xff\xfe{", "cannot read {path} ("),
        ("[" * 100_000, "cannot read {path} (maximum recursion"),
        ('{"labels": null}', "{path} has no labels; list [file, class number] of"),
        ("{}", "{path} has no labels"),
        ("[]", "{path} has no labels"),
        ('{"labels": 5}', "labels of {path} must be pairs of a file and its class nu"),
        ('{"labels": [["a.png", 1], ["b.png", null]]}', '...received ["b.png", null]'),
        ('{"labels": [["a.png", -1]]}', '...received ["a.png", -1]'),
        ('{"labels": [["a.png", true]]}', '...received ["a.png", true]'),
        ('{"labels": [["a.png", 1.5]]}', '...received ["a.png", 1.5]'),
        ('{"labels": [["a.png", [0, 1]]]}', '...received ["a.png", [0, 1]]'),
        ('{"labels": {"a.png": 1}}', '...received {"a.png": 1}'),
        ('{"labels": [["a.png", 1]]}', "'b.png' is not listed in {path}; add its"),
    ],
)
def test_dataset_json_that_cannot_be_used_is_refused(tmp_path, text, problem):
    path = tmp_path / "dataset.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    message = refusal(find_classes, str(tmp_path), ["a.png", "b.png"])
    start = (
        f"labels of {path} must be pairs of a file and its class number, 0 or more; "
    )
    problem = problem.replace("...", start).replace("{path}", str(path))
    assert message.startswith(f"class_labels: {problem}")
    assert "\n" not in message and len(message) < 500


def test_dataset_json_names_a_class_by_its_number(tmp_path):
    entries = [["a/1.png", 6], ["2.png", 0], ["gone.png", 1]]
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": entries}))
    assert find_classes(str(tmp_path), ["2.png", "a/1.png"]) == [0, 6]
