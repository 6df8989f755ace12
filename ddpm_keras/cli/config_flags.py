"""A flag for every key of a configuration."""

import argparse

from ddpm_keras.config import Config, takes_of
from ddpm_keras.config_file import as_yaml
from ddpm_keras.config_types import LISTS

# Groups of the help, by the first key of each.
GROUPS = {
    "dataset_name": "data",
    "network": "network",
    "prediction_type": "diffusion",
    "seed": "training",
    "sample_every": "pictures and logs",
}


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every key of `Config`, with its description and default."""
    for key, field in Config.model_fields.items():
        if key in GROUPS:
            group = parser.add_argument_group(GROUPS[key])
        takes = takes_of(key)
        text = f"{field.description} ({takes.words}; default: {as_yaml(field.default)})"
        options = {"nargs": "+"} if takes.metavar in LISTS else {}
        if field.annotation is bool:
            options = {"nargs": "?", "const": "true"}
        text = text.replace("%", "%%")
        group.add_argument(f"--{key}", metavar=takes.metavar, help=text, **options)


def overrides_from(args: argparse.Namespace) -> dict[str, str | list[str]]:
    """Return the keys given on the command line, as `load_config` takes them."""
    given = {key: getattr(args, key, None) for key in Config.model_fields}
    return {key: text for key, text in given.items() if text is not None}
