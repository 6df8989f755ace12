"""Measure how good a model's images are.

Examples:
    ddpm-evaluate --weights runs/demo/001 --out evaluation
    ddpm-evaluate --weights runs/demo/001 --metrics kid,prdc,nn \\
        --features random:0 --sampler dpmpp --steps 20 --num-images 512 --out fast

docs/measures.md says which measure answers which question.
"""

import dataclasses
import hashlib
from argparse import Namespace
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddpm_keras import __version__
from ddpm_keras.cli.command import command, import_keras
from ddpm_keras.cli.evaluate_flags import (
    choose_features,
    leave_out_labels,
    parse_flags,
)
from ddpm_keras.cli.flags import steps_from, weights_and_config
from ddpm_keras.cli.guidance_flags import (
    describe_guidance,
    find_guide,
    read_guidance,
)
from ddpm_keras.cli.real_images import (
    choose_data,
    count_classes,
    describe_data,
    load_real,
)
from ddpm_keras.cli.sample_store import sample_or_reuse
from ddpm_keras.cli.stamp import describe_model
from ddpm_keras.cli.writers import check_finite
from ddpm_keras.config import Config
from ddpm_keras.errors import InputError, RunError, warn
from ddpm_keras.labels import random_labels
from ddpm_keras.metrics import METRICS
from ddpm_keras.metrics.evaluation import (
    ImageSet,
    Result,
    compare,
    count_by_class,
    find_copies,
    summarise_bits,
    whiten,
)
from ddpm_keras.metrics.findings import Findings
from ddpm_keras.networks import check_memory
from ddpm_keras.runs.folder import CONFIG

if TYPE_CHECKING:
    from ddpm_keras.weights import TrainingImages


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_flags(__doc__, argv)
    weights, config = weights_and_config(args)
    leave_out_labels(args, config)
    data_config = choose_data(args, config)
    check_memory(config, min(args.batch_size, args.num_images), False, "--batch-size")

    evaluation = Evaluation(args, weights, config, data_config)
    if any(METRICS[name].of_samples for name in args.metrics):
        samples = evaluation.make_samples()
        if any(METRICS[name].of_real for name in args.metrics):
            evaluation.compare_with_real(samples)
        if "nn" in args.metrics:
            evaluation.search_copies(samples)
        if "labels" in args.metrics:
            evaluation.classify(samples)
    if "bpd" in args.metrics:
        evaluation.measure_bits()
    out = Path(args.out)
    evaluation.findings.write(out)
    from ddpm_keras.runs.report import write_report

    for folder in (out, out.parent):
        if (folder / CONFIG).is_file():  # a run's folder: its report shows the metrics
            try:
                print(f"report: {write_report(folder)}")
            except InputError as error:  # not a run after all; the metrics are written
                warn(f"no report: {error}")


class Evaluation:
    """The parts of an evaluation and what they share.

    Everything that may be wrong or missing is loaded at the start, before the long
    work.
    """

    def __init__(
        self, args: Namespace, weights: Path, config: Config, data_config: Config
    ) -> None:
        self.args = args
        self.metrics = metrics = args.metrics
        self.mirrors = data_config.random_flip
        self.options, self.plan = steps_from(args, config)
        self.guidance = read_guidance(args, config)
        found_guide = find_guide(args, config)

        import_keras()
        from ddpm_keras.denoiser import Denoiser
        from ddpm_keras.metrics.features import load_extractor
        from ddpm_keras.weights import read_training_images

        self.denoiser = Denoiser.from_weights(weights, config)
        self.model = describe_model(self.denoiser)
        self.guide = Denoiser.from_weights(*found_guide) if found_guide else None
        self.training, self.held_out = load_real(args, data_config, config.class_names)
        seeds = range(args.seed, args.seed + args.num_images)
        self.labels, self.frequencies = None, None
        if config.class_names:
            self.frequencies = count_classes(args, self.training)
            self.labels = random_labels(seeds, self.frequencies)
        self.extractor = None
        if any(METRICS[name].of_features for name in metrics):
            name, remark = choose_features(args)
            try:
                self.extractor = load_extractor(name, self.denoiser.image_shape)
            except (InputError, RunError) as error:
                raise type(error)(f"--features: {error}") from error
            print(f"extractor: {self.extractor.name}{remark}")
        self.findings = Findings(
            protocol={
                "package": f"ddpm_keras {__version__}",
                "backend": self.model["backend"],
                "weights": str(weights),
                "weights_sha256": self.model["weights"],
                "seed": args.seed,
                "data": describe_data(data_config, self.training, self.held_out),
                "extractor": self.extractor and self.extractor.name,
            }
        )
        self.compare_training_images(read_training_images(weights))

    def compare_training_images(self, trained_on: "TrainingImages | None") -> None:
        """Warn when the weights were trained on other images than these, or may be."""
        if trained_on is None:
            self.findings.warn(
                "data: the weights do not say which images they were trained on; "
                "held-out images may be among them, and copies of others are not found"
            )
            return
        self.findings.protocol["trained_on"] = trained_on._asdict()
        number = len(self.training)
        if trained_on.digest != self.training.digest(np.arange(number)):
            self.findings.warn(
                f"data: the weights were trained on {trained_on.number} other images "
                f"than these {number}; held-out images may be among them, and copies "
                "of them are not found; name them with --data"
            )

    def image_set(self, title: str, pixels: np.ndarray) -> ImageSet:
        """Return images, with their features if there is an extractor."""
        pixels = np.asarray(pixels)
        if self.extractor is None:
            return ImageSet(pixels)
        print(f"features: {title}")
        return ImageSet(pixels, self.extractor(pixels, verbose=1))

    def make_samples(self) -> ImageSet:
        """Return `--num-images` samples, reusing those in the folder."""
        from ddpm_keras.sampling import ReverseProcess

        args, protocol = self.args, self.findings.protocol
        how = {
            "sampler": self.options["sampler"],
            "steps": len(self.plan),
            "eta": self.options.get("eta", 0.0),
            "eta_until": self.options.get("eta_until", 0.0),
            "until": self.options.get("until", 0.0),
            **describe_guidance(args, self.guide and self.guide.network),
        }
        if self.labels is not None:
            digest = hashlib.sha256(self.frequencies.tobytes()).hexdigest()
            how["labels"] = f"by their frequency in the data, {digest[:16]}"
        stamp = how | self.model
        print(f"samples: {args.num_images} by {how['sampler']}, {how['steps']} steps")
        folder = Path(args.out) / "samples"
        pixels, reused = sample_or_reuse(
            folder,
            ReverseProcess(self.denoiser, guide=self.guide),
            self.plan,
            range(args.seed, args.seed + args.num_images),
            stamp,
            args.force,
            self.labels,
            batch_size=args.batch_size,
            watch=lambda batch, t, x, x_start: check_finite(x, args.weights),
            **self.guidance,
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

    def compare_with_real(self, samples: ImageSet) -> None:
        """Measure kid, fid and prdc of samples and of halves of real images."""
        against = self.args.against
        source = self.training if against == "training" else self.held_out
        chosen = self.shuffled(len(source))[: 2 * len(samples)]
        if self.metrics & {"nn", "labels"} and against == "training":
            real = self.training_set.pick(chosen)  # whose features they need, too
        else:
            real = self.image_set(f"{against} images", source.pixels[chosen])
        if self.extractor.whitens:
            real, samples = whiten(real, real, samples)
        self.findings.results |= compare(self.metrics, real, samples)
        self.findings.protocol["real_images"] = {
            "split": against,
            "number": len(real),
            "number_for_prdc": min(len(real), len(samples)),
            "number_in_each_half": len(real) // 2,
        }
        if "fid" in self.metrics:
            self.report_bias(len(real), len(samples), real.features.shape[1])

    @cached_property
    def training_set(self) -> ImageSet:
        return self.image_set("training images", self.training.pixels)

    def shuffled(self, count: int) -> np.ndarray:
        """Return the indices of `count` images in random order, the same every time."""
        return np.random.default_rng(self.args.seed).permutation(count)

    def report_bias(self, num_real: int, num_samples: int, dims: int) -> None:
        """Report the error of an FID of so few images."""
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

    def search_copies(self, samples: ImageSet) -> None:
        """Find the training images nearest to the samples."""
        training, mirrored = self.training_set, None
        if self.mirrors:
            mirrored = self.image_set(
                "mirrored training images", training.images[:, :, ::-1]
            )
        if self.extractor.whitens:
            sets = [training, samples] + ([mirrored] if mirrored else [])
            training, samples, *rest = whiten(training, *sets)
            mirrored = rest[0] if rest else None
        results, pairs = find_copies(training, samples, mirrored, self.args.seed)
        self.findings.results |= results
        self.findings.protocol["nn"] = {
            "training_images": len(training),
            "mirrored_too": mirrored is not None,
        }
        if self.labels is not None:
            names = self.denoiser.config.class_names
            counts = count_by_class(pairs, self.labels, names)
            self.findings.protocol["nn"]["by_class"] = counts
        pictures = (samples.images, training.images, pairs)
        self.findings.pictures["closest_pairs.png"] = pictures

    def classify(self, samples: ImageSet) -> None:
        """Measure how many samples, and held-out images, show what their label says."""
        from ddpm_keras.metrics.label_accuracy import label_accuracy

        held_out, reference = self.held_out, []
        known = self.training.labels >= 0
        if len(held_out) and (held_out.labels >= 0).any():
            of_known = held_out.take(held_out.labels >= 0)
            real = self.image_set("held-out images", of_known.pixels)
            reference = [real.features, of_known.labels]
        found = label_accuracy(
            self.training_set.features[known],
            self.training.labels[known],
            samples.features,
            self.labels,
            *reference,
        )
        self.findings.results["label accuracy"] = Result(*dataclasses.astuple(found))

    def measure_bits(self) -> None:
        """Measure bits per dimension, of held-out images if there are any."""
        from ddpm_keras.metrics.bpd import VariationalBound

        args, findings = self.args, self.findings
        images, split = self.held_out, "held-out"
        if not len(images):
            images, split = self.training, "training"
            findings.warn(
                "bpd: of training images, for none was held out; a model that "
                "memorises has a low one"
            )
        images = images.take(self.shuffled(len(images))[: args.bpd_images])
        pixels = np.asarray(images.pixels)
        print(f"bits per dimension: {len(pixels)} {split} images")
        bound = VariationalBound(self.denoiser)
        likelihood = bound.measure(
            pixels, args.seed, args.batch_size, labels=images.labels
        )
        findings.results |= summarise_bits(likelihood)
        findings.protocol["bpd"] = {"split": split, "number": len(pixels)}
        findings.pictures["bpd.png"] = (likelihood,)
