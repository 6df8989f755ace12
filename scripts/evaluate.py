"""Measure how good a model's images are.

Examples:
    python scripts/evaluate.py --weights runs/demo/001 --out evaluation
    python scripts/evaluate.py --weights runs/demo/001 --metrics kid,swd,nn \\
        --features random:0 --sampler dpmpp --steps 20 --num-images 512 --out fast

docs/measures.md says which measure answers which question.
"""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np

from ddpm_keras import __version__
from ddpm_keras.config import load_config
from ddpm_keras.errors import InputError, run_command
from ddpm_keras.images import shown_shape
from ddpm_keras.measures.evaluate_flags import (
    METRICS,
    OF_FEATURES,
    OF_REAL,
    OF_SAMPLES,
    RESULTS,
    parse_flags,
)
from ddpm_keras.run_folder import CONFIG
from ddpm_keras.shared_flags import weights_and_config

VERBOSE = 1 if sys.stdout.isatty() else 2  # 2: a bar only when it is full


def main(argv=None):
    args, metrics = parse_flags(__doc__, argv)
    weights, config = weights_and_config(args)
    data_config = choose_data(args, config)

    # Loads Keras, so only now: a mistake above is told at once, not after seconds.
    import keras

    from ddpm_keras.diffusion import GaussianDiffusion
    from ddpm_keras.measures.evaluation import ImageSet
    from ddpm_keras.measures.features import load_extractor
    from ddpm_keras.report import write_report
    from ddpm_keras.samplers import choose_steps
    from ddpm_keras.weights import fingerprint, load_network

    # What may be wrong or missing is read before the long work.
    diffusion = GaussianDiffusion(**config.diffusion_arguments())
    options, plan = choose_steps(
        config, diffusion, sampler=args.sampler, steps=args.steps, eta=args.eta
    )
    network = load_network(weights, config)
    training, held_out = load_real(args, metrics, data_config)
    extractor = None
    if metrics & OF_FEATURES:
        extractor = load_extractor(args.features, training.shape[1:])

    def image_set(title, images):
        if extractor is None:
            return ImageSet(images)
        print(f"features: {title}")
        return ImageSet(images, extractor(images, VERBOSE))

    report = Report(
        protocol={
            "package": f"ddpm_keras {__version__}",
            "backend": keras.backend.backend(),
            "weights": str(weights),
            "weights_sha256": fingerprint(network),
            "seed": args.seed,
            "data": describe_data(data_config, training, held_out),
            "extractor": extractor and extractor.name,
        }
    )
    if metrics & OF_SAMPLES:
        stamp = {
            "sampler": options["sampler"],
            "steps": len(plan),
            "eta": options.get("eta", 0.0),
            "weights": report.protocol["weights_sha256"],
            "diffusion": json.dumps(config.diffusion_arguments()),
            "backend": report.protocol["backend"],
        }
        images = make_samples(args, network, diffusion, plan, stamp, report)
        samples = image_set("samples", images)
        seen = image_set("training images", training) if "nn" in metrics else None
        if metrics & OF_REAL:
            source = training if args.against == "training" else held_out
            chosen = np.random.default_rng(args.seed).permutation(len(source))
            chosen = chosen[: 2 * len(samples)]
            if seen is not None and args.against == "training":
                real = seen.pick(chosen)  # whose features are known
            else:
                real = image_set(f"{args.against} images", source[chosen])
            compare_with_real(args, metrics, real, samples, report)
        if "nn" in metrics:
            mirrored = None
            if data_config.random_flip:
                mirrored = image_set("mirrored training images", training[:, :, ::-1])
            search_copies(args, seen, mirrored, samples, report)
    if "bpd" in metrics:
        measure_bits(args, network, diffusion, training, held_out, report)
    out = Path(args.out)
    write_results(out, report)
    if (out.parent / CONFIG).is_file():  # a run's folder, whose page shows measures
        print(f"report: {write_report(out.parent)}")


@dataclasses.dataclass
class Report:
    """What an evaluation has found, and how."""

    protocol: dict
    results: dict = dataclasses.field(default_factory=dict)
    warnings: list = dataclasses.field(default_factory=list)
    pictures: dict = dataclasses.field(default_factory=dict)

    def warn(self, text):
        self.warnings.append(text)
        print(f"warning: {text}", file=sys.stderr)


# What the arguments say.


def choose_data(args, config):
    """The configuration whose data keys name the training images."""
    if args.data is None:
        return config
    path = Path(args.data)
    if path.is_dir() and not (path / "config.yaml").is_file():
        return config.model_copy(
            update={"dataset_name": "folder", "data_dir": str(path)}
        )
    data_config = load_config(path / "config.yaml" if path.is_dir() else path)
    shape, wanted = data_config.image_shape, config.image_shape
    if shape != wanted:
        raise InputError(
            f"--data: {path} has images of {shown_shape(shape)}, and the network makes "
            f"{shown_shape(wanted)}; name a configuration with its size"
        )
    return data_config


def load_real(args, metrics, data_config):
    """The images that training saw, and those it held out."""
    from ddpm_keras.data import load_images, split_images

    images = load_images(data_config)
    training, held_out = split_images(
        images, data_config.validation_fraction, data_config.seed
    )
    if args.against == "held-out" and not len(held_out) and metrics & OF_REAL:
        raise InputError(
            "--against: no image was held out (validation_fraction is 0); use training"
        )
    compared = training if args.against == "training" else held_out
    for name in METRICS:
        # Two of each: the halves of the real images are measured as well.
        least = 2 * METRICS[name] if name in OF_REAL else 0
        if name in metrics and len(compared) < least:
            raise InputError(
                f"--data: {name} needs {least} or more {args.against} images; there "
                f"are {len(compared)}"
            )
    if "nn" in metrics and len(training) < 3:
        raise InputError(
            f"--data: nn needs 3 or more training images; there are {len(training)}"
        )
    return training, held_out


# The measures.


def make_samples(args, network, diffusion, plan, stamp, report):
    """Sample, or take from the folder, `--num-images` images as bytes."""
    from ddpm_keras.measures.sample_store import sample_or_reuse
    from ddpm_keras.reverse import ReverseProcess

    print(f"samples: {args.num_images} by {stamp['sampler']}, {stamp['steps']} steps")
    images, reused = sample_or_reuse(
        Path(args.out) / "samples",
        ReverseProcess(network, diffusion),
        plan,
        range(args.seed, args.seed + args.num_images),
        stamp,
        args.force,
        batch_size=args.batch_size,
        verbose=VERBOSE,
    )
    if reused:
        print(f"reused: {reused} of them, from {Path(args.out) / 'samples'}")
    report.protocol["samples"] = {
        "number": len(images),
        "seeds": f"{args.seed}-{args.seed + len(images) - 1}",
        "sampler": stamp["sampler"],
        "steps": stamp["steps"],
        "eta": stamp["eta"],
        "spacing": "trailing",
        "clipped": True,
    }
    return images


def compare_with_real(args, metrics, real, samples, report):
    """kid, fid, swd and prdc, each beside what it is for halves of the real images."""
    from ddpm_keras.measures.evaluation import compare

    report.results |= compare(metrics, real, samples, args.seed)
    report.protocol["real_images"] = {
        "split": args.against,
        "number": len(real),
        "number_for_swd_and_prdc": min(len(real), len(samples)),
        "number_in_each_half": len(real) // 2,
    }
    if "fid" in metrics:
        tell_bias(len(real), len(samples), real.features.shape[1], report)


def tell_bias(num_real, num_samples, dims, report):
    """FID's own error at these numbers, which is always told."""
    bias = report.results["fid"].reference
    told = (
        f"two halves of the real images, {num_real // 2} each, are {bias:.4g} apart; "
        "smaller values and differences mean nothing"
    )
    fewer = min(num_samples, num_real)
    if fewer <= dims:
        report.warn(
            f"fid: {fewer} images are too few for {dims} features, use more or kid; "
            f"{told}"
        )
    else:
        print(f"fid: {told}")


def search_copies(args, training, mirrored, samples, report):
    """The training images nearest to samples."""
    from ddpm_keras.measures.evaluation import find_copies

    results, findings = find_copies(training, samples, mirrored, args.seed)
    report.results |= results
    report.protocol["nn"] = {
        "training_images": len(training),
        "mirrored_too": mirrored is not None,
    }
    report.pictures["closest_pairs.png"] = (samples.images, training.images, findings)


def measure_bits(args, network, diffusion, training, held_out, report):
    """Bits per dimension, of images held out where there are any."""
    from ddpm_keras.measures.evaluation import summarise_bits
    from ddpm_keras.measures.likelihood import VariationalBound

    images, split = (held_out, "held-out") if len(held_out) else (training, "training")
    order = np.random.default_rng(args.seed).permutation(len(images))
    images = images[order[: args.bpd_images]]
    print(f"bits per dimension: {len(images)} {split} images")
    likelihood = VariationalBound(network, diffusion).measure(
        images, args.seed, args.batch_size, VERBOSE
    )
    if split == "training":
        report.warn(
            "bpd: of training images, for none was held out; a model that memorises "
            "has a low one"
        )
    report.results |= summarise_bits(likelihood)
    report.protocol["bpd"] = {"split": split, "number": len(images)}
    report.pictures["bpd.png"] = (likelihood,)


# What is written.


def describe_data(config, training, held_out):
    names = ("dataset_name", "splits", "data_dir", "validation_fraction", "seed")
    return {name: getattr(config, name) for name in names} | {
        "training_images": len(training),
        "held_out_images": len(held_out),
        "size": shown_shape(training.shape[1:]),
        "resize": "drawn at this size"
        if config.dataset_name == "petals"
        else "centre crop, antialiased bilinear",
    }


def write_results(out, report):
    from ddpm_keras.files import written_whole
    from ddpm_keras.measures.evaluation import with_error
    from ddpm_keras.measures.figures import save_bits_curve, save_closest_pairs

    width = max(map(len, report.results))
    print(f"\n{'':{width}}  {'model':>20}  {'reference':>20}")
    for name, result in report.results.items():
        value = with_error(result.value, result.error)
        reference = with_error(result.reference, result.reference_error)
        print(f"{name:{width}}  {value:>20}  {reference:>20}")
    print("reference: two halves of the real images; for nn, training images left out")

    for name in RESULTS:  # of an evaluation that this one writes over
        (out / name).unlink(missing_ok=True)
    savers = {"bpd.png": save_bits_curve, "closest_pairs.png": save_closest_pairs}
    for name, content in report.pictures.items():
        savers[name](out / name, *content)
        print(f"figure: {out / name}")
    text = {
        "results": {k: dataclasses.asdict(v) for k, v in report.results.items()},
        "warnings": report.warnings,
        "protocol": report.protocol,
    }
    with written_whole(out / "metrics.json") as file:
        file.write_text(json.dumps(text, indent=2) + "\n")
    print(f"metrics: {out / 'metrics.json'}")


if __name__ == "__main__":
    sys.exit(run_command(main))
