"""How good a model's images are, as numbers.

On arrays alone, in float64 NumPy: `kid`, `fid`, `swd`, `prdc` (precision, recall,
density, coverage), `copies`. With a network: `features`, `bpd` (bits per dimension).
All of them together: `evaluation` and `findings`. docs/measures.md says which of them
answers which question.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Metric:
    """What a metric needs.

    Attributes:
        fewest: The fewest images of each set that it is defined for.
        of_features: Whether it compares features.
        of_real: Whether it compares samples with a set of real images.
    """

    fewest: int
    of_features: bool = False
    of_real: bool = False

    @property
    def of_samples(self) -> bool:
        return self.of_features or self.of_real


METRICS = {
    "kid": Metric(4, of_features=True, of_real=True),
    "fid": Metric(2, of_features=True, of_real=True),
    "swd": Metric(1, of_real=True),
    "prdc": Metric(6, of_features=True, of_real=True),
    "bpd": Metric(1),
    "nn": Metric(1, of_features=True),
}
