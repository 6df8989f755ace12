"""Which guidance draws best, judged on held-out images.

    python studies/guidance.py --weights weights/flowers64.safetensors \\
        --out runs/guidance

Measures 512 images for each scale of guidance by "no label" and, with `--guides`, by
each of these weaker weights, such as an earlier checkpoint. KID is to the held-out
images, so that a choice made by it can still be judged on others. Writes guidance.csv,
whose last row is for real images.
"""

import re
from pathlib import Path

from commands import FEATURES, measure, results_folder, study_parser, write_table

MEASURES = (
    *("--metrics", "kid", "--features", FEATURES),
    *("--against", "held-out", "--num-images", 512),
)


def main():
    parser = study_parser(__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument(
        "--scales",
        type=float,
        nargs="+",
        default=[1.0, 1.5, 2.0, 3.0, 4.0],
        help="default: 1 1.5 2 3 4",
    )
    parser.add_argument("--guides", type=Path, nargs="*", default=[])
    text = "as of evaluate.py; default: that of the weights"
    parser.add_argument("--until", type=float, help=text)
    args = parser.parse_args()

    rows = []
    for guide in [None, *args.guides]:
        name = str(guide or "no label")
        for scale in args.scales:
            if guide and scale == 1:  # where no guide is called
                continue
            flags = ["--guidance-scale", scale]
            if guide:
                flags += ["--guide", guide]
            if args.until is not None:
                flags += ["--until", args.until]
            out = args.out / re.sub(r"\W+", "-", f"{name} {scale:g}")
            results, reference = measure(args.weights, out, *MEASURES, *flags)
            rows.append({"guide": name, "scale": scale} | results)
    rows.append({"guide": "real images"} | reference)
    write_table(results_folder(args) / "guidance.csv", rows)


if __name__ == "__main__":
    main()
