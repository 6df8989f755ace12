"""Measure how good a model's images are.

Examples:
    python scripts/evaluate.py --weights runs/demo/001 --out evaluation
    python scripts/evaluate.py --weights runs/demo/001 --metrics kid,swd,nn \\
        --features random:0 --sampler dpmpp --steps 20 --num-images 512 --out fast

docs/measures.md says which measure answers which question.
"""

import json
import sys
from pathlib import Path

import numpy as np

from ddpm_keras import __version__
from ddpm_keras.errors import InputError, run_command, warn
from ddpm_keras.measures.evaluate_flags import (
    OF_FEATURES,
    OF_REAL,
    OF_SAMPLES,
    parse_flags,
)
from ddpm_keras.measures.real_images import choose_data, describe_data, load_real
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
    from ddpm_keras.measures.findings import Findings
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

    findings = Findings(
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
            "weights": findings.protocol["weights_sha256"],
            "diffusion": json.dumps(config.diffusion_arguments()),
            "backend": findings.protocol["backend"],
        }
        images = make_samples(args, network, diffusion, plan, stamp, findings)
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
            compare_with_real(args, metrics, real, samples, findings)
        if "nn" in metrics:
            mirrored = None
            if data_config.random_flip:
                mirrored = image_set("mirrored training images", training[:, :, ::-1])
            search_copies(args, seen, mirrored, samples, findings)
    if "bpd" in metrics:
        measure_bits(args, network, diffusion, training, held_out, findings)
    out = Path(args.out)
    findings.write(out)
    for folder in (out, out.parent):
        if (folder / CONFIG).is_file():  # a run's folder, whose page shows measures
            try:
                print(f"report: {write_report(folder)}")
            except InputError as error:  # or is it none? What was measured is written
                warn(f"no report: {error}")


def make_samples(args, network, diffusion, plan, stamp, findings):
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
    findings.protocol["samples"] = {
        "number": len(images),
        "seeds": f"{args.seed}-{args.seed + len(images) - 1}",
        "sampler": stamp["sampler"],
        "steps": stamp["steps"],
        "eta": stamp["eta"],
        "spacing": "trailing",
        "clipped": True,
    }
    return images


def compare_with_real(args, metrics, real, samples, findings):
    """kid, fid, swd and prdc, each beside what it is for halves of the real images."""
    from ddpm_keras.measures.evaluation import compare

    findings.results |= compare(metrics, real, samples, args.seed)
    findings.protocol["real_images"] = {
        "split": args.against,
        "number": len(real),
        "number_for_swd_and_prdc": min(len(real), len(samples)),
        "number_in_each_half": len(real) // 2,
    }
    if "fid" in metrics:
        tell_bias(len(real), len(samples), real.features.shape[1], findings)


def tell_bias(num_real, num_samples, dims, findings):
    """FID's own error at these numbers, which is always told."""
    bias = findings.results["fid"].reference
    told = (
        f"two halves of the real images, {num_real // 2} each, are {bias:.4g} apart; "
        "smaller values and differences mean nothing"
    )
    fewer = min(num_samples, num_real)
    if fewer <= dims:
        findings.warn(
            f"fid: {fewer} images are too few for {dims} features, use more or kid; "
            f"{told}"
        )
    else:
        print(f"fid: {told}")


def search_copies(args, training, mirrored, samples, findings):
    """The training images nearest to samples."""
    from ddpm_keras.measures.evaluation import find_copies

    results, pairs = find_copies(training, samples, mirrored, args.seed)
    findings.results |= results
    findings.protocol["nn"] = {
        "training_images": len(training),
        "mirrored_too": mirrored is not None,
    }
    findings.pictures["closest_pairs.png"] = (samples.images, training.images, pairs)


def measure_bits(args, network, diffusion, training, held_out, findings):
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
        findings.warn(
            "bpd: of training images, for none was held out; a model that memorises "
            "has a low one"
        )
    findings.results |= summarise_bits(likelihood)
    findings.protocol["bpd"] = {"split": split, "number": len(images)}
    findings.pictures["bpd.png"] = (likelihood,)


if __name__ == "__main__":
    sys.exit(run_command(main))
