"""Picture quality against sampling time, for each sampler.

    python studies/samplers.py --weights weights/flowers32.safetensors \\
        --out runs/samplers

Measures 128 images for each sampler and number of steps, and times 16 of them without
compilation. Takes half an hour on two cores, mostly for the 1,000 steps of ddpm. Writes
samplers.csv, whose last row is for real images, and samplers.png.
"""

import time
from pathlib import Path

import keras
from commands import (
    FEATURES,
    measure,
    results_folder,
    save_figure,
    study_parser,
    write_table,
)
from matplotlib.figure import Figure

from ddpm_keras.cli.command import set_threads
from ddpm_keras.denoiser import Denoiser
from ddpm_keras.samplers import make_steps
from ddpm_keras.sampling import ReverseProcess

MEASURES = ("--metrics", "kid,prdc", "--features", FEATURES, "--num-images", 128)
SAMPLERS = {
    "ddpm": [("ddpm", 1000, 0)],
    "ddim": [("ddim", steps, 0) for steps in (10, 20, 50, 100)],
    "dpmpp": [("dpmpp", steps, 0) for steps in (10, 20, 50)],
    "dpmpp, eta 1": [("dpmpp", 20, 1)],
}


def main():
    parser = study_parser(__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    args = parser.parse_args()

    set_threads()  # as the commands do
    denoiser = Denoiser.from_weights(args.weights)
    if denoiser.config.class_names or denoiser.config.sample_until:
        # Their samples are guided, or end early: other times, and no 1,000 steps.
        parser.error("--weights: name some without classes and sample_until")
    process = ReverseProcess(denoiser)
    rows = []
    for label, plans in SAMPLERS.items():
        for sampler, steps, eta in plans:
            flags = ["--sampler", sampler, "--steps", steps]
            options = {}
            if sampler != "ddpm":
                flags += ["--eta", eta]
                options["eta"] = eta
            out = args.out / f"{sampler}-{steps}-{eta}"
            results, reference = measure(args.weights, out, *MEASURES, *flags)
            seconds = time_sampling(process, sampler, steps, options)
            row = {"sampler": label, "steps": steps, "seconds for 16": seconds}
            rows.append(row | results)
    rows.append({"sampler": "real images"} | reference)
    folder = results_folder(args)
    write_table(folder / "samplers.csv", rows)
    plot(rows, folder / "samplers.png")


def time_sampling(process, sampler, steps, options):
    """Return the seconds for 16 images, without compilation."""
    plan = make_steps(process.diffusion, sampler, steps, **options)
    seeds = range(16)
    keras.ops.convert_to_numpy(next(process.run(plan, seeds))[1])  # compiles
    start = time.perf_counter()
    for _ in process.batches(plan, seeds, verbose=0):
        pass
    return time.perf_counter() - start


def plot(rows, path):
    """Plot KID over seconds, a line for each sampler."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for label in SAMPLERS:
        own = [row for row in rows if row["sampler"] == label]
        seconds = [row["seconds for 16"] for row in own]
        kid, errors = ([row[name] for row in own] for name in ("kid", "kid error"))
        axes.errorbar(seconds, kid, errors, marker="o", capsize=3, label=label)
        for row in own:
            axes.annotate(
                str(row["steps"]),
                (row["seconds for 16"], row["kid"]),
                xytext=(4, 4),
                textcoords="offset points",
            )
    axes.set(xscale="log", xlabel="seconds for 16 images", ylabel="KID")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    save_figure(figure, path)


if __name__ == "__main__":
    main()
