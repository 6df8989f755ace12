"""The configuration of a run: its keys.

Keras and TensorFlow are not imported here, so that mistakes are reported at once.
"""

import io
from typing import Any, Literal, Self, get_args

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from ddpm_keras.config_types import (
    Colour,
    Count,
    CountOrNone,
    CountOrZero,
    Counts,
    Fraction,
    ImageSize,
    Name,
    NonNegative,
    Number,
    OneOrThree,
    PathOrNone,
    Period,
    Positive,
    PositiveOrNone,
    Seed,
    Share,
    SixteenOrMore,
    Switch,
    Switches,
    Takes,
    Texts,
    TextsOrNone,
    Timesteps,
)
from ddpm_keras.errors import require
from ddpm_keras.networks import NETWORKS
from ddpm_keras.networks.unet_arguments import INTERPOLATIONS, height_and_width
from ddpm_keras.plain_yaml import (
    MAX_VALUE_LENGTH,
    plain_yaml,
)
from ddpm_keras.samplers import (
    MAX_SEED,
    SAMPLERS,
    default_steps_text,
    first_timestep,
)
from ddpm_keras.schedules import (
    PREDICTION_TYPES,
    SCHEDULES,
    check_process,
    noise_levels,
)


class Config(BaseModel):
    """Everything a training run depends on. The defaults are the published recipe.

    The text below each key is its description in the help. `Config(...)` raises
    pydantic's `ValidationError`; `load_config` reads a file and the command line, and
    reports a mistake in one line.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    # Data.
    dataset_name: Name = "oxford_flowers102"
    '''a TFDS data set, "petals" (drawn on the fly) or "folder"'''
    splits: Texts = ["train"]
    """TFDS splits to train on, joined"""
    data_dir: PathOrNone = None
    """the images of "folder", or the TFDS directory; null: TFDS_DATA_DIR or the TFDS
    default"""
    skip_bad: Switch = False
    """leave out the images of "folder" that cannot be read"""
    background: Colour = "white"
    """colour behind the transparent pixels of images"""
    num_images: Count = 1020
    """images that "petals" draws"""
    cache: Literal["auto", "ram", "disk"] = "auto"
    """where the decoded images are kept; auto: on disk if they take more than half of
    the free memory"""
    cache_dir: PathOrNone = None
    """folder of the images kept on disk, which runs share; null: ddpm_keras in
    XDG_CACHE_HOME or ~/.cache"""
    class_labels: Switch = False
    """learn the classes of the images, so that samples of one can be asked for: a label
    of TFDS, a subfolder each of "folder", a flower shape of petals"""
    class_names: TextsOrNone = None
    """names of the classes; null: those of the images"""
    validation_fraction: Share = 0.0
    """share of the images held out of training, chosen by a hash of their name or
    number"""
    random_flip: Switch = True
    """mirror each image left to right with probability 1/2"""
    augment: Fraction = 0.0
    """probability of each of the changes (flips, turns, scaling, rotation, shift) that
    the network is told of, so that samples do not show them"""
    img_size: ImageSize = 64
    """image side, or height and width, in pixels"""
    img_channels: OneOrThree = 3
    """1: grey, 3: colour"""
    batch_size: Count = 32
    """images per step"""

    # Network.
    network: Literal[*NETWORKS] = "unet"
    """which network"""
    first_conv_channels: Count = 64
    """channels of the first convolution, which the multipliers multiply"""
    channel_multiplier: Counts = [1, 2, 4, 8]
    """width of each level, as a multiple of first_conv_channels"""
    has_attention: Switches = [False, False, True, True]
    """which levels have self-attention"""
    num_res_blocks: Count = 2
    """residual blocks per level on the way down"""
    norm_groups: Count = 8
    """groups of each group normalisation"""
    dropout: Share = 0.0
    """dropout rate in each residual block"""
    interpolation: Literal[*INTERPOLATIONS] = "nearest"
    """how the way up enlarges"""
    activation: Name = "swish"
    """a Keras activation"""
    patch_size: Count = 1
    """side of the blocks of pixels that the network takes as one of more channels"""
    initial_weights: PathOrNone = None
    """a run folder or weights file of the same network to start from; null: random
    weights"""

    # Diffusion.
    prediction_type: Literal[*PREDICTION_TYPES] = "epsilon"
    """what the network outputs: the noise, the velocity or the clean image"""
    total_timesteps: Timesteps = 1000
    """noise steps of the process"""
    schedule: Literal[*SCHEDULES] = "linear"
    """how the noise variance grows; beta_* are for linear"""
    beta_start: Positive = 1e-4
    """noise variance of the first step"""
    beta_end: Positive = 0.02
    """noise variance of the last step"""
    schedule_shift: Positive = 1.0
    """factor on the square root of the signal-to-noise ratio: for larger images, 64
    over their side"""
    rescale_zero_terminal_snr: Switch = False
    """end the schedule in pure noise; not for prediction_type epsilon"""
    clip_min: Number = -1.0
    """smallest value of a denoised pixel"""
    clip_max: Number = 1.0
    """largest value of a denoised pixel"""

    # Training.
    seed: Seed = 0
    """the only seed: of weights, drawn images, the order of images, noise and
    samples"""
    learning_rate: Positive = 2e-4
    """the optimizer's rate"""
    optimizer: Name = "adam"
    """a Keras optimizer: adam, muon, adamw, sgd, rmsprop, lion, ..."""
    loss: Literal["mean_squared_error", "mean_absolute_error", "huber"] = (
        "mean_squared_error"
    )
    """loss on what the network predicts"""
    snr_gamma: PositiveOrNone = None
    """min-SNR weights: the most that a timestep weighs in the loss of the clean image
    (5 in the paper); null: all weigh the same in the loss of what is predicted"""
    label_dropout: Share = 0.1
    """share of the images whose label is hidden, with class_labels"""
    learning_rate_warmup_steps: CountOrZero = 0
    """steps over which the rate rises to its value"""
    learning_rate_decay: Literal["none", "cosine", "linear"] = "none"
    """how the rate falls after that, to 0 at the end of the last epoch"""
    grad_clip: PositiveOrNone = None
    """largest norm of all gradients together"""
    gradient_accumulation_steps: Count = 1
    """steps whose mean gradient makes one update"""
    ema: Share = 0.999
    """share of the averaged weights kept at each step"""
    ema_warmup_power: PositiveOrNone = None
    """keep 1 - (1 + updates) ^ -power of them where that is less (0.75 is common), so
    that the average soon forgets the initial weights; null: no warm-up"""
    mixed_precision: Literal["none", "bfloat16", "float16"] = "none"
    """type of the network's arithmetic, for GPUs"""
    distribute: Literal["auto", "none"] = "auto"
    """auto: share each batch among all devices of one kind"""
    num_epochs: Count = 800
    """passes over the images"""

    # Pictures and logs.
    sample_every: CountOrZero = 10
    """epochs between pictures of samples; 0: never"""
    num_samples: Count = 16
    """images in such a picture"""
    sampler: Literal[*SAMPLERS] = "ddpm"
    """how images are sampled"""
    sample_steps: CountOrNone = Field(
        None, description=f"network calls per image; null: {default_steps_text()}"
    )
    sample_eta: Fraction = 0.0
    """share of the ancestral noise, for ddim and dpmpp"""
    sample_eta_until: Fraction = 0.0
    """share of the process down to which steps add it; those below add none"""
    sample_until: Share = 0.0
    """share of the process, below 1, that the last step skips; for networks that fail
    where there is little noise"""
    sample_guidance_scale: NonNegative = 1.0
    """how strongly labels steer; 1 is no guidance, 2 to 4 give clearer and less varied
    images"""
    eval_every: CountOrZero = 0
    """epochs between measurements (KID) of samples, against the images held out
    if there are 16 or more; 0: never"""
    eval_images: SixteenOrMore = 256
    """samples that are measured, made in 20 stochastic steps of dpmpp, unguided"""
    eval_features: Literal["random:0", "efficientnet-lite0"] = "random:0"
    """what tells samples from real images; efficientnet-lite0 sees objects, but needs
    pip install 'ddpm_keras[judge]'"""
    save_every: Period = "10min"
    """time between checkpoints; the last step has one as well"""
    keep: Count = 2
    """checkpoints to keep"""
    tensorboard: Switch = False
    """write TensorBoard logs"""

    @model_validator(mode="after")
    def _check_keys_together(self) -> Self:
        NETWORKS[self.network].check(**self.network_arguments())
        check_process(**self.diffusion_arguments())
        total = self.total_timesteps
        left = total - first_timestep(total, self.sample_until)
        self._require(
            ["sample_steps", "total_timesteps", "sample_until"],
            (self.sample_steps or 1) <= left,
            f"sample_steps must be {left} or fewer: total_timesteps, less the share "
            "sample_until.",
        )
        self._require(
            ["seed", "num_samples", "eval_images"],
            self.seed + max(self.num_samples, self.eval_images) <= MAX_SEED + 1,
            "seed, from which those of the samples count up, must end at "
            f"{MAX_SEED} or before.",
        )
        self._require(
            ["class_names", "class_labels"],
            self.class_labels or self.class_names is None,
            "class_names needs class_labels true.",
        )
        self._require(
            ["sample_guidance_scale", "class_labels"],
            self.class_labels or self.sample_guidance_scale == 1,
            "sample_guidance_scale other than 1 needs class_labels true.",
        )
        self._require(
            ["class_names"],
            len(set(self.class_names or [])) == len(self.class_names or []),
            "class_names must differ from each other.",
        )
        return self

    def _require(self, keys: list[str], condition: bool, message: str) -> None:
        require(condition, message, **{key: getattr(self, key) for key in keys})

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the images."""
        return *height_and_width(self.img_size), self.img_channels

    @property
    def num_classes(self) -> int | None:
        """Number of classes that the network knows; `None` without labels."""
        return len(self.class_names) if self.class_names else None

    def network_arguments(self) -> dict[str, Any]:
        """Return the arguments of the network's builder."""
        return {key: getattr(self, key) for key in NETWORKS[self.network].keys}

    def diffusion_arguments(self) -> dict[str, Any]:
        """Return the arguments of `GaussianDiffusion`."""
        names = (
            *("beta_start", "beta_end", "clip_min", "clip_max", "schedule"),
            *("prediction_type", "schedule_shift", "rescale_zero_terminal_snr"),
        )
        arguments = {name: getattr(self, name) for name in names}
        return {**arguments, "timesteps": self.total_timesteps}

    def abar(self) -> np.ndarray:
        """Return abar of each timestep, float64 `(total_timesteps,)`."""
        return noise_levels(
            self.schedule,
            self.total_timesteps,
            self.beta_start,
            self.beta_end,
            self.schedule_shift,
            self.rescale_zero_terminal_snr,
        )[1]

    def to_yaml(self) -> str:
        """Write each key, most on a line of its own, as `load_config` reads it back."""
        yaml = plain_yaml()
        yaml.default_flow_style = None  # lists on one line
        yaml.width = MAX_VALUE_LENGTH * 10  # no value is folded
        yaml.sort_base_mapping_type_on_output = False
        stream = io.StringIO()
        yaml.dump(self.model_dump(), stream)
        return stream.getvalue()


# The keys that may change when a run is resumed.
RESUMABLE = {
    *("data_dir", "cache", "cache_dir", "num_epochs", "learning_rate"),
    *("sample_every", "num_samples", "sampler", "sample_steps", "sample_eta"),
    *("sample_eta_until", "sample_until", "sample_guidance_scale", "save_every"),
    *("keep", "tensorboard", "distribute"),
    *("eval_every", "eval_images", "eval_features"),
}


def takes_of(key: str) -> Takes:
    """Return what a key takes."""
    field = Config.model_fields[key]
    for entry in field.metadata:
        if isinstance(entry, Takes):
            return entry
    *names, last = get_args(field.annotation)  # of a Literal
    return Takes("NAME", f"{', '.join(names)} or {last}" if names else last)
