"""One configuration: its keys, its file, its command-line flags.

Neither Keras nor TensorFlow is imported here, so that a mistake is told at once.
"""

import argparse
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args

from annotated_types import Predicate
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ddpm_keras.errors import ArgumentError, InputError, nearest, short
from ddpm_keras.networks import NETWORKS
from ddpm_keras.networks.unet_arguments import height_and_width
from ddpm_keras.plain_yaml import (
    MAX_VALUE_LENGTH,
    plain_yaml,
    read_mapping,
    read_value,
)
from ddpm_keras.samplers import SAMPLERS, default_steps_text
from ddpm_keras.schedules import SCHEDULES


class Takes(NamedTuple):
    """The values a key takes: `metavar` in the help, `words` there and in errors."""

    metavar: str
    words: str


# Each rule stands beside the words that tell it.
AtLeast1 = Annotated[int, Field(ge=1)]
Count = Annotated[AtLeast1, Takes("N", "an integer, 1 or more")]
CountOrZero = Annotated[int, Field(ge=0), Takes("N", "an integer, 0 or more")]
Number = Annotated[float, Takes("X", "a number")]
Positive = Annotated[float, Field(gt=0), Takes("X", "a number above 0")]
Share = Annotated[
    float, Field(ge=0, lt=1), Takes("X", "a number, 0 or more and below 1")
]
Switch = Annotated[bool, Takes("BOOL", "true or false")]
Text = Annotated[str, Field(min_length=1, max_length=MAX_VALUE_LENGTH)]
Name = Annotated[Text, Takes("NAME", "a name")]
PathOrNone = Annotated[
    Text | None, Takes("PATH", "a path (text; quote a number) or null")
]


class Config(BaseModel):
    """Everything a training run depends on. The defaults are the published recipe.

    `Config(...)` raises pydantic's `ValidationError`; `load_config` is the way in
    from a file and the command line, and tells a mistake in one line.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False
    )

    # Data.
    dataset_name: Name = Field(
        "oxford_flowers102",
        description='a TFDS data set, "petals" (drawn on the spot) or "folder"',
    )
    splits: Annotated[
        list[Text], Field(min_length=1), Takes("LIST", "a list of names")
    ] = Field(["train"], description="TFDS splits to train on, joined")
    data_dir: PathOrNone = Field(
        None,
        description='the images of "folder", or the TFDS directory; '
        "null: TFDS_DATA_DIR or the TFDS default",
    )
    skip_bad: Switch = Field(
        False, description='leave out the images of "folder" that cannot be read'
    )
    num_images: Count = Field(1020, description='images that "petals" draws')
    validation_fraction: Share = Field(
        0.0, description="share of the images held out of training"
    )
    random_flip: Switch = Field(
        True, description="mirror each image left to right with probability 1/2"
    )
    img_size: Annotated[
        AtLeast1 | Annotated[list[AtLeast1], Field(min_length=2, max_length=2)],
        Takes("SIZE", "an integer, 1 or more, or [height, width]"),
    ] = Field(64, description="image side, or height and width, in pixels")
    # Not Literal[1, 3], for which true is 1.
    img_channels: Annotated[
        int, Predicate(lambda number: number in (1, 3)), Takes("N", "1 or 3")
    ] = Field(3, description="1: grey, 3: colour")
    batch_size: Count = Field(32, description="images a step")

    # Network.
    network: Literal[*NETWORKS] = Field("unet", description="which network")
    first_conv_channels: Count = Field(
        64, description="channels of the stem, which the multipliers multiply"
    )
    channel_multiplier: Annotated[
        list[AtLeast1],
        Takes("LIST", "a list of integers, 1 or more each"),
    ] = Field([1, 2, 4, 8], description="width of each level, in stem widths")
    has_attention: Annotated[list[bool], Takes("LIST", "a list of true and false")] = (
        Field(
            [False, False, True, True], description="which levels have self-attention"
        )
    )
    num_res_blocks: Count = Field(2, description="residual blocks a level, going down")
    norm_groups: Count = Field(8, description="groups of each group normalisation")
    dropout: Share = Field(0.0, description="dropout rate in each residual block")
    interpolation: Literal["nearest", "bilinear"] = Field(
        "nearest", description="how the way up enlarges"
    )
    activation: Name = Field("swish", description="a Keras activation")
    initial_weights: PathOrNone = Field(
        None,
        description="start from these, a run folder or weights file of the same "
        "network; null: at random",
    )

    # Diffusion.
    total_timesteps: Count = Field(1000, description="noise steps of the process")
    schedule: Literal[*SCHEDULES] = Field(
        "linear", description="how the noise variance grows; beta_* are for linear"
    )
    beta_start: Positive = Field(1e-4, description="noise variance of the first step")
    beta_end: Positive = Field(0.02, description="noise variance of the last step")
    clip_min: Number = Field(-1.0, description="least value of a denoised pixel")
    clip_max: Number = Field(1.0, description="greatest value of a denoised pixel")

    # Training.
    seed: Annotated[
        int, Field(ge=0, lt=2**31), Takes("N", "an integer, 0 to 2147483647")
    ] = Field(
        0,
        description="the one seed: of weights, drawn and held-out images, their order, "
        "noise and samples",
    )
    learning_rate: Positive = Field(2e-4, description="the optimizer's rate")
    optimizer: Name = Field(
        "adam", description="a Keras optimizer: adam, adamw, sgd, rmsprop, lion, ..."
    )
    loss: Literal["mean_squared_error", "mean_absolute_error", "huber"] = Field(
        "mean_squared_error", description="loss on the predicted noise"
    )
    learning_rate_warmup_steps: CountOrZero = Field(
        0, description="steps over which the rate rises to its value"
    )
    grad_clip: Annotated[
        Annotated[float, Field(gt=0)] | None, Takes("X", "a number above 0, or null")
    ] = Field(None, description="greatest norm of all gradients together")
    gradient_accumulation_steps: Count = Field(
        1, description="steps whose mean gradient makes one update"
    )
    ema: Share = Field(
        0.999, description="share of the averaged weights kept at each step"
    )
    mixed_precision: Literal["none", "bfloat16", "float16"] = Field(
        "none", description="type of the network's arithmetic, for GPUs"
    )
    distribute: Literal["auto", "none"] = Field(
        "auto", description="auto: share each batch among all devices of one kind"
    )
    num_epochs: Count = Field(800, description="passes over the images")

    # Pictures and logs.
    sample_every: CountOrZero = Field(
        10, description="epochs between pictures of samples; 0: never"
    )
    num_samples: Count = Field(16, description="images in such a picture")
    sampler: Literal[*SAMPLERS] = Field("ddpm", description="how images are sampled")
    sample_steps: Annotated[
        AtLeast1 | None,
        Takes("N", "an integer, 1 or more, or null"),
    ] = Field(
        None,
        description=f"network calls an image; null: {default_steps_text()}",
    )
    sample_eta: Annotated[float, Field(ge=0, le=1), Takes("X", "a number, 0 to 1")] = (
        Field(0.0, description="share of the ancestral noise, of ddim and dpmpp")
    )
    eval_every: CountOrZero = Field(
        0,
        description="epochs between measures (KID, SWD) of samples, against the images "
        "held out if there are 16 or more; 0: never",
    )
    eval_images: Annotated[int, Field(ge=16), Takes("N", "an integer, 16 or more")] = (
        Field(256, description="samples that are measured, by 20 steps of dpmpp")
    )
    save_every: Annotated[
        AtLeast1 | Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}min$")],
        Takes("PERIOD", "steps such as 500, or minutes such as 10min"),
    ] = Field("10min", description="time between checkpoints; the end has one as well")
    keep: Count = Field(2, description="checkpoints to keep")
    tensorboard: Switch = Field(False, description="write TensorBoard logs")

    @model_validator(mode="after")
    def _check_keys_together(self) -> Self:
        NETWORKS[self.network].check(**self.network_arguments())
        if not self.beta_start <= self.beta_end < 1:
            raise ArgumentError(
                "beta_start must not be above beta_end, and beta_end below 1.",
                beta_start=self.beta_start,
                beta_end=self.beta_end,
            )
        if self.clip_min >= self.clip_max:
            raise ArgumentError(
                "clip_min must be below clip_max.",
                clip_min=self.clip_min,
                clip_max=self.clip_max,
            )
        if (self.sample_steps or 1) > self.total_timesteps:
            raise ArgumentError(
                "sample_steps must be total_timesteps or fewer.",
                sample_steps=self.sample_steps,
                total_timesteps=self.total_timesteps,
            )
        if self.seed + max(self.num_samples, self.eval_images) > 2**31:
            raise ArgumentError(
                "seed, from which those of the samples count up, must end below "
                "2147483648.",
                seed=self.seed,
                num_samples=self.num_samples,
                eval_images=self.eval_images,
            )
        if self.dataset_name == "folder" and self.data_dir is None:
            raise ArgumentError(
                "dataset_name 'folder' needs data_dir, the folder of the images.",
                dataset_name=self.dataset_name,
                data_dir=self.data_dir,
            )
        return self

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the images."""
        return *height_and_width(self.img_size), self.img_channels

    def network_arguments(self) -> dict[str, Any]:
        """The arguments of the network's builder."""
        return {key: getattr(self, key) for key in NETWORKS[self.network].keys}

    def diffusion_arguments(self) -> dict[str, Any]:
        """The arguments of `GaussianDiffusion`."""
        names = ("beta_start", "beta_end", "clip_min", "clip_max", "schedule")
        arguments = {name: getattr(self, name) for name in names}
        return {**arguments, "timesteps": self.total_timesteps}

    def to_yaml(self) -> str:
        """Every key on a line of its own; `load_config` reads it back unchanged."""
        yaml = plain_yaml()
        yaml.default_flow_style = None  # The lists, which hold no lists, in one line.
        yaml.width = MAX_VALUE_LENGTH * 10  # No value is folded.
        yaml.sort_base_mapping_type_on_output = False
        stream = io.StringIO()
        yaml.dump(self.model_dump(), stream)
        return stream.getvalue()


# What may change when a run goes on; with any other key it would be another run.
RESUMABLE = {
    *("data_dir", "num_epochs", "learning_rate", "sample_every", "num_samples"),
    *("sampler", "sample_steps", "sample_eta", "save_every", "keep", "tensorboard"),
    *("distribute", "eval_every", "eval_images"),
}

# The groups of the help, by the first key of each.
GROUPS = {
    "dataset_name": "data",
    "network": "network",
    "total_timesteps": "diffusion",
    "seed": "training",
    "sample_every": "pictures and logs",
}


def load_config(path: str | Path, overrides: Mapping[str, str] | None = None) -> Config:
    """Reads a YAML file; `overrides`, written as on the command line, come on top.

    Raises `InputError` with one line that names file, line and key, or the flag.
    """
    values, places = read_mapping(Path(path))
    for key, text in (overrides or {}).items():
        values[key] = _read_override(key, text)
        places[key] = f"--{key}"
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise InputError(_describe(error, values, places)) from error


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Adds a flag for every key of `Config`, with its meaning and its default."""
    for key, field in Config.model_fields.items():
        if key in GROUPS:
            group = parser.add_argument_group(GROUPS[key])
        takes = _takes(key)
        text = f"{field.description} ({takes.words}; default: {_show(field.default)})"
        group.add_argument(
            f"--{key}", metavar=takes.metavar, help=text.replace("%", "%%")
        )


def overrides_from(args: argparse.Namespace) -> dict[str, str]:
    """The keys given on the command line, as `load_config` takes them."""
    given = {key: getattr(args, key, None) for key in Config.model_fields}
    return {key: text for key, text in given.items() if text is not None}


def _read_override(key: str, text: str) -> Any:
    field = Config.model_fields.get(key)
    if field and field.annotation in (str, Text | None):
        # Text is taken as it stands: a path may hold " #" or be a number.
        return None if text == "null" and field.default is None else text
    return read_value(text, f"--{key}")


def _describe(
    error: ValidationError, values: Mapping[str, Any], places: Mapping[str, str]
) -> str:
    """The first of pydantic's complaints, in one line of our own."""
    first = error.errors()[0]
    if not first["loc"]:  # about several keys: `_check_keys_together` raised it
        problem = first["ctx"]["error"]
        given = [places[key] for key in problem.keys if key in places]
        # A flag comes before a line: it is what was written last.
        return f"{max(given, key=lambda place: place.startswith('--'))}: {problem}"
    key = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        near = nearest(key, Config.model_fields)
        hint = f"did you mean {near!r}?" if near else "--help lists the keys"
        return f"{places[key]}: unknown key {short(repr(key))}; {hint}"
    value = values[key]
    shown = repr(value) if isinstance(value, str) else _show(value)
    name = "" if places[key] == f"--{key}" else f"{key} "
    return f"{places[key]}: {name}must be {_takes(key).words}; received {short(shown)}"


def _takes(key: str) -> Takes:
    field = Config.model_fields[key]
    for entry in field.metadata:
        if isinstance(entry, Takes):
            return entry
    *names, last = get_args(field.annotation)  # A Literal.
    return Takes("NAME", f"{', '.join(names)} or {last}" if names else last)


def _show(value: Any) -> str:
    """A value as one writes it in YAML."""
    if isinstance(value, str):
        return value
    return json.dumps(value, default=str, skipkeys=True)
