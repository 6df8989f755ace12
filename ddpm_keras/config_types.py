"""What the keys of a configuration take: each rule beside its words."""

from typing import Annotated, NamedTuple

from annotated_types import Predicate
from pydantic import AfterValidator, Field

from ddpm_keras.data.image_files import is_colour
from ddpm_keras.files import expand_home
from ddpm_keras.labels import MAX_CLASSES
from ddpm_keras.plain_yaml import MAX_VALUE_LENGTH
from ddpm_keras.samplers import MAX_SEED


class Takes(NamedTuple):
    """What a key takes: `metavar` in the help, `words` in the help and in errors."""

    metavar: str
    words: str


AtLeast1 = Annotated[int, Field(ge=1)]
Count = Annotated[AtLeast1, Takes("N", "an integer, 1 or more")]
Timesteps = Annotated[
    int, Field(ge=1, le=1_000_000), Takes("N", "an integer, 1 to 1000000")
]
CountOrZero = Annotated[int, Field(ge=0), Takes("N", "an integer, 0 or more")]
CountOrNone = Annotated[AtLeast1 | None, Takes("N", "an integer, 1 or more, or null")]
Counts = Annotated[list[AtLeast1], Takes("LIST", "a list of integers, 1 or more each")]
SixteenOrMore = Annotated[int, Field(ge=16), Takes("N", "an integer, 16 or more")]
# Not Literal[1, 3], for which true is 1.
OneOrThree = Annotated[int, Predicate(lambda n: n in (1, 3)), Takes("N", "1 or 3")]
Seed = Annotated[
    int, Field(ge=0, le=MAX_SEED), Takes("N", f"an integer, 0 to {MAX_SEED}")
]
ImageSize = Annotated[
    AtLeast1 | Annotated[list[AtLeast1], Field(min_length=2, max_length=2)],
    Takes("SIZE", "an integer, 1 or more, or [height, width]"),
]
Number = Annotated[float, Takes("X", "a number")]
AboveZero = Annotated[float, Field(gt=0)]
Positive = Annotated[AboveZero, Takes("X", "a number above 0")]
PositiveOrNone = Annotated[AboveZero | None, Takes("X", "a number above 0, or null")]
Share = Annotated[
    float, Field(ge=0, lt=1), Takes("X", "a number, 0 or more and below 1")
]
Fraction = Annotated[float, Field(ge=0, le=1), Takes("X", "a number, 0 to 1")]
NonNegative = Annotated[float, Field(ge=0), Takes("X", "a number, 0 or more")]
Switch = Annotated[bool, Takes("BOOL", "true or false")]
Switches = Annotated[list[bool], Takes("LIST", "a list of true and false")]
# No path may hold a zero byte.
Text = Annotated[
    str, Field(min_length=1, max_length=MAX_VALUE_LENGTH, pattern=r"^[^\x00]+$")
]
Texts = Annotated[list[Text], Field(min_length=1), Takes("NAMES", "a list of names")]
TextsOrNone = Annotated[
    Annotated[list[Text], Field(min_length=1, max_length=MAX_CLASSES)] | None,
    Takes("NAMES", "a list of names, or null"),
]
Name = Annotated[Text, Takes("NAME", "a name")]
PathText = Annotated[Text, AfterValidator(expand_home)]
Colour = Annotated[
    Text, Predicate(is_colour), Takes("COLOUR", "a colour such as white or #ff8800")
]
PathOrNone = Annotated[
    PathText | None, Takes("PATH", "a path (text; quote a number) or null")
]
Period = Annotated[
    AtLeast1 | Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}min$")],
    Takes("PERIOD", "steps such as 500, or minutes such as 10min"),
]


# The metavars of lists, which may be given as several words.
LISTS = ("NAMES", "LIST", "SIZE")
