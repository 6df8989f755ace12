"""Recognition of weights files by their content, never by their name."""

from pathlib import Path

from ddpm_keras.errors import InputError

TAKEN = (
    "use a run folder, a .safetensors, .weights.h5 or Keras 2 .h5 file, or the prefix "
    "of a TensorFlow checkpoint"
)
# First bytes of files that people mistake for weights, and the advice for each.
REFUSED = {
    b"PK\x03\x04": "a zip archive, as .keras and .npz files are; unpack it and name "
    "the weights in it",
    b"PK\x05\x06": f"an empty zip archive; {TAKEN}",
    b"\x1f\x8b": "a gzip archive; unpack it and name the weights in it",
    b"\x80": f"a pickle, which can run any code and is never read; {TAKEN}",
    b"\x93NUMPY": f"a NumPy array; {TAKEN}",
}


def find_format(path: Path) -> str:
    """Return `"safetensors"`, `"hdf5"`, or `"tensorflow"` for a checkpoint's prefix.

    Raises:
        InputError: When it is another format, with its name and what to use instead.
    """
    # First, since TensorFlow also writes a text file called "checkpoint".
    if Path(f"{path}.index").is_file():
        return "tensorflow"
    with path.open("rb") as file:
        start = file.read(512)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5"
    # Eight bytes with the length of the header, then the header as JSON.
    if start[8:9] == b"{" and not _is_text(start):
        return "safetensors"
    if not start:
        raise InputError(f"{path}: an empty file; {TAKEN}")
    for signature, words in REFUSED.items():
        if start.startswith(signature):
            raise InputError(f"{path}: {words}")
    kind = "a text file" if _is_text(start) else "a file of an unknown format"
    raise InputError(f"{path}: {kind}; {TAKEN}")


def _is_text(start: bytes) -> bool:
    text = start.decode("utf-8", "ignore")
    whole = len(start) - len(text.encode()) < 4  # the last character may be cut off
    return whole and all(c.isprintable() or c in "\t\r\n\f" for c in text)
