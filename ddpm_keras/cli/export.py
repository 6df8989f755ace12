"""Export a trained network for other programs: ONNX, SavedModel, a sampler's steps.

Examples:
    ddpm-export --weights runs/demo/001 --out exported
    ddpm-export --weights weights/flowers32.safetensors --out exported \\
        --sampler dpmpp --eta 1 --steps 10 20 50
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from ddpm_keras.cli.command import Listed, command, import_keras, parse_args
from ddpm_keras.cli.flags import (
    add_sampler,
    add_shares,
    steps_from,
    weights_and_config,
    weights_parser,
    whole_number,
)
from ddpm_keras.errors import InputError
from ddpm_keras.files import can_be_written, expand_home, written_whole
from ddpm_keras.samplers import default_steps_text


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_flags(argv)
    out = Path(args.out)
    weights, config = weights_and_config(args)
    chosen = [steps_from(args, config, steps=steps) for steps in args.steps or [None]]

    import_keras()
    from ddpm_keras import export
    from ddpm_keras.denoiser import Denoiser
    from ddpm_keras.weights import fingerprint, read_training_images
    from ddpm_keras.weights.safetensors_file import metadata_of

    export.check_possible()
    denoiser = Denoiser.from_weights(weights, config)
    images = read_training_images(weights)
    network = export.network_to_export(denoiser)
    about = export.describe(denoiser, network)
    about["weights"] = fingerprint(denoiser.network)
    with written_whole(out) as folder:
        folder.mkdir()
        model = export.make_onnx(network, about | metadata_of(config, images))
        (folder / "network.onnx").write_bytes(model.SerializeToString())
        export.store_as_float16(model)
        (folder / "network_float16.onnx").write_bytes(model.SerializeToString())
        export.save_saved_model(network, folder / "saved_model")
        options, _ = chosen[0]
        tables = [export.tabulate(denoiser.diffusion, plan) for _, plan in chosen]
        text = json.dumps(about | {"sampler": options["sampler"], "tables": tables})
        (folder / "sampler.json").write_text(text, encoding="utf-8")
    print(f"exported: {out} ({network.count_params():,} parameters)")


def parse_flags(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse and check the flags."""
    parser = weights_parser(__doc__)
    add = parser.add_argument
    text = "folder for network.onnx, network_float16.onnx, saved_model and sampler.json"
    add("--out", metavar="DIR", type=expand_home, required=True, help=text)
    add_sampler(add)
    text = "network calls per image; of several numbers, sampler.json has a table for "
    text += "each (default: the configuration's; for another sampler "
    text += f"{default_steps_text()})"
    add("--steps", metavar="LIST", action=Listed, help=text)
    add_shares(add)
    args = parse_args(parser, argv)
    try:
        words = args.steps.split(",") if args.steps else []
        args.steps = [whole_number(word) for word in words]
    except argparse.ArgumentTypeError as error:
        raise InputError(f"--steps: {error}") from error
    out = Path(args.out)
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise InputError(f"--out: {out} exists; name a new folder")
    if not can_be_written(out / "network.onnx"):
        raise InputError(f"--out: cannot write to {out}; name another place")
    return args
