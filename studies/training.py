"""How samples improve during training.

    python studies/training.py --out runs/study

Trains a configuration, and measures the averaged weights after some of the epochs. For
flowers32.yaml this takes hours on two cores; after an interruption it continues where
it was. Not for configurations with `learning_rate_decay`: each part of the training
would end at a rate of 0. Writes, under the configuration's name, a table, its curves,
and pictures from the same noise after each of these epochs.
"""

import shutil
from pathlib import Path

import numpy as np
from commands import (
    FEATURES,
    ROOT,
    measure,
    results_folder,
    save_figure,
    study_parser,
    train,
    write_table,
)
from matplotlib.figure import Figure
from PIL import Image

from ddpm_keras.data.pixels import make_grid, save_png
from ddpm_keras.files import written_whole
from ddpm_keras.runs.log import read_log

MEASURES = (
    *("--metrics", "kid,prdc,bpd,nn", "--features", FEATURES),
    *("--num-images", 256, "--bpd-images", 4),
    *("--sampler", "dpmpp", "--steps", 20, "--eta", 1),
)
PICTURES = 10  # in each row


def main():
    parser = study_parser(__doc__)
    config = ROOT / "configs" / "flowers32.yaml"
    parser.add_argument("--config", type=Path, default=config)
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 10, 30, 100, 160])
    args = parser.parse_args()

    name = args.config.stem
    run = args.out / "run"
    rows = []
    for epoch in args.epochs:
        weights = args.out / f"epoch-{epoch:04}.safetensors"
        if not weights.is_file():
            train(run, "--config", args.config, "--num_epochs", epoch)
            with written_whole(weights) as temporary:
                shutil.copy(run / "weights.safetensors", temporary)
        results, _ = measure(weights, weights.with_suffix(""), *MEASURES)
        rows.append({"epoch": epoch} | results)
    epochs, curves = read_log(run / "log.csv")
    for row in rows:
        place = epochs.tolist().index(row["epoch"])
        row |= {loss: float(curves[loss][place]) for loss in curves if "loss" in loss}
    folder = results_folder(args)
    write_table(folder / f"{name}_training.csv", rows)
    plot(rows, folder / f"{name}_training.png")
    show(args.out, args.epochs, folder / f"{name}_epochs.png")


def plot(rows, path):
    """Plot each measure over the epochs."""
    panels = {
        "val_loss" if "val_loss" in rows[0] else "loss": "loss",
        "kid": "KID",
        "coverage": "coverage",
        "bpd posterior": "bits per dimension",
    }
    figure = Figure(figsize=(10, 5), layout="constrained")
    epochs = [row["epoch"] for row in rows]
    for axes, (name, label) in zip(
        figure.subplots(2, 2).flat, panels.items(), strict=True
    ):
        values = [row[name] for row in rows]
        errors = [row.get(f"{name} error", 0) for row in rows]
        axes.errorbar(epochs, values, errors, marker=".", capsize=3)
        axes.set(xscale="log", yscale="log", xlabel="epoch", title=label)
        axes.grid(alpha=0.3, which="both")
    save_figure(figure, path)


def show(out, epochs, path, scale=2):
    """Draw the first samples after each of the epochs, a row for each."""
    images = []
    for epoch in epochs:
        stored = sorted((out / f"epoch-{epoch:04}" / "samples").glob("*.npz"))[0]
        with np.load(stored) as file:
            images.append(file["images"][:PICTURES])
    grid = Image.fromarray(make_grid(np.concatenate(images), PICTURES))
    larger = grid.resize((scale * grid.width, scale * grid.height), Image.NEAREST)
    save_png(path, np.asarray(larger))
    print(f"figure: {path}")


if __name__ == "__main__":
    main()
