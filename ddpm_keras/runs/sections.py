"""Sections of the page of a run, each a list of lines of HTML."""

import json
import shlex
from pathlib import Path

import numpy as np

from ddpm_keras.config import Config
from ddpm_keras.labels import spread_labels
from ddpm_keras.metrics.evaluation import better, with_error
from ddpm_keras.progress import duration
from ddpm_keras.runs.page import (
    command,
    figure,
    folded,
    heading,
    paragraph,
    picture,
    table,
)

TRAINING = "training.png"
MOST_GRIDS = 12
RECENT = 10  # epochs that tell how long the next ones take
ARROWS = {"lower": " ↓", "higher": " ↑", None: ""}


def summary(config, epochs, curves, record):
    """Describe how far a run is; `record` is its `Record`, or None."""
    done = _epochs_done(epochs)
    rows = [("data", config.dataset_name)]
    if config.class_names:
        rows.append(("classes", f"{len(config.class_names):,}"))
    if record is not None:
        rows.append(("training images", f"{record.images:,}"))
    rows.append(("epochs", f"{done:,} of {config.num_epochs:,}"))
    if record is not None:
        steps = record.steps_per_epoch
        rows.append(("steps", f"{steps * done:,} of {steps * config.num_epochs:,}"))
        rows += _times(record, config.num_epochs - done)
    if "loss" in curves:
        rows.append(("loss ↓", f"{curves['loss'][-1]:.4g}"))
    for name in ("val_loss", "kid"):
        if name in curves:
            best = np.nanargmin(curves[name])
            least = f"{curves[name][best]:.4g}"
            rows.append((f"least {name} ↓", f"{least}, in epoch {epochs[best]}"))
    if record is not None:
        versions = ", ".join(f"{name} {v}" for name, v in record.versions.items())
        rows.append(("versions", versions))
    return [
        *table(rows),
        *paragraph("↓ less is better, ↑ more is better."),
    ]


def _times(record, epochs_left):
    seconds = [record.seconds[epoch] for epoch in sorted(record.seconds)]
    if not seconds:
        return []
    pace = float(np.mean(seconds[-RECENT:]))
    rows = [("duration", duration(sum(seconds))), ("seconds per epoch", f"{pace:,.1f}")]
    if epochs_left > 0:
        rows.append(("left at this pace", duration(pace * epochs_left)))
    return rows


def _epochs_done(epochs):
    return int(epochs.max()) if len(epochs) else 0


def losses(folder, config, curves):
    """Show the curves of `log.csv`."""
    if not curves:
        return []
    lines = heading("Loss")
    if "kid" in curves:
        lines = heading("Loss and KID")
        lines += paragraph(
            f"KID of {config.eval_images:,} samples, in features of "
            f"{config.eval_features}: about 0, also below, where they are like the "
            "real images."
        )
    alt = f"Curves over the epochs: {', '.join(curves)}"
    return [*lines, *picture(folder / "loss.png", alt)]


def samples(folder, config):
    """Show the last grid beside training images, and some of those before."""
    paths = (folder / "samples").glob("epoch-*.png")
    paths = sorted(paths, key=lambda path: (len(path.name), path.name))
    if not paths:
        return []
    kinds = _kinds(config)
    lines = [
        *heading("Samples"),
        *paragraph(kinds),
        '<div class="pictures">',
        *_figure(paths[-1], f"samples of {_epoch(paths[-1])}", kinds),
    ]
    if (folder / TRAINING).is_file():
        lines += _figure(folder / TRAINING, "training images", kinds)
    lines.append("</div>")
    if len(paths) == 1:
        return lines
    shown = paths
    if len(paths) > MOST_GRIDS:  # ever more rarely: grids change most at first
        places = np.geomspace(1, len(paths), MOST_GRIDS).round().astype(int)
        shown = [paths[place - 1] for place in np.unique(places)]
    lines += paragraph(
        f"Before it, {len(shown) - 1} of {len(paths) - 1} grids from the same noise. "
        "The first may show coloured noise; that is as it should be."
    )
    lines.append('<div class="pictures">')
    for path in shown[:-1]:
        lines += _figure(path, _epoch(path))
    return [*lines, "</div>"]


def _figure(path, caption, kinds=""):
    return figure(path, caption, f"{caption}. {kinds}".rstrip(". "))


def _epoch(path):
    return f"epoch {path.stem.removeprefix('epoch-').lstrip('0')}"


def _kinds(config):
    """Say which classes the grids ask for."""
    names = config.class_names
    if not names:
        return ""
    if config.num_samples % len(names) == 0:
        return f"A row for each class: {', '.join(names)}."
    labels = spread_labels(config.num_samples, len(names))
    return f"In reading order: {', '.join(names[label] for label in labels)}."


def measures(folder):
    """Show what `ddpm-evaluate` has written, and its pictures."""
    lines = []
    for path in sorted([*folder.glob("metrics.json"), *folder.glob("*/metrics.json")]):
        lines += heading(f"Measures: {path.relative_to(folder).as_posix()}")
        try:
            lines += _results(json.loads(path.read_text(encoding="utf-8")))
        except Exception:  # almost anything, such as text nested too deeply
            lines += paragraph("Not a result of ddpm-evaluate.")
            continue
        for file in sorted(path.parent.glob("*.png")):
            if file.name not in ("loss.png", TRAINING):
                lines += picture(file, file.stem.replace("_", " "))
    return lines


def _results(metrics):
    rows = []
    for name, result in metrics["results"].items():
        value = with_error(result["value"], result["error"])
        reference = with_error(result["reference"], result["reference_error"])
        rows.append((name + ARROWS[better(name)], value, reference))
    protocol = metrics["protocol"]
    lines = table(rows, ("", "model", "reference"))
    if "extractor" in protocol:
        lines += paragraph(f"Features: {protocol['extractor']}.")
    for text in metrics["warnings"]:
        lines += paragraph(f"Warning: {text}")
    return [*lines, *folded("Protocol", json.dumps(protocol, indent=2))]


def commands(folder, config, epochs):
    """Say what to type next."""
    run = shlex.quote(str(folder))
    lines = heading("Commands")
    if _epochs_done(epochs) < config.num_epochs:
        lines += command(f"ddpm-train --run-dir {run} --resume")
    lines += command(f"ddpm-sample --weights {run} --num-images 16 --out grid.png")
    names = [name for name in config.class_names or () if "," not in name]
    if names:
        asked = shlex.quote(",".join(names[:2]))
        scale = f"--guidance-scale {max(2.0, config.sample_guidance_scale):g}"
        asked = f"--labels {asked} {scale} --out kinds.png"
        lines += command(f"ddpm-sample --weights {run} {asked}")
    out = shlex.quote(str(Path(folder, "evaluation")))
    return [*lines, *command(f"ddpm-evaluate --weights {run} --out {out}")]


def configuration(config):
    """Show where a configuration differs from the recipe, and all of it."""
    recipe = Config().model_dump()
    rows = [
        (key, json.dumps(value), json.dumps(recipe[key]))
        for key, value in config.model_dump().items()
        if value != recipe[key] and key != "class_names"  # it may be a page long
    ]
    lines = heading("Configuration")
    if rows:
        lines += table(rows, ("key", "here", "in the recipe"))
    return [*lines, *folded("Every key", config.to_yaml())]
