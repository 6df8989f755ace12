"""A configuration read from its file and the command line, or refused in one line."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ddpm_keras.config import Config, takes_of
from ddpm_keras.config_types import LISTS
from ddpm_keras.errors import InputError, nearest, short
from ddpm_keras.plain_yaml import read_mapping, read_value


def load_config(
    path: str | Path, overrides: Mapping[str, str | list[str]] | None = None
) -> Config:
    """Read a YAML file, then apply `overrides`, written as on the command line.

    A list may also be given as its words, `["1", "2"]` for `"[1, 2]"`.

    Raises:
        InputError: With one line that names file, line and key, or the flag.
    """
    values, places = read_mapping(Path(path))
    for key, text in (overrides or {}).items():
        values[key] = _read_override(key, text)
        places[key] = f"--{key}"
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise InputError(_describe(error, values, places)) from error


def _read_override(key: str, given: str | list[str]) -> Any:
    field = Config.model_fields.get(key)
    kind = takes_of(key).metavar if field else ""
    words = [given] if isinstance(given, str) else given
    text = " ".join(words)
    if field and text == "null" and field.default is None:
        return None
    if kind in ("NAME", "PATH"):
        return text  # it is not parsed: a path may contain " #" or be a number
    if kind == "NAMES" and text[:1] != "[":
        return words
    if kind in LISTS and text[:1] != "[":
        words = text.replace(",", " ").split()
        if kind != "SIZE" or len(words) > 1:
            return [read_value(word, f"--{key}") for word in words]
    return read_value(text, f"--{key}")


def _describe(
    error: ValidationError, values: Mapping[str, Any], places: Mapping[str, str]
) -> str:
    """Describe the first of pydantic's errors in one line."""
    first = error.errors()[0]
    if not first["loc"]:  # about several keys: `_check_keys_together` raised it
        problem = first["ctx"]["error"]
        given = [places[key] for key in problem.keys if key in places]
        # Name the flag rather than the line, since it was written last.
        return f"{max(given, key=lambda place: place.startswith('--'))}: {problem}"
    key = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        near = nearest(key, Config.model_fields)
        hint = f"did you mean {near!r}?" if near else "--help lists the keys"
        return f"{places[key]}: unknown key {short(repr(key))}; {hint}"
    value = values[key]
    shown = repr(value) if isinstance(value, str) else as_yaml(value)
    name = "" if places[key] == f"--{key}" else f"{key} "
    words = takes_of(key).words
    if first["type"] == "string_unicode":
        words = "text in UTF-8"
    return f"{places[key]}: {name}must be {words}; received {short(shown)}"


def as_yaml(value: Any) -> str:
    """Write a value as in YAML."""
    if isinstance(value, str):
        return value
    return json.dumps(value, default=str, skipkeys=True)
