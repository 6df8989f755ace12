"""The program that `hdf5.py` runs to inspect an HDF5 file.

On damaged files the HDF5 library can crash, hang or fill the memory. Here that only
ends this process, whose time and memory are limited.

It prints JSON: `{"refused": reason}`, or an object with
- arrays: `{name: [dtype, shape, offset]}`;
- layers: `[[layer, [weight, ...]], ...]` in the order of Keras 2, else null;
- names: `{group: name}`, the layer names of Keras 3.
"""

import json
import sys

import h5py

SECONDS = 4
EXTRA_BYTES = 128 * 2**20
# A network with its average and optimizer stays far below these.
MAX_OBJECTS = 20_000
MAX_DEPTH = 10
MAX_NAME_LENGTH = 500
MAX_DIMENSIONS = 8


class Refused(Exception):
    """Something that a weights file must not hold; the user sees the message."""


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Refused(otherwise)


def survey(path: str) -> dict:
    """Describe the arrays of a file, without reading them."""
    # Locks fail on some file systems, and a reader does not need one.
    with h5py.File(path, "r", locking=False) as file:
        arrays, groups = {}, {"": file}
        _walk(file, "", arrays, groups)
        if "model_weights" in groups:  # `model.save` of Keras 2 adds the optimizer
            arrays, groups = {}, {"": groups["model_weights"]}
            _walk(groups[""], "", arrays, groups)
        layers = _names(groups[""], "layer_names")
        if layers is not None:
            layers = [[n, _names(groups[n], "weight_names") or []] for n in layers]
        names = {
            n: _text(group.attrs["name"])
            for n, group in groups.items()
            if "name" in group.attrs
        }
    return {"arrays": arrays, "layers": layers, "names": names}


def _walk(group: h5py.Group, path: str, arrays: dict, groups: dict) -> None:
    """Collect everything below a group."""
    _require(path.count("/") <= MAX_DEPTH, "groups nested too deeply")
    count = len(group) + len(arrays) + len(groups)
    _require(count <= MAX_OBJECTS, f"more than {MAX_OBJECTS} objects")
    for name in group:
        full = f"{path}{name}"
        _require(len(full) <= MAX_NAME_LENGTH, f"a name of {len(full)} characters")
        # The low-level call: `name in group` would follow the link.
        link = group.id.links.get_info(name.encode())
        _require(link.type == h5py.h5l.TYPE_HARD, f"{full}, a link to elsewhere")
        member = group[name]
        if isinstance(member, h5py.Group):
            groups[full] = member
            _walk(member, f"{full}/", arrays, groups)
        elif isinstance(member, h5py.Dataset):
            arrays[full] = _describe(member, full)
        else:
            raise Refused(f"{full}, which is no array")


def _describe(dataset: h5py.Dataset, name: str) -> tuple:
    """Return type, shape and offset of an array stored in one piece in the file."""
    creation = dataset.id.get_create_plist()
    external, layout = creation.get_external_count(), creation.get_layout()
    _require(not external, f"{name}, whose data are in another file")
    _require(layout != h5py.h5d.VIRTUAL, f"{name}, which is made of other arrays")
    in_one_piece = layout == h5py.h5d.CONTIGUOUS
    _require(in_one_piece, f"{name}, which is in chunks or compressed")
    stored = dataset.id.get_type()
    numbers = h5py.h5t.FLOAT, h5py.h5t.INTEGER, h5py.h5t.ENUM
    _require(stored.get_class() in numbers, f"{name}, which holds no numbers")
    usable = dataset.shape is not None and len(dataset.shape) <= MAX_DIMENSIONS
    _require(usable, f"{name}, which has no usable shape")
    exact = stored.equal(h5py.h5t.IEEE_F32LE)
    dtype = "float32" if exact else f"another type ({dataset.dtype})"
    return dtype, dataset.shape, dataset.id.get_offset()


def _names(group: h5py.Group, attribute: str) -> list[str] | None:
    """Read a list of names; Keras 2 writes long ones in numbered parts."""
    parts = [attribute] if attribute in group.attrs else []
    if not parts:
        while f"{attribute}{len(parts)}" in group.attrs:
            parts.append(f"{attribute}{len(parts)}")
    names = []
    for part in parts:
        space = group.attrs.get_id(part).get_space()
        count = len(names) + space.get_simple_extent_npoints()
        _require(count <= MAX_OBJECTS, "too many names")
        names.extend(_text(name) for name in group.attrs[part])
    return names if parts else None


def _text(name: str | bytes) -> str:
    name = name.decode() if isinstance(name, bytes) else name
    usable = isinstance(name, str) and len(name) <= MAX_NAME_LENGTH
    _require(usable, "a name that is too long, or no text")
    return name


def _limit_time_and_memory() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + EXTRA_BYTES,) * 2)
    except (ImportError, OSError):
        pass  # not available on every system


if __name__ == "__main__":
    _limit_time_and_memory()
    try:
        found = survey(sys.argv[1])
    except Refused as reason:
        found = {"refused": f"holds {reason}"}
    except Exception:  # the library raises almost anything on a damaged file
        found = {"refused": "damaged"}
    print(json.dumps(found))
