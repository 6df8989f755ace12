"""Things to try: one change of the configuration at a time.

    python studies/variations.py --out runs/variations

Trains the network of configs/flowers32.yaml on images of 16x16 for 30 epochs with an
EMA of 0.99, unchanged and with each change, and measures the averaged weights. Takes an
hour on two cores; after an interruption it continues where it was. Writes
variations.csv.
"""

from commands import (
    FEATURES,
    ROOT,
    measure,
    results_folder,
    study_parser,
    train,
    write_table,
)

COMMON = (
    *("--config", ROOT / "configs/flowers32.yaml"),
    *("--img_size", 16, "--num_epochs", 30, "--sample_every", 0),
    # After so few steps at 0.999, a quarter of the average would still be the initial
    # weights, and hide the effect of the other changes.
    *("--ema", 0.99),
)
CHANGES = {
    "nothing": (),
    "another seed": ("--seed", 1),
    "cosine schedule": ("--schedule", "cosine"),
    "wider blocks": ("--first_conv_channels", 48),
    "mean absolute error": ("--loss", "mean_absolute_error"),
    "Huber loss": ("--loss", "huber"),
    "dropout": ("--dropout", 0.1),
    "slower EMA": ("--ema", 0.999),
    # 0.55 holds out half of the usual training images too; twice the epochs make the
    # same number of steps.
    "half the images": ("--validation_fraction", 0.55, "--num_epochs", 61),
}
MEASURES = (
    *("--metrics", "kid,swd,bpd", "--features", FEATURES),
    *("--num-images", 512, "--bpd-images", 16),
    *("--sampler", "dpmpp", "--steps", 20, "--eta", 1),
)


def main():
    args = study_parser(__doc__).parse_args()
    rows = []
    for change, flags in CHANGES.items():
        run = args.out / change.replace(" ", "_")
        train(run, *COMMON, *flags)
        # All runs are compared with the real images of the unchanged one, except that
        # of another seed, which holds out others and has trained on some of these.
        same = () if "--seed" in flags else ("--data", args.out / "nothing")
        results, reference = measure(run, run / "evaluation", *MEASURES, *same)
        changed = " ".join(map(str, flags))
        rows.append({"change": change, "flags": changed} | results)
    rows.append({"change": "real images"} | reference)
    write_table(results_folder(args) / "variations.csv", rows)


if __name__ == "__main__":
    main()
