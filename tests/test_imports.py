"""Which rooms of the package may import which, read from the source."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ddpm_keras"
# From the ground up, as docs/architecture.md has it: each imports only those before it.
ROOMS = [
    *("saved_classes", "errors", "files", "memory", "progress", "plain_yaml"),
    *("schedules", "samplers", "labels", "backend", "devices", "parts"),
    *("networks", "augmentation", "data", "diffusion"),
    *("config_types", "config", "config_file", "optimizers"),
    *("weights", "denoiser", "guidance", "sampling", "starts", "noising"),
    *("first_batch", "model", "export"),
    *("metrics", "runs", "cli"),
]


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(name):
    """The modules of the package that a module imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import"
            # A name may be a module of its own, or something in the module.
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & MODULES.keys() or {node.module}
    return {module for module in found if module.partition(".")[0] == "ddpm_keras"}


def room_of(module):
    return module.split(".")[1] if "." in module else ""


def test_every_room_has_its_place_also_in_the_documents():
    assert {room_of(name) for name in MODULES} == {"", *ROOMS}
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert ", ".join(f"`{room}`" for room in ROOMS) in " ".join(text.split())


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_one_way(name):
    room = room_of(name)
    # The package itself registers its classes with Keras.
    below = ROOMS[: ROOMS.index(room)] if room else ["saved_classes"]
    for imported in imports_of(name):
        # `ddpm_keras` itself holds the version and loads the public names lazily.
        assert room_of(imported) in {"", room, *below}, f"{name} imports {imported}"


def test_no_circle_of_modules():
    graph = {name: imports_of(name) - {name} for name in MODULES}
    assert list(TopologicalSorter(graph).static_order())  # else a CycleError


def test_two_files_alone_compare_backends():
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            compared = isinstance(node, ast.Compare) and ast.unparse(node)
            if compared and re.search(r"\bBACKEND\b|\bbackend\(\)", compared):
                places = ("ddpm_keras.backend", "ddpm_keras.devices")
                assert name in places, f"{name}:{node.lineno}"
