"""Time training and sampling of `configs/flowers64.yaml` on a GPU.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --quick

For each backend that is installed, and in float32, TF32 and bfloat16: a training step,
16 images by 1,000 steps of ddpm and by 20 of dpmpp, and the most memory held at once.
Each is measured in a process of its own, after a round that compiles. TF32 is float32
whose products are rounded to 10 bits on NVIDIA's GPUs. `--quick` tries the script on
any processor: a far smaller network and fewer steps, whose numbers mean nothing.
"""

import argparse
import importlib.util
import subprocess
from pathlib import Path

from cost import measure
from machine import processor

CONFIG = Path(__file__).parents[1] / "configs" / "flowers64.yaml"
BACKENDS = ("tensorflow", "jax")
# Keys of the configuration, and what TensorFlow's libraries and JAX read.
PRECISIONS = {
    "float32": (
        {},
        {"NVIDIA_TF32_OVERRIDE": "0", "JAX_DEFAULT_MATMUL_PRECISION": "float32"},
    ),
    "TF32": ({}, {"JAX_DEFAULT_MATMUL_PRECISION": "tensorfloat32"}),
    "bfloat16": ({"mixed_precision": "bfloat16"}, {}),
}
QUICK = {"img_size": "16", "first_conv_channels": "8", "batch_size": "4"}
SAMPLINGS = {"ddpm": 1000, "dpmpp": 20}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=BACKENDS)
    parser.add_argument(
        "--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS)
    )
    parser.add_argument("--quick", action="store_true", help="try the script")
    args = parser.parse_args()

    steps = 2 if args.quick else 20
    samplings = {"ddpm": 4, "dpmpp": 2} if args.quick else SAMPLINGS
    times = "".join(f"{f'{n:,} {name}, s':>15}" for name, n in samplings.items())
    print(f"{device()}; batches of {QUICK['batch_size'] if args.quick else 32}")
    print(f"{'':12}{'':10}{'ms/step':>9}{'images/s':>10}{'GiB':>7}{times}{'GiB':>7}")
    for backend in args.backends:
        if importlib.util.find_spec(backend) is None:
            print(f"{backend:12}is not installed")
            continue
        for precision in args.precisions:
            keys, environment = PRECISIONS[precision]
            config = {"config": str(CONFIG), **keys, **(QUICK if args.quick else {})}
            environment = {"KERAS_BACKEND": backend, **environment}
            step = measure("train", config, environment, steps=steps, rounds=3)
            rate = int(config.get("batch_size", 32)) / step["seconds"]
            samples = [
                measure(
                    "sample",
                    config,
                    environment,
                    num_images=16,
                    sampler=sampler,
                    steps=n,
                    batch_size=16,
                )
                for sampler, n in samplings.items()
            ]
            seconds = "".join(f"{s['seconds']:15.2f}" for s in samples)
            memory = max(s["memory"] for s in samples)
            print(
                f"{backend:12}{precision:10}{1000 * step['seconds']:9.1f}{rate:10.1f}"
                f"{step['memory'] / 2**30:7.2f}{seconds}{memory / 2**30:7.2f}",
                flush=True,
            )


def device():
    """Name the GPU, or else the processor."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return processor()
    return found.stdout.strip().replace("\n", ", ")


if __name__ == "__main__":
    main()
