"""Tells the format of a weights file by what is in it, never by its name."""

from pathlib import Path

from ddpm_keras.errors import InputError

TAKEN = (
    "use a run folder, a .safetensors, .weights.h5 or Keras 2 .h5 file, or the prefix "
    "of a TensorFlow checkpoint"
)
# How files begin that people take for weights, and what we tell them.
REFUSED = {
    b"PK\x03\x04": "a zip archive, as .keras and .npz files are; unpack it and name "
    "the weights in it",
    b"PK\x05\x06": f"an empty zip archive; {TAKEN}",
    b"\x1f\x8b": "a gzip archive; unpack it and name the weights in it",
    b"\x80": f"a pickle, which can run any code and is never read; {TAKEN}",
    b"\x93NUMPY": f"a NumPy array; {TAKEN}",
}


def find_format(path):
    """`"safetensors"`, `"hdf5"`, or `"tensorflow"` for the prefix of a checkpoint.

    Raises:
        InputError: When it is another format; the message says which, and what to use.
    """
    path = Path(path)
    # Beside the checkpoint "checkpoint" TensorFlow writes a text file of that name.
    if Path(f"{path}.index").is_file():
        return "tensorflow"
    with path.open("rb") as file:
        start = file.read(512)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5"
    # The length of the header, eight bytes, then the header, which is JSON.
    if start[8:9] == b"{" and not _is_text(start):
        return "safetensors"
    if not start:
        raise InputError(f"{path}: an empty file; {TAKEN}")
    for signature, words in REFUSED.items():
        if start.startswith(signature):
            raise InputError(f"{path}: {words}")
    kind = "a text file" if _is_text(start) else "a file of an unknown format"
    raise InputError(f"{path}: {kind}; {TAKEN}")


def _is_text(start):
    # A character may be cut in two at the end.
    text = start.decode("utf-8", "ignore")
    whole = len(start) - len(text.encode()) < 4
    return whole and all(c.isprintable() or c in "\t\r\n\f" for c in text)
