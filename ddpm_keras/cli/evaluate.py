"""Measure how good a model's images are.

Examples:
    ddpm-evaluate --weights runs/demo/001 --out evaluation
    ddpm-evaluate --weights runs/demo/001 --metrics kid,swd,nn \\
        --features random:0 --sampler dpmpp --steps 20 --num-images 512 --out fast

docs/measures.md says which measure answers which question.
"""

import json
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from ddpm_keras import __version__
from ddpm_keras.cli.command import command
from ddpm_keras.cli.evaluate_flags import parse_flags
from ddpm_keras.cli.flags import weights_and_config
from ddpm_keras.cli.real_images import choose_data, describe_data, load_real
from ddpm_keras.errors import InputError, warn
from ddpm_keras.metrics import METRICS
from ddpm_keras.runs.folder import CONFIG

VERBOSE = 1 if sys.stdout.isatty() else 2  # 2: a bar only when it is full


@command
def main(argv: Sequence[str] | None = None) -> None:
    args, metrics = parse_flags(__doc__, argv)
    weights, config = weights_and_config(args)
    data_config = choose_data(args, config)

    # Loads Keras, so only now: a mistake above is reported at once, not after seconds.
    from ddpm_keras.runs.report import write_report

    evaluation = Evaluation(args, metrics, weights, config, data_config)
    if any(METRICS[name].of_samples for name in metrics):
        samples = evaluation.make_samples()
        if any(METRICS[name].of_real for name in metrics):
            evaluation.compare_with_real(samples)
        if "nn" in metrics:
            evaluation.search_copies(samples)
    if "bpd" in metrics:
        evaluation.measure_bits()
    out = Path(args.out)
    evaluation.findings.write(out)
    for folder in (out, out.parent):
        if (folder / CONFIG).is_file():  # a run's folder, whose page shows measures
            try:
                print(f"report: {write_report(folder)}")
            except InputError as error:  # or is it none? What was measured is written
                warn(f"no report: {error}")


class Evaluation:
    """The parts of an evaluation, with what they share.

    What may be wrong or missing is loaded here, before the long work.
    """

    def __init__(self, args, metrics, weights, config, data_config):
        import keras

        from ddpm_keras.denoiser import Denoiser
        from ddpm_keras.metrics.features import load_extractor
        from ddpm_keras.metrics.findings import Findings
        from ddpm_keras.samplers import choose_steps
        from ddpm_keras.weights import fingerprint

        self.args = args
        self.metrics = metrics
        self.mirrors = data_config.random_flip
        self.denoiser = Denoiser.from_weights(weights, config)
        self.options, self.plan = choose_steps(
            config,
            self.denoiser.diffusion,
            sampler=args.sampler,
            steps=args.steps,
            eta=args.eta,
        )
        self.training, self.held_out = load_real(args, metrics, data_config)
        self.extractor = None
        if any(METRICS[name].of_features for name in metrics):
            self.extractor = load_extractor(args.features, self.denoiser.image_shape)
        self.findings = Findings(
            protocol={
                "package": f"ddpm_keras {__version__}",
                "backend": keras.backend.backend(),
                "weights": str(weights),
                "weights_sha256": fingerprint(self.denoiser.network),
                "seed": args.seed,
                "data": describe_data(data_config, self.training, self.held_out),
                "extractor": self.extractor and self.extractor.name,
            }
        )

    def image_set(self, title, pixels):
        """Images with the features of the extractor, where there is one."""
        from ddpm_keras.metrics.evaluation import ImageSet

        if self.extractor is None:
            return ImageSet(pixels)
        print(f"features: {title}")
        return ImageSet(pixels, self.extractor(pixels, VERBOSE))

    def make_samples(self):
        """Sample, or take from the folder, `--num-images` images."""
        from ddpm_keras.cli.sample_store import sample_or_reuse
        from ddpm_keras.sampling import ReverseProcess

        args, protocol = self.args, self.findings.protocol
        how = {
            "sampler": self.options["sampler"],
            "steps": len(self.plan),
            "eta": self.options.get("eta", 0.0),
        }
        stamp = how | {
            "weights": protocol["weights_sha256"],
            "diffusion": json.dumps(self.denoiser.config.diffusion_arguments()),
            "backend": protocol["backend"],
        }
        print(f"samples: {args.num_images} by {how['sampler']}, {how['steps']} steps")
        folder = Path(args.out) / "samples"
        pixels, reused = sample_or_reuse(
            folder,
            ReverseProcess(self.denoiser),
            self.plan,
            range(args.seed, args.seed + args.num_images),
            stamp,
            args.force,
            batch_size=args.batch_size,
            verbose=VERBOSE,
        )
        if reused:
            print(f"reused: {reused} of them, from {folder}")
        protocol["samples"] = {
            "number": len(pixels),
            "seeds": f"{args.seed}-{args.seed + len(pixels) - 1}",
            **how,
            "spacing": "trailing",
            "clipped": True,
        }
        return self.image_set("samples", pixels)

    def compare_with_real(self, samples):
        """Measure kid, fid, swd and prdc, each beside that of halves of real images."""
        from ddpm_keras.metrics.evaluation import compare

        against = self.args.against
        source = self.training if against == "training" else self.held_out
        chosen = np.random.default_rng(self.args.seed).permutation(len(source))
        chosen = chosen[: 2 * len(samples)]
        if "nn" in self.metrics and against == "training":
            real = self.training_set.pick(chosen)  # whose features are known
        else:
            real = self.image_set(f"{against} images", source.pixels[chosen])
        self.findings.results |= compare(self.metrics, real, samples, self.args.seed)
        self.findings.protocol["real_images"] = {
            "split": against,
            "number": len(real),
            "number_for_swd_and_prdc": min(len(real), len(samples)),
            "number_in_each_half": len(real) // 2,
        }
        if "fid" in self.metrics:
            self.report_bias(len(real), len(samples), real.features.shape[1])

    @cached_property
    def training_set(self):
        return self.image_set("training images", self.training.pixels)

    def report_bias(self, num_real, num_samples, dims):
        """Report FID's own error at these numbers, as always with an FID."""
        bias = self.findings.results["fid"].reference
        text = (
            f"two halves of the real images, {num_real // 2} each, are {bias:.4g} "
            "apart; smaller values and differences mean nothing"
        )
        fewer = min(num_samples, num_real)
        if fewer <= dims:
            self.findings.warn(
                f"fid: {fewer} images are too few for {dims} features, use more or "
                f"kid; {text}"
            )
        else:
            print(f"fid: {text}")

    def search_copies(self, samples):
        """Search the training images for those nearest to samples."""
        from ddpm_keras.metrics.evaluation import find_copies

        training, mirrored = self.training_set, None
        if self.mirrors:
            mirrored = self.image_set(
                "mirrored training images", training.images[:, :, ::-1]
            )
        results, pairs = find_copies(training, samples, mirrored, self.args.seed)
        self.findings.results |= results
        self.findings.protocol["nn"] = {
            "training_images": len(training),
            "mirrored_too": mirrored is not None,
        }
        pictures = (samples.images, training.images, pairs)
        self.findings.pictures["closest_pairs.png"] = pictures

    def measure_bits(self):
        """Measure bits per dimension, of images held out where there are any."""
        from ddpm_keras.metrics.bpd import VariationalBound
        from ddpm_keras.metrics.evaluation import summarise_bits

        args, findings = self.args, self.findings
        images, split = self.held_out, "held-out"
        if not len(images):
            images, split = self.training, "training"
        order = np.random.default_rng(args.seed).permutation(len(images))
        pixels = images.pixels[order[: args.bpd_images]]
        print(f"bits per dimension: {len(pixels)} {split} images")
        likelihood = VariationalBound(self.denoiser).measure(
            pixels, args.seed, args.batch_size, VERBOSE
        )
        if split == "training":
            findings.warn(
                "bpd: of training images, for none was held out; a model that "
                "memorises has a low one"
            )
        findings.results |= summarise_bits(likelihood)
        findings.protocol["bpd"] = {"split": split, "number": len(pixels)}
        findings.pictures["bpd.png"] = (likelihood,)
