"""The configuration: its files, its flags, and their mistakes."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from ddpm_keras.config import Config
from ddpm_keras.config_file import load_config
from ddpm_keras.errors import InputError

REPOSITORY = Path(__file__).parents[1]
CONFIGS = REPOSITORY / "configs"
CHECK = "check the brackets, quotes and indentation"
# Each alias stands for nine of the one before.
BOMB = "a: &a [x, x]\n" + "".join(
    f"{k}: &{k} [{', '.join([f'*{j}'] * 9)}]\n"
    for j, k in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.fixture
def refusal(tmp_path, monkeypatch):
    """A function from the content of x.yaml (and flags) to the line of the error."""
    monkeypatch.chdir(tmp_path)

    def read(content, **overrides):
        Path("x.yaml").write_bytes(
            content if isinstance(content, bytes) else content.encode()
        )
        start = time.process_time()
        with pytest.raises(InputError) as error:
            load_config("x.yaml", overrides)
        # Seconds, not minutes: without other load 1, on a slow and busy machine 2.
        assert time.process_time() - start < 5
        return str(error.value)

    return read


# Files.


def test_flowers64_is_the_recipe():
    given = load_config(CONFIGS / "flowers64.yaml")
    assert given == Config()  # The recipe is the default, ...
    recipe = dict(  # ... and these are its numbers.
        dataset_name="oxford_flowers102",
        splits=["train"],
        img_size=64,
        img_channels=3,
        batch_size=32,
        first_conv_channels=64,
        channel_multiplier=[1, 2, 4, 8],
        has_attention=[False, False, True, True],
        num_res_blocks=2,
        norm_groups=8,
        dropout=0.0,
        interpolation="nearest",
        activation="swish",
        total_timesteps=1000,
        schedule="linear",
        beta_start=1e-4,
        beta_end=0.02,
        clip_min=-1.0,
        clip_max=1.0,
        learning_rate=2e-4,
        optimizer="adam",
        loss="mean_squared_error",
        ema=0.999,
        num_epochs=800,
        random_flip=True,
        validation_fraction=0.0,
        prediction_type="epsilon",
        snr_gamma=None,
        ema_warmup_power=None,
        learning_rate_decay="none",
        patch_size=1,
        augment=0.0,
        schedule_shift=1.0,
        rescale_zero_terminal_snr=False,
        class_labels=False,
        class_names=None,
    )
    assert {key: getattr(given, key) for key in recipe} == recipe


def test_cifar10_is_the_papers_model():
    given = load_config(CONFIGS / "cifar10.yaml")
    paper = dict(
        dataset_name="cifar10",
        img_size=32,
        random_flip=True,
        batch_size=128,
        first_conv_channels=128,
        channel_multiplier=[1, 2, 2, 2],
        has_attention=[False, True, False, False],
        num_res_blocks=2,
        norm_groups=32,
        dropout=0.1,
        total_timesteps=1000,
        learning_rate=2e-4,
        ema=0.9999,
    )
    assert {key: getattr(given, key) for key in paper} == paper
    assert given.num_epochs * (50_000 // given.batch_size) == pytest.approx(8e5, 0.01)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_files_load_and_round_trip(path, tmp_path):
    config = load_config(path)
    copy = tmp_path / "config.yaml"
    copy.write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(copy) == config


@pytest.mark.parametrize(
    "values",
    [
        {},
        dict(img_size=[48, 64], splits=["train", "test[:50%]"], sample_steps=50),
        dict(class_labels=True, class_names=["rose", "?glantine", '?"', "a?"]),
        dict(learning_rate=3e-5, clip_max=1e22, seed=2**31 - 258, tensorboard=True),
        *(
            dict(data_dir=text)
            for text in (
                "on",
                "null",
                "1e-4",
                " a: b #c",
                "é\n\t\x01'\"",
                "x " * 400,
                "~",
            )
        ),
    ],
)
def test_to_yaml_round_trips(values, tmp_path):
    config = Config(**values)
    (tmp_path / "c.yaml").write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(tmp_path / "c.yaml") == config


def test_to_yaml_has_a_key_a_line_in_order():
    lines = Config().to_yaml().splitlines()
    assert [line.partition(":")[0] for line in lines] == list(Config.model_fields)
    assert "channel_multiplier: [1, 2, 4, 8]" in lines
    assert "data_dir: null" in lines


@pytest.mark.parametrize(
    "line, key, value",
    [
        ("beta_start: 1e-4", "beta_start", 1e-4),
        ("learning_rate: 1", "learning_rate", 1.0),
        ("dataset_name: on", "dataset_name", "on"),
        ("\ufeffseed: 3", "seed", 3),
        ("'seed': 3", "seed", 3),
        ("img_size: [8, 16]", "img_size", [8, 16]),
    ],
)
def test_values_have_yaml_1_2_types(tmp_path, line, key, value):
    (tmp_path / "c.yaml").write_text(line, encoding="utf-8")
    read = getattr(load_config(tmp_path / "c.yaml"), key)
    assert (read, type(read)) == (value, type(value))


# One full text of each kind.
@pytest.mark.parametrize(
    "content, line",
    [
        (
            "\nlerning_rate: 1e-4",
            "x.yaml:2: unknown key 'lerning_rate'; did you mean 'learning_rate'?",
        ),
        ("zzz: 1", "x.yaml:1: unknown key 'zzz'; --help lists the keys"),
        (
            "seed: 1\nema: 0.9\nseed: 2",
            "x.yaml:3: repeated key 'seed', first given at x.yaml:1; remove one of "
            "them",
        ),
        (
            "# x\n\nnum_epochs: many",
            "x.yaml:3: num_epochs must be an integer, 1 or more; received 'many'",
        ),
        (
            "sampler: ddmp",
            "x.yaml:1: sampler must be ddpm, ddim or dpmpp; received 'ddmp'",
        ),
        (
            "seed: 1\nimg_size: 60",
            "x.yaml:2: img_size must be a multiple of 8 for 4 levels; the valid height "
            "nearest to 60 is 56 or 64. Received: img_size=60, "
            "channel_multiplier=[1, 2, 4, 8]",
        ),
        (
            "patch_size: 4\nimg_size: 40",
            "x.yaml:2: img_size must be a multiple of 32 for 4 levels of patches of "
            "4x4; the valid height nearest to 40 is 32 or 64. Received: img_size=40, "
            "channel_multiplier=[1, 2, 4, 8], patch_size=4",
        ),
        (
            "splits: [a\nseed: 2",
            "x.yaml:2: bad YAML: expected ',' or ']', but got ':' "
            f"(while parsing a flow sequence, line 1); {CHECK}",
        ),
        (
            "seed: 2020-13-01",
            "x.yaml:1: seed: bad value: month must be in 1..12; write another",
        ),
        ("- 1", "x.yaml: must be a mapping; write lines of 'key: value'"),
        ("# none\n", "x.yaml: holds no keys; write at least one, as 'seed: 0'"),
        ("seed: \x01", "x.yaml:1: character 0x01 is refused; remove it"),
        (
            b"ema: 0.9\nseed: \xff",
            "x.yaml:2: byte 0xff is not UTF-8 text; save the file as UTF-8",
        ),
        (
            "seed: 1\nema: !!python/object/apply:os.system ['touch ran']",
            "x.yaml:2: tag !!python/object/apply:os.system is refused; write a plain "
            "value",
        ),
        (
            "seed: *none",
            "x.yaml:1: anchors and aliases (&, *) are refused; write the value out",
        ),
        (
            "%YAML 1.1\n---\nrandom_flip: on",
            "x.yaml:2: a % directive is refused; remove it",
        ),
        (
            "[" * 16_000,
            "x.yaml:1: nested too deep; a value is a word, a number or a list",
        ),
        (
            f"seed: {'9' * 5000}",
            "x.yaml:1: over 1000 characters; shorten the value",
        ),
        (
            f"splits: [{'1,' * 8_000}]",
            f"x.yaml:1: splits must be a list of names; received [{'1, ' * 18}1,...",
        ),
        (
            "# no\n" * 400_000,
            "x.yaml: over 256 kB, too large for a configuration; check the path",
        ),
    ],
    ids=lambda value: repr(value[:30]),
)
def test_bad_file_is_one_line(refusal, content, line):
    assert refusal(content) == line
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "line, received",
    [
        ('num_epochs: "3"', "'3'"),
        ("num_epochs: true", "true"),
        ("num_epochs: 1e3", "1000.0"),
        ("num_epochs:", "null"),
        ("num_epochs: {[1]: 2}", "{}"),
        ("batch_size: -1", "-1"),
        ("sample_every: -1", "-1"),
        ("seed: 2147483646", "2147483646"),
        (f"seed: {'9' * 90}", f"{'9' * 57}..."),
        ("learning_rate: 0", "0"),
        ("learning_rate: .inf", "Infinity"),
        ("clip_min: on", "'on'"),
        ("clip_min: .nan", "NaN"),
        ("ema: 1.0", "1.0"),
        ("grad_clip: 0", "0"),
        ("random_flip: 1", "1"),
        ("random_flip: yes", "'yes'"),
        ("img_channels: 2", "2"),
        ("img_channels: true", "true"),
        ("img_size: [64]", "[64]"),
        ("splits: train", "'train'"),
        ("splits: []", "[]"),
        ("channel_multiplier: [1, 2, x]", '[1, 2, "x"]'),
        ("has_attention: [1, 0]", "[1, 0]"),
        ("optimizer: ''", "''"),
        ("data_dir: 2020-01-02", '"2020-01-02"'),
        ("sample_steps: 0", "0"),
        ("sample_eta: 1.5", "1.5"),
        ("sample_guidance_scale: -1", "-1"),
        ("eval_images: 15", "15"),
        ("save_every: 0min", "'0min'"),
        ("prediction_type: noise", "'noise'"),
        ("snr_gamma: 0", "0"),
        ("ema_warmup_power: -1", "-1"),
        ("learning_rate_decay: exponential", "'exponential'"),
        ("patch_size: 0", "0"),
        ("augment: 1.5", "1.5"),
        ("schedule_shift: 0", "0"),
        ("label_dropout: 1", "1"),
        ("class_labels: 1", "1"),
        ("class_names: []", "[]"),
    ],
)
def test_bad_value_names_its_key(refusal, line, received):
    key = line.partition(":")[0]
    message = refusal(line)
    assert message.startswith(f"x.yaml:1: {key} must be ")
    assert message.endswith(f"; received {received}")


@pytest.mark.parametrize(
    "values, keys",
    [
        (dict(has_attention=[True]), "channel_multiplier has_attention"),
        (dict(beta_start=0.03), "beta_start beta_end"),
        (dict(beta_end=1.5), "beta_start beta_end"),
        (dict(beta_end=0.35), "beta_end prediction_type"),
        (dict(beta_start=1e-17), "schedule_shift beta_start"),
        (dict(schedule_shift=1e200), "schedule_shift beta_start"),
        (
            dict(schedule_shift=1e-200, prediction_type="sample"),
            "schedule_shift beta_start",
        ),
        (dict(clip_max=-1.0), "clip_min clip_max"),
        (
            dict(total_timesteps=10, sample_steps=11),
            "sample_steps total_timesteps sample_until",
        ),
        (
            dict(total_timesteps=10, sample_steps=10, sample_until=0.1),
            "sample_steps total_timesteps sample_until",
        ),
        (dict(seed=2147483391), "seed num_samples eval_images"),
        (dict(patch_size=3), "img_size channel_multiplier patch_size"),
        (
            dict(rescale_zero_terminal_snr=True),
            "rescale_zero_terminal_snr prediction_type",
        ),
        (
            dict(
                rescale_zero_terminal_snr=True,
                prediction_type="sample",
                total_timesteps=1,
            ),
            "rescale_zero_terminal_snr",
        ),
        (dict(class_names=["a"]), "class_names class_labels"),
        (dict(class_labels=True, class_names=["a", "a"]), "class_names"),
        (dict(sample_guidance_scale=2.0), "sample_guidance_scale class_labels"),
    ],
    ids=str,
)
def test_keys_that_do_not_fit_together_are_named(values, keys):
    with pytest.raises(ValidationError) as error:
        Config(**values)
    assert error.value.errors()[0]["ctx"]["error"].keys == tuple(keys.split())


@pytest.mark.parametrize(
    "content, line",
    [
        ("1: 2", "x.yaml:1: unknown key '1'"),
        ("[1, 2]: 3", "x.yaml:1: unknown key '?'"),
        ('"\\ud800": 1', "x.yaml:1: the key '\\ud800' is no text"),
        ('seed: "\\U00110000"', "x.yaml:1: bad YAML: "),
        ("<<: {seed: 1}", "x.yaml:1: unknown key '<<'"),
        (
            "\nbeta_end: 1.5",
            "x.yaml:2: beta_start must be above 0 and not above beta_end",
        ),
        ("\tseed: 1", "x.yaml:1: bad YAML: found character '\\t'"),
        ("seed: 1\n---\nseed: 2", "x.yaml:2: bad YAML: but found another document"),
        ("seed: {a: 1, a: 2}", "x.yaml:1: seed: bad value: found duplicate key"),
        ("", "x.yaml: holds no keys"),
        ("seed: !!int '1'", "x.yaml:1: tag !!int is refused"),
        (BOMB, "x.yaml:1: anchors and aliases (&, *) are refused"),
    ],
    ids=lambda value: repr(value[:30]),
)
def test_bad_file_names_the_place(refusal, content, line):
    assert refusal(content).startswith(line)


@pytest.mark.parametrize(
    "path, line",
    [
        (
            "configs/flower64.yaml",
            "configs/flower64.yaml: no such file; did you mean configs/flowers64.yaml?",
        ),
        ("configs/zzz", "configs/zzz: no such file; check the path"),
        ("nowhere/x.yaml", "nowhere/x.yaml: no such file; check the path"),
        ("configs", "configs: not a file but a folder or device; name a file"),
        (
            "configs/demo.yaml/x",
            "configs/demo.yaml/x: cannot be read: Not a directory",
        ),
    ],
)
def test_bad_path_is_one_line(monkeypatch, path, line):
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(InputError) as error:
        load_config(path)
    assert str(error.value) == line


def test_keras_is_not_imported():
    code = (
        "import sys, ddpm_keras.config\n"
        "print(*sorted({'keras', 'tensorflow', 'jax'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert (run.returncode, run.stdout) == (0, "\n"), run.stderr


def test_every_key_is_described():
    assert all(field.description for field in Config.model_fields.values())


def test_config_is_frozen_and_has_no_other_keys():
    with pytest.raises(ValidationError):
        Config().seed = 1
    with pytest.raises(ValidationError):
        Config(num_epoch=1)


# Flags.


@pytest.mark.parametrize(
    "overrides, line",
    [
        (
            dict(num_epochs="many"),
            "--num_epochs: must be an integer, 1 or more; received 'many'",
        ),
        (
            dict(num_epochs="!!int 3"),
            "--num_epochs: tag !!int is refused; write a plain value",
        ),
        (
            dict(channel_multiplier="[1, 2"),
            "--channel_multiplier: bad YAML: expected ',' or ']', but got "
            f"'<stream end>'; {CHECK}",
        ),
        (dict(optimizer=""), "--optimizer: must be a name; received ''"),
        (
            dict(dataset_name="\udcff"),
            "--dataset_name: must be text in UTF-8; received '\\udcff'",
        ),
        (
            dict(num_epoch="3"),
            "--num_epoch: unknown key 'num_epoch'; did you mean 'num_epochs'?",
        ),
        (
            # The flag is named, though the file gives the other key.
            dict(has_attention="[true]"),
            "--has_attention: channel_multiplier and has_attention must have one entry "
            "for each level, but have 2 and 1. Received: channel_multiplier=[1, 2], "
            "has_attention=[True]",
        ),
    ],
)
def test_bad_override_names_the_flag(refusal, overrides, line):
    content = "channel_multiplier: [1, 2]\nhas_attention: [false, true]"
    assert refusal(content, **overrides) == line


def test_an_override_replaces_a_bad_value(tmp_path):
    (tmp_path / "c.yaml").write_text("num_epochs: many")
    assert load_config(tmp_path / "c.yaml", {"num_epochs": "3"}).num_epochs == 3
