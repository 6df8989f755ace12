"""Data sets of TensorFlow Datasets (TFDS).

TensorFlow is only imported inside functions, so that other data sets do not need it.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from ddpm_keras.data.classes import number_classes
from ddpm_keras.data.image_files import fit_image, to_channels
from ddpm_keras.data.images import Images
from ddpm_keras.data.source import BLOCK, Block, Source
from ddpm_keras.errors import InputError, LabelsError, RunError

# How often, and how many seconds at most, the server of a download is asked.
ATTEMPTS, WAIT = 3, 20
RETRIES = 5  # of TFDS, which take 6 seconds


class TfdsSource(Source):
    """Some splits of a TFDS data set, which is downloaded if necessary.

    Images are identified by the feature `file_name`, or where there is none, by their
    places in the files of the data set.

    Args:
        name: Name of the data set, such as "oxford_flowers102".
        splits: Names of its splits, such as `["train", "validation"]`.
        data_dir: TFDS directory. None: `TFDS_DATA_DIR`, or the default of TFDS.
        shape: Height, width and channels of each image of the result.
        background: Colour behind transparent pixels.
        labelled: Whether images get labels, by the feature `label`.

    Raises:
        InputError: When there is no such data set or split, or it has no images, or
            no labels that are asked for.
        RunError: When it cannot be downloaded, or the copy in `data_dir` is damaged.
    """

    def __init__(
        self,
        name: str,
        splits: list[str],
        data_dir: str | None,
        shape: tuple[int, int, int],
        background: str = "white",
        labelled: bool = False,
    ) -> None:
        self.splits, self.shape, self.labelled = splits, shape, labelled
        self.background = background
        self.builder = _prepare(name, data_dir)
        problem = _label_problem(name, self.builder.info.features)
        if labelled and problem:
            raise LabelsError(
                f"class_labels: {problem}; leave the key out, or use another one"
            )
        self.has_labels = not problem
        known = self.builder.info.splits
        for split in splits:
            if split.partition("[")[0] not in known:
                raise InputError(
                    f"splits: {name!r} has no split {split!r}; it has "
                    f"{', '.join(known)}"
                )
        try:
            self.count = known["+".join(splits)].num_examples
        except (ValueError, AssertionError) as error:  # an invalid slice
            raise InputError(
                f"splits: {splits} is not possible: {_first_line(error)}"
            ) from error
        if not self.count:
            raise InputError(f"splits: {splits} is not possible: it has no images")

    def describe(self) -> dict[str, Any]:
        """Return the data set's name, version, splits, size and place."""
        info = self.builder.info
        return {
            "source": "tfds",
            "name": info.full_name,  # with the version
            "splits": self.splits,
            "bytes": {name: split.num_bytes for name, split in info.splits.items()},
            "folder": str(self.builder.data_dir),
            "background": self.background,
        }

    def blocks(self, first: int, executor: Executor) -> Iterator[Block]:
        import tensorflow as tf

        stop, keys = first, ["id", "label"] if self.has_labels else ["id"]
        examples = self._examples(first)
        try:
            for pixels, *others in examples.batch(BLOCK).as_numpy_iterator():
                found = dict(zip(keys, others, strict=True))
                ids = [text.decode("utf-8", "surrogateescape") for text in found["id"]]
                classes = found["label"].tolist() if self.has_labels else None
                stop += len(ids)
                yield Block(pixels, ids, classes, [], stop)
        except tf.errors.OpError as error:
            raise RunError(self._damage(_first_line(error))) from error
        if stop != self.count:
            raise RunError(self._damage(f"{stop} of {self.count} images are there"))

    def finish(self, whole: Block, digests: Path | None = None) -> Images:
        if not self.labelled:
            return Images(whole.pixels, ids=whole.ids, digests=digests)
        classes = whole.classes
        missing = sum(label < 0 for label in classes)
        if missing:  # TFDS has -1 where a label is not known, as in some test splits
            raise LabelsError(
                f"class_labels: {missing:,} of {len(classes):,} images of the splits "
                f"{', '.join(self.splits)} have no label; leave their split out"
            )
        class_names = self.builder.info.features["label"].names
        labels, names = number_classes(classes, class_names.__getitem__)
        return Images(whole.pixels, labels, names, whole.ids, digests=digests)

    def _examples(self, first: int) -> Any:
        """Return a `tf.data.Dataset` of pixels, what identifies them, any labels."""
        import tensorflow as tf
        import tensorflow_datasets as tfds

        features = self.builder.info.features
        *size, channels = self.shape
        id_key = "tfds_id"
        if isinstance(dict(features).get("file_name"), tfds.features.Text):
            id_key = "file_name"
        keys = [id_key, "label"] if self.has_labels else [id_key]

        def fit(pixels):
            pixels = to_channels(pixels, channels, self.background)
            return fit_image(pixels, *size)

        def fit_example(example):
            pixels = features["image"].decode_example(example["image"])
            pixels = tf.numpy_function(fit, [pixels], tf.uint8)
            return pixels, *(example[key] for key in keys)

        examples = self.builder.as_dataset(
            split="+".join(self.splits),
            shuffle_files=False,
            # Decoded after `skip`, which passes over images that are not needed.
            decoders={"image": tfds.decode.SkipDecoding()},
            # TFDS caches a small data set: gigabytes that are read only once.
            read_config=tfds.ReadConfig(
                try_autocache=False, add_tfds_id=id_key == "tfds_id"
            ),
        )
        return examples.skip(first).map(fit_example, tf.data.AUTOTUNE)

    def _damage(self, problem: str) -> str:
        return (
            f"dataset_name: cannot read {self.builder.name!r} ({problem}); delete "
            f"{self.builder.data_dir}, and the next run prepares it again"
        )


def _label_problem(name, features):
    """Tell why a data set does not have one class for each image; None if it has."""
    import tensorflow_datasets as tfds

    if "label" not in features:
        return f"the data set {name!r} has no feature called label"
    if not isinstance(features["label"], tfds.features.ClassLabel):
        return f"the feature label of the data set {name!r} is no ClassLabel"
    if not features["label"].num_classes:
        return f"the data set {name!r} does not say how many classes it has"
    return None


def _prepare(name, data_dir):
    """Return the TFDS builder of a data set of images, downloaded if necessary."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(
            f"dataset_name: no TFDS data set is called {name!r}; use one of "
            'tensorflow.org/datasets, or "petals", or "folder"'
        ) from error
    except (ValueError, AssertionError) as error:  # an invalid name or version
        raise InputError(
            f"dataset_name: {name!r} is not possible: {_first_line(error)}"
        ) from error
    if "image" not in builder.info.features:
        raise InputError(f"dataset_name: {name!r} has no feature called image")
    try:
        if not builder.data_path.exists():
            _check_network(list(builder.url_infos or ()))
        builder.download_and_prepare()
    except Exception as error:  # TFDS's errors have no narrower base
        raise RunError(
            f"dataset_name: cannot download {name!r}: {_first_line(error)}; name the "
            "TFDS directory of a copy with --data_dir or TFDS_DATA_DIR, or train on a "
            "folder of images with --dataset_name folder --data_dir PATH"
        ) from error
    return builder


def _check_network(urls):
    """Raise an `OSError` if the server of the first address does not answer soon.

    TFDS would try again for minutes.
    """
    from tensorflow_datasets.core.download import downloader

    # Of a proxy only a download can tell whether it reaches the server: fewer, then.
    downloader.MAX_RETRIES = min(downloader.MAX_RETRIES, RETRIES)
    url = next((url for url in urls if url.startswith("http")), None)
    if url is None or getproxies():
        return
    place = urlsplit(url)
    port = place.port or {"http": 80, "https": 443}[place.scheme]
    answers = []

    def connect():
        for _ in range(ATTEMPTS):
            with contextlib.suppress(OSError):
                socket.create_connection((place.hostname, port), WAIT).close()
                answers.append(port)
                return
            time.sleep(1)

    # A name that nobody resolves may take longer than any limit.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(WAIT)
    if not answers:
        raise OSError(f"no answer from {url}")


def _first_line(error):
    """Return the first line of an error, or the address that did not answer."""
    if getattr(error, "request", None):
        return f"no answer from {error.request.url}"
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    said = error.args[0] if error.args and isinstance(error.args[0], str) else error
    return (str(said) or type(error).__name__).splitlines()[0].rstrip(".:")
