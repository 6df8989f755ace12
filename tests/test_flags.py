"""The flags of the commands, the names of configurations, and one-line mistakes."""

import argparse
import importlib
import os
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

from ddpm_keras.cli import sample_flags
from ddpm_keras.cli.command import parse_args
from ddpm_keras.cli.config_flags import add_config_flags, overrides_from
from ddpm_keras.cli.flags import find_config
from ddpm_keras.cli.sample_flags import parse_seeds
from ddpm_keras.config import Config
from ddpm_keras.config_file import load_config
from ddpm_keras.errors import InputError
from ddpm_keras.samplers import default_steps_text

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
NONE = ["false"] * 3


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser(prog="train.py", allow_abbrev=False)
    parser.add_argument("--config", required=True)
    add_config_flags(parser)
    return parser


@pytest.mark.parametrize(
    "flags, expected",
    [
        ([], {}),
        (["--num_epochs", "2"], dict(num_epochs=2)),
        (["--num_epochs=2", "--ema", "0"], dict(num_epochs=2, ema=0.0)),
        (["--beta_start=1e-5"], dict(beta_start=1e-5)),
        (["--clip_min", "-2.5"], dict(clip_min=-2.5)),
        (
            ["--channel_multiplier", "[1,2,2]", "--has_attention=[false,true,false]"],
            dict(channel_multiplier=[1, 2, 2], has_attention=[False, True, False]),
        ),
        (["--img_size", "[32, 64]"], dict(img_size=[32, 64])),
        (["--img_size", "32", "64"], dict(img_size=[32, 64])),
        (["--img-size=32,64"], dict(img_size=[32, 64])),
        (["--img_size", "32"], dict(img_size=32)),
        (
            ["--channel_multiplier", "1", "2", "2", "--has-attention", *NONE],
            dict(channel_multiplier=[1, 2, 2], has_attention=[False] * 3),
        ),
        (
            ["--channel_multiplier=1,2", "--has_attention", "[false,", "true]"],
            dict(channel_multiplier=[1, 2], has_attention=[False, True]),
        ),
        (["--splits", "train", "test[:5%]"], dict(splits=["train", "test[:5%]"])),
        (["--splits", "train"], dict(splits=["train"])),
        (["--splits", "[train, test]"], dict(splits=["train", "test"])),
        (
            ["--class_labels", "--class-names", "on", "water lily"],
            dict(class_labels=True, class_names=["on", "water lily"]),
        ),
        (["--class_names", "null"], dict(class_names=None)),
        (["--random_flip", "false"], dict(random_flip=False)),
        (["--skip_bad"], dict(skip_bad=True)),
        (["--skip-bad", "--seed", "1"], dict(skip_bad=True, seed=1)),
        (["--skip_bad", "false", "--num-epochs=3"], dict(skip_bad=False, num_epochs=3)),
        (["--data_dir=~/photos"], dict(data_dir=os.path.expanduser("~/photos"))),
        (["--data-dir", "~photos"], dict(data_dir="~photos")),
        (["--sample_steps", "20"], dict(sample_steps=20)),
        (["--sample_steps", "null"], dict(sample_steps=None)),
        (["--sample_eta", "1"], dict(sample_eta=1.0)),
        (["--sample-until", "0.1"], dict(sample_until=0.1)),
        (["--sample-eta-until", "0.2"], dict(sample_eta_until=0.2)),
        # Text is taken as it stands.
        (["--data_dir", "photos #2"], dict(data_dir="photos #2")),
        (["--data_dir", "2020"], dict(data_dir="2020")),
        (["--data_dir", "null"], dict(data_dir=None)),
        (["--dataset_name=petals"], dict(dataset_name="petals")),
    ],
)
def test_flags_come_on_top_of_the_file(parser, flags, expected):
    path = str(CONFIGS / "flowers64.yaml")
    args = parse_args(parser, ["--config", path, *flags])
    config = load_config(args.config, overrides_from(args))
    assert config == Config(**expected)
    assert set(overrides_from(args)) == set(expected)


@pytest.mark.parametrize(
    "argv, line",
    [
        (
            ["--num_epoch", "3"],
            "unknown flag --num_epoch: did you mean --num_epochs?",
        ),
        (["--lr", "1e-3"], "unknown flag --lr: did you mean --learning_rate?"),
        (["--lr=1e-3"], "unknown flag --lr: did you mean --learning_rate?"),
        (["--epochs", "3"], "unknown flag --epochs: did you mean --num_epochs?"),
        (["--image-size", "8"], "unknown flag --image-size: did you mean --img_size?"),
        (["--n", "8"], "unknown flag --n: --help lists the flags"),
        (["--confg", "a.yaml"], "unknown flag --confg: did you mean --config?"),
        (["--zzz"], "unknown flag --zzz: --help lists the flags"),
        ([], "the following arguments are required: --config"),
        (["--config"], "argument --config: expected one argument"),
        (["--config", "a", "b"], "unrecognized arguments: b"),
    ],
)
def test_bad_flag_is_one_line(parser, argv, line):
    with pytest.raises(InputError) as error:
        parse_args(parser, argv)
    assert str(error.value) == line


def test_parse_args_reads_the_process_arguments(parser, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--config", "a", "--seed=1"])
    assert overrides_from(parse_args(parser)) == {"seed": "1"}


def test_help_states_meaning_range_and_default_of_every_key(parser):
    words = " ".join(parser.format_help().split())
    for key in Config.model_fields:
        assert f"--{key} " in words or f"--{key}]" in words
    assert (
        "--num_epochs N passes over the images (an integer, 1 or more; default: 800)"
        in words
    )
    assert "(linear or cosine; default: linear)" in words
    for group in ("data:", "network:", "diffusion:", "training:", "pictures and logs:"):
        assert group in words


def test_help_of_a_configuration_has_the_samplers_default_steps():
    text = Config.model_fields["sample_steps"].description
    assert text.endswith(f"null: {default_steps_text()}")


def test_every_flag_of_a_command_takes_both_spellings_and_lists():
    flags = "--weights=~/w --num_images 4 --no_clip --labels rose 'water lily' 7"
    args, _ = sample_flags.parse_flags("", shlex.split(flags))
    assert args.weights == os.path.expanduser("~/w")
    assert (args.num_images, args.no_clip) == (4, True)
    assert args.labels == "rose,water lily,7"
    args, seeds = sample_flags.parse_flags("", "--weights w --seeds 1, 5 20-22".split())
    assert list(seeds) == [1, 5, 20, 21, 22]


def test_other_values_stay_as_they_are(parser):
    # Only flags have two spellings.
    args = parse_args(parser, ["--config", "a_b-c", "--data-dir=x--y_z=1"])
    assert (args.config, args.data_dir) == ("a_b-c", "x--y_z=1")


def test_seeds_are_read():
    assert list(parse_seeds("7")) == [7]
    assert list(parse_seeds("0-3")) == [0, 1, 2, 3]
    assert list(parse_seeds("9,2-3,2147483645")) == [9, 2, 3, 2147483645]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "write 0-63 or 1,5,20-29"),
        ("1,,2", "write 0-63 or 1,5,20-29"),
        ("-3", "write 0-63 or 1,5,20-29"),
        ("1-2-3", "write 0-63 or 1,5,20-29; received '1-2-3'"),
        ("5-4", "seeds go from 0 to 2147483645, upwards"),
        ("2147483646", "seeds go from 0 to 2147483645, upwards"),
        ("0-1000000", "must be 1000000 seeds or fewer; received 1000001"),
        ("0-999999999", "must be 1000000 seeds or fewer"),
    ],
)
def test_wrong_seeds_raise(text, message):
    with pytest.raises(InputError, match=f"^--seeds: {message}"):
        parse_seeds(text)


# Names of configurations, and the commands that pip installs.


def test_configuration_is_found_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("demo") == CONFIGS / "demo.yaml"
    for path in ("mine.yaml", "configs/demo", "../demo"):  # a path, existing or not
        assert find_config(path) == Path(path)


def test_misspelt_configuration_gets_the_nearest_name():
    with pytest.raises(InputError, match="^--config: .*'demmo'; did you mean demo?"):
        find_config("demmo")
    with pytest.raises(InputError, match="choose from cifar10, demo, flowers32, flow"):
        find_config("xyzzy")


def test_existing_file_comes_before_a_shipped_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("demo").touch()
    assert find_config("demo") == Path("demo")


def test_entry_points_are_callable():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    commands = project["project"]["scripts"]
    assert set(commands) == {
        f"ddpm-{name}" for name in ("train", "sample", "evaluate", "convert", "export")
    }
    for name, place in commands.items():
        module, _, function = place.partition(":")
        assert function == name.removeprefix("ddpm-")
        start = getattr(importlib.import_module(module), function)
        main = importlib.import_module(f"ddpm_keras.cli.{function}").main
        assert start.args == (function,) and callable(main)
