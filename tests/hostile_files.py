"""Hostile files of every format except HDF5 and checkpoints.

Each function takes `(path, good)`, the file to write and a folder with good files, and
returns what the error must say.
"""

import json
import os
import pickle
import struct
import zipfile

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

MARK = "code-was-run"
UNPACK = "a zip archive, as .keras and .npz files are; unpack it"
PICKLE = "a pickle, which can run any code and is never read"
INVALID = "its configuration is not valid"
ANOTHER = "weights of another network than the configuration's: "


# Archives and pickles.


def zip_bomb(path, good):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(2**26))
        archive.writestr("config.json", '{"module": "os", "class_name": "system"}')
    return UNPACK


def member_outside(path, good):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"../{MARK}", "outside")
    return UNPACK


def pickle_in_npz(path, good):
    with open(path, "wb") as file:
        np.savez(file, allow_pickle=True, w=np.array([RunsCode()], object))
    return UNPACK


def pickle_in_npy(path, good):
    with open(path, "wb") as file:
        np.save(file, np.array([RunsCode()], object), allow_pickle=True)
    return "a NumPy array"


def pickled(path, good):
    path.write_bytes(pickle.dumps(RunsCode()))
    return PICKLE


def pickled_with_a_safetensors_name(path, good):
    path.write_bytes(pickle.dumps(RunsCode(), protocol=2))
    return PICKLE


class RunsCode:
    def __reduce__(self):
        return os.mkdir, (MARK,)


# safetensors.


def huge_header(path, good):
    path.write_bytes(struct.pack("<Q", 2**63) + b'{"a":' + bytes(100))
    return "its header claims 9,223,372,036,854,775,808 bytes, above 1,000,000"


def long_header(path, good):
    size = 90_000_000
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", size) + b"{")
        file.truncate(8 + size)
    return "its header claims 90,000,000 bytes, above 1,000,000"


def header(path, text):
    path.write_bytes(struct.pack("<Q", len(text)) + text.encode() + bytes(64))
    return "damaged"


def array(dtype="F32", shape=(8,), start=0, end=32):
    entry = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    return json.dumps(entry)


def repeated_array(path, good):
    return header(path, f'{{"a":{array()},"a":{array(start=32, end=64)}}}')


def gap_between_arrays(path, good):
    second = array(shape=[7], start=36, end=64)
    return header(path, f'{{"a":{array()},"b":{second}}}')


def bytes_after_the_arrays(path, good):
    return header(path, f'{{"a":{array()}}}')


def sizes_that_are_no_numbers(path, good):
    return header(path, f'{{"a":{array(shape=[True, 16.0], end=64)}}}')


def negative_sizes(path, good):
    return header(path, f'{{"a":{array(shape=[-4, -4], end=64)}}}')


def list_in_place_of_a_header(path, good):
    return header(path, "{".replace("{", '{"__metadata__":[1]}'))


def overlapping_arrays(path, good):
    one = '{"dtype":"F32","shape":[8],"data_offsets":[0,32]}'
    return header(path, f'{{"a":{one},"b":{one}}}')


def array_beyond_the_end(path, good):
    one = '{"dtype":"F32","shape":[9999999999],"data_offsets":[0,39999999996]}'
    return header(path, f'{{"a":{one}}}')


def sizes_that_overflow(path, good):
    one = '{"dtype":"F32","shape":[4294967296,4294967297],"data_offsets":[0,64]}'
    return header(path, f'{{"a":{one}}}')


def deeply_nested_header(path, good):
    return header(path, "{" + '"a":[' * 100_000)


def resaved(path, good, name, array):
    with safe_open(good / "ours.safetensors", "numpy") as file:
        metadata = file.metadata()
    arrays = load_file(good / "ours.safetensors")
    save_file(arrays | {name: array}, path, metadata)


def other_type(path, good):
    resaved(path, good, "stem/kernel", np.zeros((3, 3, 3, 16), "f8"))
    return "stem/kernel is F64, not float32"


def name_for_the_terminal(path, good):
    resaved(path, good, "\x1b[2J" + "x" * 99, np.zeros(1, "f4"))
    return (
        "weights of another network, 1 array differs: "
        f"\\x1b[2J{'x' * 50}... is (1,), not wanted"
    )


# Configurations in safetensors files, refused before anything is built.


def configured(path, good, **changes):
    with safe_open(good / "ours.safetensors", "numpy") as file:
        config = json.loads(file.metadata()["config"]) | changes
    arrays = load_file(good / "ours.safetensors")
    save_file(arrays, path, {"config": json.dumps(config)})


def huge_network(path, good):
    configured(path, good, first_conv_channels=2**40)
    shape = (3, 3, 2**40, 2**40)
    return f"{ANOTHER}down_0_0_residual/conv_2/kernel is (3, 3, 16, 16), not {shape}"


def huge_number_of_blocks(path, good):
    configured(path, good, num_res_blocks=10**12)
    return f"{ANOTHER}down_0_1_residual/conv_2/kernel is missing, not (3, 3, 16, 16)"


def huge_number_of_levels(path, good):
    configured(
        path,
        good,
        img_size=2**10,
        channel_multiplier=[1] * 11,
        has_attention=[False] * 11,
    )
    return (
        f"{ANOTHER}"
        "down_1_0_residual/conv_2/kernel is (3, 3, 32, 32), not (3, 3, 16, 16)"
    )


def huge_image(path, good):
    configured(path, good, img_size=2**40)
    return "its configuration has img_size 1099511627776, above 1,048,576 pixels"


def image_of_many_pixels(path, good):
    configured(path, good, img_size=4096)
    return "its configuration has img_size 4096, above 1,048,576 pixels; name another"


def attention_over_many_pixels(path, good):
    configured(path, good, img_size=[256, 512])
    return "has img_size [256, 512], above 16,384 pixels that attend to each other"


def huge_number_of_timesteps(path, good):
    configured(path, good, total_timesteps=10**6)
    return "its configuration has total_timesteps 1000000, above 100,000 timesteps"


def more_timesteps_than_any_training_has(path, good):
    configured(path, good, total_timesteps=10**12)
    return INVALID


def repeated_key_in_the_configuration(path, good):
    arrays = load_file(good / "ours.safetensors")
    save_file(arrays, path, {"config": '{"img_size": 16, "seed": 0, "img_size": 8}'})
    return INVALID


def zero_byte_in_a_name(path, good):
    configured(path, good, dataset_name="petals\0")
    return INVALID


def number_of_many_digits(path, good):
    arrays = load_file(good / "ours.safetensors")
    save_file(arrays, path, {"config": '{"seed": ' + "9" * 5000 + "}"})
    return INVALID


def configuration_with_code(path, good):
    configured(path, good, activation={"module": "os", "class_name": "mkdir"})
    return INVALID


def no_configuration(path, good):
    save_file(load_file(good / "ours.safetensors"), path)
    return "holds no configuration"


def deeply_nested_configuration(path, good):
    arrays = load_file(good / "ours.safetensors")
    save_file(arrays, path, {"config": "[" * 400_000})
    return INVALID


def activation_of_another_package(path, good):
    configured(path, good, activation="ddpm_keras>DiffusionModel")
    return (
        "`activation` must be a Keras activation that keeps shapes, as swish. "
        "Received: activation='ddpm_keras>DiffusionModel'"
    )


def activation_that_halves_the_channels(path, good):
    configured(path, good, activation="glu")
    return "`activation` must be a Keras activation that keeps shapes"
