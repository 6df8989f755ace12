"""The findings of an evaluation: printed, and written to its folder."""

import dataclasses
import json

from ddpm_keras.errors import warn
from ddpm_keras.files import written_whole
from ddpm_keras.metrics.evaluation import with_error
from ddpm_keras.metrics.figures import save_bits_curve, save_closest_pairs

# Files in the folder of an evaluation, besides the samples.
RESULTS = ("metrics.json", "bpd.png", "closest_pairs.png")


@dataclasses.dataclass
class Findings:
    """Numbers and pictures, and how they came about.

    Attributes:
        protocol: All that the numbers depend on, plain JSON.
        results: `Result` by name.
        warnings: Texts.
        pictures: What the function that draws a file takes, by the file's name.
    """

    protocol: dict
    results: dict = dataclasses.field(default_factory=dict)
    warnings: list = dataclasses.field(default_factory=list)
    pictures: dict = dataclasses.field(default_factory=dict)

    def warn(self, text):
        """Keep a warning, and print it."""
        self.warnings.append(text)
        warn(text)

    def write(self, out):
        """Print the table, and write `metrics.json` and the figures into a folder."""
        width = max(map(len, self.results))
        print(f"\n{'':{width}}  {'model':>20}  {'reference':>20}")
        for name, result in self.results.items():
            value = with_error(result.value, result.error)
            reference = with_error(result.reference, result.reference_error)
            print(f"{name:{width}}  {value:>20}  {reference:>20}")
        print(
            "reference: two halves of the real images; for nn, training images left out"
        )

        for name in RESULTS:  # of an evaluation that this one writes over
            (out / name).unlink(missing_ok=True)
        savers = {"bpd.png": save_bits_curve, "closest_pairs.png": save_closest_pairs}
        for name, content in self.pictures.items():
            savers[name](out / name, *content)
            print(f"figure: {out / name}")
        text = {
            "results": {k: dataclasses.asdict(v) for k, v in self.results.items()},
            "warnings": self.warnings,
            "protocol": self.protocol,
        }
        with written_whole(out / "metrics.json") as file:
            file.write_text(json.dumps(text, indent=2) + "\n")
        print(f"metrics: {out / 'metrics.json'}")
