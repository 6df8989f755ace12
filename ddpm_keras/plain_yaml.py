"""YAML restricted to plain values, with file and line in every error.

Values are words, numbers, booleans and lists of these. Tags, anchors, aliases, deep
nesting and huge files are rejected before anything is constructed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    ScalarEvent,
)
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.representer import SafeRepresenter

from ddpm_keras.errors import InputError, nearest, short

# Our configurations stay under 2 kB, and the names of a run's classes under 240. These
# limits reject a hostile file within seconds; the parser's time grows with the square
# of the depth.
MAX_FILE_BYTES = 2**18
MAX_VALUE_LENGTH = 1_000
MAX_DEPTH = 3


def read_mapping(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Read the values of a configuration file, and "file:line" of each key."""
    root = _compose(_read_text(path), lambda line: f"{path}:{line}")
    if root is None:
        raise InputError(f"{path}: holds no keys; write at least one, as 'seed: 0'")
    if not isinstance(root, MappingNode):
        raise InputError(f"{path}: must be a mapping; write lines of 'key: value'")
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    for key_node, node in root.value:
        key = key_node.value if isinstance(key_node, ScalarNode) else "?"
        place = f"{path}:{key_node.start_mark.line + 1}"
        if not key.isprintable():
            raise InputError(f"{place}: the key {key!r} is no text; see --help")
        if key in places:
            raise InputError(
                f"{place}: repeated key {key!r}, first given at {places[key]}; "
                "remove one of them"
            )
        values[key], places[key] = _construct(node, f"{place}: {key}"), place
    return values, places


def read_value(text: str, place: str) -> Any:
    """Parse one value; `place` begins the message of an error."""
    node = _compose(text, lambda line: place)
    return None if node is None else _construct(node, place)


def plain_yaml() -> YAML:
    """Return a YAML 1.2 reader and writer: 1e-4 is a number and on is a word."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    return yaml


class _Representer(SafeRepresenter):
    """Ruamel's, whose lists can be read again."""

    def represent_str(self, text):
        # A word in a list that begins with "?" would be read as a key.
        style = '"' if text.startswith("?") else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Representer.add_representer(str, _Representer.represent_str)


def _read_text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: not a file but a folder or device; name a file")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        folder = path.parent
        files = [p.name for p in folder.iterdir()] if folder.is_dir() else []
        near = nearest(path.name, files)
        hint = f"did you mean {folder / near}?" if near else "check the path"
        raise InputError(f"{path}: no such file; {hint}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise InputError(
            f"{path}: over {MAX_FILE_BYTES // 1024} kB, too large for a configuration; "
            "check the path"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}:{line}: byte 0x{content[error.start]:02x} is not UTF-8 text; "
            "save the file as UTF-8"
        ) from None


def _compose(text: str, place: Callable[[int], str]) -> Node | None:
    """Parse one plain YAML document; `place` formats a line number.

    The events are checked before the tree is built, so that no alias is expanded and
    no tag constructed.
    """
    depth = 0
    try:
        for event in plain_yaml().parse(text):
            problem = ""
            depth += isinstance(event, CollectionStartEvent)
            depth -= isinstance(event, CollectionEndEvent)
            if isinstance(event, AliasEvent) or getattr(event, "anchor", None):
                problem = "anchors and aliases (&, *) are refused; write the value out"
            elif tag := getattr(event, "tag", None):
                tag = str(tag).replace("tag:yaml.org,2002:", "!!")
                problem = f"tag {short(tag)} is refused; write a plain value"
            elif isinstance(event, DocumentStartEvent) and (
                event.version or event.tags
            ):
                problem = "a % directive is refused; remove it"
            elif depth > MAX_DEPTH:
                problem = "nested too deep; a value is a word, a number or a list"
            elif isinstance(event, ScalarEvent) and len(event.value) > MAX_VALUE_LENGTH:
                problem = f"over {MAX_VALUE_LENGTH} characters; shorten the value"
            if problem:
                raise InputError(f"{place(event.start_mark.line + 1)}: {problem}")
        return plain_yaml().compose(text)
    except InputError:
        raise
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(
            f"{place(line)}: character {error.character:#04x} is refused; remove it"
        ) from error
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1
        begun = error.context_mark.line + 1 if error.context_mark else line
        since = f" ({error.context}, line {begun})" if begun != line else ""
        raise InputError(
            f"{place(line)}: bad YAML: {error.problem}{since}; "
            "check the brackets, quotes and indentation"
        ) from error
    except (YAMLError, ValueError) as error:  # such as "\\U00110000", no character
        raise InputError(f"{place(1)}: bad YAML: {error}") from error


def _construct(node: Node, place: str) -> Any:
    try:
        return plain_yaml().constructor.construct_object(node, deep=True)
    except (YAMLError, ValueError) as error:  # such as the date 2020-13-01
        problem = getattr(error, "problem", None) or error
        raise InputError(f"{place}: bad value: {problem}; write another") from error
