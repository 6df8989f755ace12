"""Convert weights of Keras 2, Keras 3 or this package to .safetensors or .weights.h5.

Examples:
    ddpm-convert --weights checkpoints/diffusion_model_checkpoint \\
        --config flowers64 --out flowers64.safetensors
    ddpm-convert --weights runs/demo/001 --out demo.weights.h5
    ddpm-convert --weights runs/demo/001 --dtype float16 --out demo.safetensors
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ddpm_keras.cli.command import command, import_keras, parse_args
from ddpm_keras.cli.flags import weights_and_config, weights_parser
from ddpm_keras.errors import InputError
from ddpm_keras.files import expand_home


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_flags(argv)
    out = Path(args.out)
    weights, config = weights_and_config(args)

    import_keras()
    from ddpm_keras.weights import load_network, read_training_images, save_weights
    from ddpm_keras.weights.keras3 import save_hdf5

    network = load_network(weights, config)
    images = read_training_images(weights)
    try:
        if out.suffix == ".safetensors":
            save_weights(network, out, config, args.dtype, images)
        else:
            save_hdf5(network, out)
    except OSError as error:
        raise InputError(
            f"--out: cannot write to {out} ({error.strerror or error}); name a file in "
            "a folder with enough space that you may write to"
        ) from error
    print(f"weights: {out} ({network.count_params():,} parameters)")


def parse_flags(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse and check the flags."""
    parser = weights_parser(__doc__)
    add = parser.add_argument
    text = "FILE.safetensors, which includes the configuration, or FILE.weights.h5"
    add("--out", metavar="FILE", type=expand_home, required=True, help=text)
    names = ("float32", "float16")
    text = "numbers of a .safetensors file; float16 halves it (default: float32)"
    add("--dtype", choices=names, default="float32", help=text)
    add("--force", action="store_true", help="overwrite an existing --out")
    args = parse_args(parser, argv)
    out = Path(args.out)
    if not out.name.endswith((".safetensors", ".weights.h5")):
        raise InputError(f"--out: {out} must end in .safetensors or .weights.h5")
    if args.dtype != "float32" and out.suffix != ".safetensors":
        raise InputError(f"--dtype: {args.dtype} is for .safetensors; --out is {out}")
    if out.exists() and not args.force:
        raise InputError(f"--out: {out} exists; name another file or use --force")
    return args
