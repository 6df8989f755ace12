"""Data sets of TensorFlow Datasets, on disk and from a server."""

import errno
import hashlib
import io
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image
from refusal import refusal
from tensorflow_datasets.core.download import downloader

from ddpm_keras.config import Config
from ddpm_keras.data import load_images, open_source
from ddpm_keras.data import tfds as tfds_module
from ddpm_keras.data.flowers import draw_flower
from ddpm_keras.data.image_files import decode_image, fit_image
from ddpm_keras.errors import RunError


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
    """`oxford_flowers102`, a few flowers in place of its own, and smaller sets."""
    root = tmp_path_factory.mktemp("tfds")
    flowers = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(),
            "label": tfds.features.ClassLabel(num_classes=102),
            "file_name": tfds.features.Text(),
        }
    )

    def example(k):
        file = io.BytesIO()
        image = Image.fromarray(draw_flower(0, k, 16))
        image.save(file, "jpeg", quality=100, subsampling=0)
        file.seek(0)
        return {"image": file, "label": k, "file_name": f"image_{k:05d}.jpg"}

    splits = {"train": range(0, 5), "test": range(5, 8), "validation": range(8, 12)}
    write_tfds(root / "oxford_flowers102" / "2.1.1", flowers, splits, example)
    clear = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(8, 8, 4))})
    alphas = {"image": np.full((8, 8, 4), [200, 0, 0, 51], "uint8")}
    write_tfds(root / "clear" / "1.0.0", clear, {"train": range(2)}, lambda k: alphas)
    text = tfds.features.FeaturesDict({"text": tfds.features.Text()})
    splits = {"train": range(2)}
    write_tfds(root / "words" / "1.0.0", text, splits, lambda k: {"text": str(k)})
    return root


@pytest.fixture(scope="module")
def labelled_dir(tmp_path_factory):
    """Sets of grey images, image k of grey level 20 * k, with labels of each kind."""
    root = tmp_path_factory.mktemp("labelled")
    classes = tfds.features.ClassLabel(names=["rose", "tulip", " water\tlily ", "iris"])
    kinds = {
        "named": (classes, [3, 0, 3, 2, 0, 0]),  # no tulip
        "half": (classes, [1, -1, 1, -1, 1, 1]),
        "counted": (np.int64, [3, 0, 3, 2, 0, 0]),
    }
    for name, (feature, labels) in kinds.items():
        features = {"image": tfds.features.Image(), "label": feature}

        def example(k, labels=labels):
            return {"image": np.full((4, 4, 3), 20 * k, "uint8"), "label": labels[k]}

        features = tfds.features.FeaturesDict(features)
        splits = {"train": range(4), "test": range(4, 6)}
        write_tfds(root / name / "1.0.0", features, splits, example)
    return root


def write_tfds(folder, features, splits, example):
    folder.mkdir(parents=True)
    infos = []
    for split, numbers in splits.items():
        records = [features.serialize_example(example(k)) for k in numbers]
        name = f"{folder.parent.name}-{split}.tfrecord-00000-of-00001"
        with tf.io.TFRecordWriter(str(folder / name)) as writer:
            for record in records:
                writer.write(record)
        infos.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[len(records)],
                num_bytes=sum(map(len, records)),
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=str(folder),
        features=features,
        split_infos=infos,
        filename_template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    )


def tfds_config(folder, img_size=16, **keys):
    network = {"channel_multiplier": [1], "has_attention": [False]}
    return Config(data_dir=str(folder), img_size=img_size, **network, **keys)


def assert_flowers(images, numbers, channels=3):
    wanted = [draw_flower(0, k, 16, channels) for k in numbers]
    assert images.dtype == np.uint8
    assert images.shape == np.shape(wanted)
    # JPEG changes colours a little; another flower differs far more.
    difference = np.abs(images.astype(int) - wanted).mean(axis=(1, 2, 3))
    assert difference.max() < 8


def test_tfds_train_split_is_read(tfds_dir):
    assert_flowers(load_images(tfds_config(tfds_dir)).pixels, range(5))


def test_tfds_splits_are_joined(tfds_dir):
    config = tfds_config(tfds_dir, splits=["train", "validation"])
    assert_flowers(load_images(config).pixels, [0, 1, 2, 3, 4, 8, 9, 10, 11])


def test_tfds_images_are_resized_and_grey_if_asked(tfds_dir):
    config = tfds_config(tfds_dir, splits=["test"], img_channels=1)
    assert_flowers(load_images(config).pixels, range(5, 8), channels=1)
    images = load_images(tfds_config(tfds_dir, img_size=[4, 8])).pixels
    assert images.shape == (5, 4, 8, 3)


@pytest.mark.parametrize(
    "background, colour", [("white", (244, 204, 204)), ("blue", (40, 0, 204))]
)
def test_transparent_images_are_composited(tfds_dir, background, colour):
    keys = {"dataset_name": "clear", "background": background}
    images = load_images(tfds_config(tfds_dir, img_size=8, **keys))
    assert (images.pixels == colour).all()  # a fifth of the red of 200


def test_tfds_data_dir_of_the_environment_is_read(tfds_dir, tmp_path):
    # TFDS reads the variable when it is imported, hence the separate process.
    code = (
        "import numpy; from ddpm_keras import Config, load_images; "
        "config = Config(img_size=16, splits=['validation', 'train']); "
        "numpy.save('images.npy', load_images(config).pixels)"
    )
    environment = {**os.environ, "TFDS_DATA_DIR": str(tfds_dir)}
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    images = np.load(tmp_path / "images.npy")
    assert_flowers(images, [8, 9, 10, 11, 0, 1, 2, 3, 4])


def test_unknown_split_is_reported_with_the_known_ones(tfds_dir):
    config = tfds_config(tfds_dir, splits=["train", "valid"])
    assert refusal(load_images, config) == (
        "splits: 'oxford_flowers102' has no split 'valid'; "
        "it has train, test, validation"
    )


@pytest.mark.parametrize("split", ["train[10%]", "train[:0]"])
def test_impossible_slice_is_reported(tfds_dir, split):
    message = refusal(load_images, tfds_config(tfds_dir, splits=[split]))
    assert message.startswith(f"splits: [{split!r}] is not possible: ")


def test_unknown_data_set_is_reported(tfds_dir):
    config = tfds_config(tfds_dir, dataset_name="oxford_flower")
    assert refusal(load_images, config) == (
        "dataset_name: no TFDS data set is called 'oxford_flower'; use one of "
        'tensorflow.org/datasets, or "petals", or "folder"'
    )


@pytest.mark.parametrize(
    "name", ["Oxford Flowers", "a/b/c", "oxford_flowers102:9.9.9", "words/big"]
)
def test_impossible_data_set_names_are_reported(tfds_dir, name):
    message = refusal(load_images, tfds_config(tfds_dir, dataset_name=name))
    assert message.startswith("dataset_name: ")
    assert repr(name) in message


def test_data_set_without_images_is_reported(tfds_dir):
    config = tfds_config(tfds_dir, dataset_name="words")
    assert refusal(load_images, config) == (
        "dataset_name: 'words' has no feature called image"
    )


def test_damaged_copy_is_reported(tfds_dir, tmp_path):
    shutil.copytree(tfds_dir, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "oxford_flowers102" / "2.1.1"
    (record,) = folder.glob("*train*")
    record.write_bytes(record.read_bytes()[:-100])
    message = refusal(load_images, tfds_config(tmp_path), error=RunError)
    assert message.startswith("dataset_name: cannot read 'oxford_flowers102' (")
    assert message.endswith(f"); delete {folder}, and the next run prepares it again")
    assert "\n" not in message


def test_folder_decodes_a_jpeg_up_to_three_grey_levels_apart(tmp_path):
    """TensorFlow's inverse transform is a fast one; docs/training.md gives the figure.

    With the accurate one TensorFlow decodes as Pillow does.
    """
    path = tmp_path / "a.jpg"
    Image.fromarray(draw_flower(0, 0, 256)).save(path, quality=90)
    ours, data = decode_image(path, 3), path.read_bytes()
    recipe = tfds.features.Image().decode_example(data).numpy()
    fitted = [fit_image(pixels, 64, 64).astype(int) for pixels in (ours, recipe)]
    assert 1 <= np.abs(fitted[0] - fitted[1]).max() <= 3
    accurate = tf.io.decode_jpeg(data, dct_method="INTEGER_ACCURATE").numpy()
    np.testing.assert_array_equal(ours, accurate)


# Labels, and what identifies an image.


@pytest.mark.parametrize("splits", [["test", "train"], ["train[2:]", "test"]])
def test_classes_with_images_are_numbered_in_their_order(labelled_dir, splits):
    config = tfds_config(
        labelled_dir, 4, dataset_name="named", splits=splits, class_labels=True
    )
    images = load_images(config)
    greys = images.pixels[:, 0, 0, 0] // 20
    wanted = [["iris", "rose", "iris", "water?lily", "rose", "rose"][k] for k in greys]
    assert [images.names[label] for label in images.labels] == wanted
    assert images.names == ("rose", "water?lily", "iris")
    assert images.labels.dtype == np.int32


def test_labels_are_left_out_unless_asked_for(labelled_dir):
    images = load_images(tfds_config(labelled_dir, 4, dataset_name="half"))
    assert (images.labels, images.names) == (None, ())
    assert len(images) == 4


def test_cache_keeps_images_with_their_labels_and_goes_on_anywhere(
    labelled_dir, tmp_path
):
    splits = {"splits": ["train[1:]", "test"], "dataset_name": "named"}
    keys = {**splits, "class_labels": True, "cache_dir": str(tmp_path)}
    wanted = load_images(tfds_config(labelled_dir, 4, **keys, cache="ram"))
    config = tfds_config(labelled_dir, 4, **keys, cache="disk")
    for _ in range(2):  # filled, and found there
        images = load_images(config)
        np.testing.assert_array_equal(images.pixels, wanted.pixels)
        np.testing.assert_array_equal(images.labels, wanted.labels)
        assert (list(images.ids), images.names) == (list(wanted.ids), wanted.names)
    (rest,) = open_source(config).blocks(2, None)
    np.testing.assert_array_equal(rest.pixels, wanted.pixels[2:])
    assert (rest.ids, rest.stop) == (list(wanted.ids[2:]), 5)


@pytest.mark.parametrize("labelled", [False, True])
def test_file_names_identify_images(tfds_dir, labelled):
    config = tfds_config(tfds_dir, splits=["test", "train"], class_labels=labelled)
    images = load_images(config)
    numbers = [5, 6, 7, 0, 1, 2, 3, 4]
    assert list(images.ids) == [f"image_{k:05d}.jpg" for k in numbers]
    if labelled:  # the names are in the code of TFDS
        assert list(images.labels) == numbers
        assert images.names[:2] == ("pink primrose", "hard-leaved pocket orchid")


def test_places_in_the_files_identify_images_without_names(labelled_dir):
    def ids(*splits):
        config = tfds_config(labelled_dir, 4, dataset_name="named", splits=list(splits))
        return list(load_images(config).ids)

    both, train = ids("test", "train"), ids("train")
    assert len(set(both)) == 6 and both[2:] == train
    assert ids("train[1:3]") == train[1:3]


@pytest.mark.parametrize(
    "name, splits, problem",
    [
        ("counted", ["train"], "the feature label of the data set 'counted' is no"),
        ("half", ["train", "test"], "2 of 6 images of the splits train, test have no"),
    ],
)
def test_labels_that_are_no_classes_are_reported(labelled_dir, name, splits, problem):
    config = tfds_config(
        labelled_dir, 4, dataset_name=name, splits=splits, class_labels=True
    )
    message = refusal(load_images, config)
    assert message.startswith(f"class_labels: {problem}")
    assert "\n" not in message


def test_data_set_without_labels_is_reported(config):
    config = config.model_copy(update={"class_labels": True})
    assert refusal(load_images, config) == (
        "class_labels: the data set 'served_flowers' has no feature called label; "
        "leave the key out, or use another one"
    )


def test_decoded_images_are_not_kept_beside_the_result(tfds_dir, monkeypatch):
    def cache(*args):
        raise AssertionError("TFDS caches what is read once")

    monkeypatch.setattr(tf.data.Dataset, "cache", cache)
    assert len(load_images(tfds_config(tfds_dir))) == 5


# Downloads that fail.


def archive():
    """Three flowers in a zip file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        for k in range(3):
            with members.open(f"{k}.png", "w") as member:
                Image.fromarray(draw_flower(0, k, 16)).save(member, "png")
    return file.getvalue()


class Server(ThreadingHTTPServer):
    """A server that sends `sent` with the length of `whole`, or for None, a 404."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.whole = self.sent = archive()
        self.url = f"http://127.0.0.1:{self.server_port}/flowers.zip"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.server.sent is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.whole)))
        self.end_headers()
        self.wfile.write(self.server.sent)

    def log_message(self, *args):
        """Print nothing."""


@pytest.fixture(scope="module")
def server():
    """A server with the archive of the TFDS data set `served_flowers`."""
    server = Server()

    class ServedFlowers(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        url_infos = {
            server.url: tfds.core.download.checksums.UrlInfo(
                size=tfds.core.utils.Size(len(server.whole)),
                checksum=hashlib.sha256(server.whole).hexdigest(),
                filename="flowers.zip",
            )
        }

        def _info(self):
            features = tfds.features.FeaturesDict({"image": tfds.features.Image()})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            folder = dl_manager.download_and_extract(server.url)
            return {"train": self._generate_examples(folder)}

        def _generate_examples(self, path):
            for image in path.glob("*.png"):
                yield image.name, {"image": image}

    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def config(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloader, "MAX_RETRIES", 0)  # retries take minutes
    server.sent = server.whole
    return tfds_config(tmp_path, dataset_name="served_flowers")


def failure(config):
    """Return why a data set cannot be downloaded, without the rest of the message."""
    message = refusal(load_images, config, error=RunError)
    start = "dataset_name: cannot download 'served_flowers': "
    end = (
        "; name the TFDS directory of a copy with --data_dir or TFDS_DATA_DIR, or "
        "train on a folder of images with --dataset_name folder --data_dir PATH"
    )
    assert message.startswith(start) and message.endswith(end)
    assert "\n" not in message
    return message[len(start) : -len(end)]


def test_missing_file_is_reported(server, config):
    server.sent = None
    assert failure(config) == f"Failed to get url {server.url}. HTTP code: 404"


def test_download_that_breaks_off_is_reported(server, config):
    server.sent = server.whole[:1000]
    missing = len(server.whole) - 1000
    assert failure(config) == (
        f"Connection broken: IncompleteRead(1000 bytes read, {missing} more expected)"
    )


def test_file_with_another_checksum_is_reported(server, config):
    server.sent = server.whole[:-1] + b"?"
    said = failure(config)
    assert said.startswith(f"Artifact {server.url}, downloaded to ")
    assert said.endswith(", has wrong checksum")


@pytest.mark.parametrize("waits", [False, True])
def test_lack_of_a_network_is_reported_soon(server, config, monkeypatch, waits):
    monkeypatch.setattr(downloader, "MAX_RETRIES", 10)  # as it is, minutes
    monkeypatch.setattr(tfds_module, "getproxies", dict)
    assert tfds_module.WAIT < 30
    monkeypatch.setattr(tfds_module, "WAIT", 0.2)

    def no_network(*args, **kwargs):
        if waits:  # for a name server that does not answer
            time.sleep(2)
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    begun = time.monotonic()
    assert failure(config) == f"no answer from {server.url}"
    assert time.monotonic() - begun < 2
    assert downloader.MAX_RETRIES <= 5


def test_full_disk_is_reported(config, monkeypatch):
    def download(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device", "/data/flowers.zip")

    monkeypatch.setattr(downloader._Downloader, "_sync_download", download)
    assert failure(config) == "[Errno 28] No space left on device: '/data/flowers.zip'"


@pytest.mark.parametrize("length", [None, 1000, -1])
def test_failed_download_does_not_block_the_next(server, config, length):
    server.sent = None if length is None else server.whole[:length]
    failure(config)
    server.sent = server.whole
    means = [draw_flower(0, k, 16).mean() for k in range(3)]
    loaded = load_images(config).pixels.mean(axis=(1, 2, 3))
    np.testing.assert_array_equal(sorted(loaded), sorted(means))
