"""Measures of a model's images and of its likelihood.

`kid`, `fid`, `prdc` (precision, recall, density, coverage), `copies` and
`label_accuracy` work on arrays, in float64 NumPy. `features` and `bpd` (bits per
dimension) call a network. `evaluation` and `findings` bring them together.
docs/measures.md says which measure answers which question.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Metric:
    """What a metric needs.

    Attributes:
        fewest: Fewest samples for which it is defined, and half of the fewest real
            images, if `of_real`.
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
    "prdc": Metric(6, of_features=True, of_real=True),
    "bpd": Metric(1),
    "nn": Metric(1, of_features=True),
    "labels": Metric(1, of_features=True),
}
