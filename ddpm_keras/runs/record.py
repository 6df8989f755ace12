"""`run.json`: what the report of a run says and none of its other files."""

import dataclasses
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Self

import keras

import ddpm_keras
from ddpm_keras.files import written_whole

RECORD = "run.json"


@dataclasses.dataclass
class Record:
    """Facts about a training.

    Attributes:
        images: Number of images to train on.
        steps_per_epoch: Steps of a whole epoch.
        versions: Of this package, Python, Keras and its backend, by name.
        seconds: How long each epoch took, with its grid and measures, by its number
            from 1. In a resumed epoch, the steps before the stop count at the pace of
            those after it, if these are two or more.
    """

    images: int
    steps_per_epoch: int
    versions: dict[str, str]
    seconds: dict[int, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def begin(cls, folder: Path, images: int, steps_per_epoch: int) -> Self:
        """Return the record of a run that begins, or goes on, with these versions."""
        before = cls.read(folder)
        versions = {"ddpm_keras": ddpm_keras.__version__}
        versions["Python"] = platform.python_version()
        for package in ("keras", keras.backend.backend()):
            versions[package] = version(package)
        seconds = before.seconds if before else {}
        return cls(images, steps_per_epoch, versions, seconds)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read the record of a run; None where there is none that can be read."""
        try:
            facts = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            return cls(
                int(facts["images"]),
                int(facts["steps_per_epoch"]),
                {str(k): str(v) for k, v in facts["versions"].items()},
                {int(k): float(v) for k, v in facts["seconds"].items()},
            )
        except Exception:  # earlier versions had none; it may hold almost anything
            return None

    def add(self, epoch: int, seconds: float, steps: int, stepping: float) -> None:
        """Add an epoch; forget later ones.

        Args:
            epoch: Its number, from 1.
            seconds: How long it took, or what was left of it when it was resumed.
            steps: The steps of that time.
            stepping: How much of that time went by after the first of those steps, in
                which the step is compiled, and until the last. A single step has no
                pace: those before it count nothing.
        """
        kept = {n: time for n, time in self.seconds.items() if n < epoch}
        pace = stepping / (steps - 1) if steps > 1 else 0.0
        before = (self.steps_per_epoch - steps) * pace
        self.seconds = {**kept, epoch: round(before + seconds, 3)}

    def write(self, folder: Path) -> None:
        """Write the record to the folder of its run."""
        with written_whole(folder / RECORD) as temporary:
            text = json.dumps(dataclasses.asdict(self), indent=2)
            temporary.write_text(text + "\n", encoding="utf-8")
