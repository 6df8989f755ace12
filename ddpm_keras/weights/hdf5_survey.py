"""Tells in JSON what an HDF5 file holds: a program of its own, which `hdf5.py` runs.

The HDF5 library crashes, hangs and fills the memory on damaged files. Here that ends a
process which has nothing to lose, with limits on its time and memory.

Prints `{"refused": reason}`, or an object with
- arrays: `{name: [dtype, shape, offset]}`;
- layers: `[[layer, [weight, ...]], ...]`, the order that Keras 2 notes, else null;
- names: `{group: name}`, the names of layers that Keras 3 notes.
"""

import json
import sys

import h5py

SECONDS = 4
EXTRA_BYTES = 128 * 2**20
# The network, its average and its optimizer stay far below these.
MAX_OBJECTS = 20_000
MAX_DEPTH = 10
MAX_NAME_LENGTH = 500
MAX_DIMENSIONS = 8


class Refused(Exception):
    """What must not be in a file of weights; becomes a line to its user."""


def survey(path):
    # A lock would fail on some file systems, and is of no use to a reader.
    with h5py.File(path, "r", locking=False) as file:
        arrays, groups = {}, {"": file}
        _walk(file, "", arrays, groups)
        if "model_weights" in groups:  # `model.save` of Keras 2, with the optimizer's
            arrays, groups = (_below("model_weights", d) for d in (arrays, groups))
        layers = _names(groups[""], "layer_names")
        if layers is not None:
            layers = [[n, _names(groups[n], "weight_names") or []] for n in layers]
        names = {
            n: _text(group.attrs["name"])
            for n, group in groups.items()
            if "name" in group.attrs
        }
    return {"arrays": arrays, "layers": layers, "names": names}


def _walk(group, path, arrays, groups):
    """Gathers what is below a group."""
    if path.count("/") > MAX_DEPTH:
        raise Refused("groups within groups without end")
    if len(group) + len(arrays) + len(groups) > MAX_OBJECTS:
        raise Refused(f"more than {MAX_OBJECTS} objects")
    for name in group:
        full = f"{path}{name}"
        if len(full) > MAX_NAME_LENGTH:
            raise Refused(f"a name of {len(full)} characters")
        # Asked of the library itself: `name in group` would follow the link.
        if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise Refused(f"{full}, a link to elsewhere")
        member = group[name]
        if isinstance(member, h5py.Group):
            groups[full] = member
            _walk(member, f"{full}/", arrays, groups)
        elif isinstance(member, h5py.Dataset):
            arrays[full] = _describe(member, full)
        else:
            raise Refused(f"{full}, which is no array")


def _below(folder, members):
    return {
        name[len(folder) :].removeprefix("/"): member
        for name, member in members.items()
        if name == folder or name.startswith(f"{folder}/")
    }


def _describe(dataset, name):
    """Type, shape and place of an array whose bytes lie in one piece in the file."""
    layout = dataset.id.get_create_plist()
    if layout.get_external_count():
        raise Refused(f"{name}, whose data are in another file")
    if layout.get_layout() == h5py.h5d.VIRTUAL:
        raise Refused(f"{name}, which is made of other arrays")
    if layout.get_layout() != h5py.h5d.CONTIGUOUS:
        raise Refused(f"{name}, which is in chunks or compressed")
    stored = dataset.id.get_type()
    if stored.get_class() not in (h5py.h5t.FLOAT, h5py.h5t.INTEGER, h5py.h5t.ENUM):
        raise Refused(f"{name}, which holds no numbers")
    if dataset.shape is None or len(dataset.shape) > MAX_DIMENSIONS:
        raise Refused(f"{name}, which has no usable shape")
    exact = stored.equal(h5py.h5t.IEEE_F32LE)
    dtype = "float32" if exact else f"another type ({dataset.dtype})"
    return dtype, dataset.shape, dataset.id.get_offset()


def _names(group, attribute):
    """A list of names; where it is long, Keras 2 writes it in numbered parts."""
    if attribute in group.attrs:
        parts = [attribute]
    else:
        parts = []
        while f"{attribute}{len(parts)}" in group.attrs:
            parts.append(f"{attribute}{len(parts)}")
    names = []
    for part in parts:
        space = group.attrs.get_id(part).get_space()
        if space.get_simple_extent_npoints() > MAX_OBJECTS - len(names):
            raise Refused("too many names")
        names.extend(_text(name) for name in group.attrs[part])
    return names if parts else None


def _text(name):
    name = name.decode() if isinstance(name, bytes) else name
    if not isinstance(name, str) or len(name) > MAX_NAME_LENGTH:
        raise Refused("a name that is too long, or no text")
    return name


def _limit_time_and_memory():
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + EXTRA_BYTES,) * 2)
    except (ImportError, OSError):
        pass  # not on every system


if __name__ == "__main__":
    _limit_time_and_memory()
    try:
        found = survey(sys.argv[1])
    except Refused as reason:
        found = {"refused": f"holds {reason}"}
    except Exception:  # whatever the library makes of a damaged file
        found = {"refused": "damaged"}
    print(json.dumps(found))
