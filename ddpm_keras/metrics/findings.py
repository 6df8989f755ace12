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
    """Results and figures, and the conditions they were obtained under.

    Attributes:
        protocol: Dict, as JSON has it, of all that the results depend on.
        results: Dict from names to `Result`s.
        warnings: List of texts.
        pictures: Dict from the file name of a figure to the arguments, after its path,
            of the function that draws it.
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
            "reference: two halves of the real images; for nn, training images left "
            "out; for label accuracy, held-out images"
        )

        for name in RESULTS:  # of an earlier evaluation
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
