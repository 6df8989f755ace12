"""Hostile HDF5 files, each made from a good one.

Each function takes `(path, good)`, the file to write and a folder with good files, and
returns what the error must say.
"""

import os
import shutil

import h5py
import numpy as np

KERNEL = "layers/conv2d/vars/0"  # the stem's, of shape (3, 3, 3, 16)


def copy(path, good, keras="keras3.weights.h5"):
    shutil.copy(good / keras, path)
    return h5py.File(path, "r+")


def external_link(path, good):
    with copy(path, good) as file:
        del file[KERNEL]
        file[KERNEL] = h5py.ExternalLink(good / "keras3.weights.h5", KERNEL)
    return f"holds {KERNEL}, a link to elsewhere"


def external_link_of_a_group(path, good):
    with copy(path, good) as file:
        del file["layers"]
        file["layers"] = h5py.ExternalLink(good / "keras3.weights.h5", "layers")
    return "holds layers, a link to elsewhere"


def link_to_a_pipe(path, good):
    os.mkfifo(path.parent / "pipe")
    with copy(path, good) as file:
        file["model_weights"] = h5py.ExternalLink(path.parent / "pipe", "/")
    return "holds model_weights, a link to elsewhere"


def name_for_the_terminal(path, good):
    with copy(path, good) as file:
        file["\x1b[2J"] = h5py.SoftLink("/layers")
    return "holds \\x1b[2J, a link to elsewhere"


def soft_link(path, good):
    with copy(path, good) as file:
        del file[KERNEL]
        file[KERNEL] = h5py.SoftLink("/layers/conv2d_1/vars/0")
    return f"holds {KERNEL}, a link to elsewhere"


def link_in_keras_2(path, good):
    with copy(path, good, "keras2.h5") as file:
        name = list(file)[0]
        del file[name]
        file[name] = h5py.ExternalLink(good / "keras2.h5", name)
    return f"holds {name}, a link to elsewhere"


def external_storage(path, good):
    with copy(path, good) as file:
        del file[KERNEL]
        place = [(str(good / "secret"), 0, 1728)]
        file.create_dataset(KERNEL, (3, 3, 3, 16), "f4", external=place)
    return f"holds {KERNEL}, whose data are in another file"


def virtual_dataset(path, good):
    layout = h5py.VirtualLayout((3, 3, 3, 16), "f4")
    source = str(good / "keras3.weights.h5")
    layout[:] = h5py.VirtualSource(source, KERNEL, (3, 3, 3, 16))
    with copy(path, good) as file:
        del file[KERNEL]
        file.create_virtual_dataset(KERNEL, layout)
    return f"holds {KERNEL}, which is made of other arrays"


def objects(path, good):
    with copy(path, good) as file:
        del file[KERNEL]
        values = np.full((3, 3, 3, 16), "x", object)
        file.create_dataset(KERNEL, data=values, dtype=h5py.string_dtype())
    return f"holds {KERNEL}, which holds no numbers"


def references(path, good):
    with copy(path, good) as file:
        file.create_dataset("layers/more", (3,), h5py.ref_dtype)
    return "holds layers/more, which holds no numbers"


def compound(path, good):
    with copy(path, good) as file:
        file.create_dataset("layers/more", (3,), [("a", "f4")])
    return "holds layers/more, which holds no numbers"


def named_type(path, good):
    with copy(path, good) as file:
        file["layers/more"] = np.dtype("f4")
    return "holds layers/more, which is no array"


def shape_bomb(path, good):
    with copy(path, good) as file:
        del file[KERNEL]
        file.create_dataset(KERNEL, (10**12,), "f4")
    return (
        "weights of another network, 1 array differs: "
        "stem/kernel is (1000000000000,), not (3, 3, 3, 16)"
    )


def shape_bomb_in_chunks(path, good):
    with copy(path, good) as file:
        del file[KERNEL]
        file.create_dataset(KERNEL, (10**12,), "f4", chunks=(10**6,), fillvalue=1.0)
    return f"holds {KERNEL}, which is in chunks or compressed"


def compression_bomb(path, good):
    with copy(path, good) as file:
        zeros = np.zeros(2**24, "f4")
        file.create_dataset("layers/more", data=zeros, compression="gzip")
    return "holds layers/more, which is in chunks or compressed"


def array_without_data(path, good):
    with copy(path, good) as file:
        del file[KERNEL]
        file.create_dataset(KERNEL, (3, 3, 3, 16), "f4", fillvalue=7.0)
    return f"{KERNEL} has no data in the file"


def other_floats(path, good):
    with copy(path, good) as file:
        kernel = file[KERNEL][()]
        del file[KERNEL]
        file.create_dataset(KERNEL, data=kernel, dtype=">f4")
    return "stem/kernel is another type (>f4), not float32"


def loop_of_groups(path, good):
    with copy(path, good) as file:
        file["layers/again"] = file["layers"]
    return "holds groups nested too deeply"


def flood_of_groups(path, good):
    with copy(path, good) as file:
        for number in range(20_001):
            file.create_group(f"more/{number}")
    return "holds more than 20000 objects"


def flood_of_names(path, good):
    shutil.copy(good / "keras2.h5", path)
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["layer_names"] = np.full(2_000_000, b"x")
    return "holds too many names"


def names_that_are_numbers(path, good):
    with copy(path, good, "keras2.h5") as file:
        file.attrs["layer_names"] = np.arange(5.0)
    return "holds a name that is too long, or no text"


def name_of_an_array_elsewhere(path, good):
    with copy(path, good, "keras2.h5") as file:
        layer = next(n for n in file.attrs["layer_names"] if n.startswith("conv2d"))
        file[layer].attrs["weight_names"] = ["../../outside/kernel:0", "bias:0"]
    return f"damaged, {layer}/../../outside/kernel:0 is missing"
