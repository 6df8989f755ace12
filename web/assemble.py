"""Build the page of a folder of weights: `make web`.

    python web/assemble.py --weights weights/flowers32.safetensors --out build/web

The page, the network in float16, and onnxruntime-web from npm, which runs it.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ddpm_keras.cli.export import main as export

HERE = Path(__file__).parent
DIST = HERE / "node_modules" / "onnxruntime-web" / "dist"
PAGE = ("*.html", "*.css", "*.js", "*.svg")
# For the processor, and for the graphics processor.
VENDORED = (
    "ort.wasm.bundle.min.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.bundle.min.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
SAMPLER = ("--sampler", "dpmpp", "--eta", "1", "--steps", "10", "20", "50")


def build(weights, out):
    """Write the page of some weights to a new folder; return an exit status."""
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "exported"
        flags = ("--weights", str(weights), "--out", str(exported), *SAMPLER)
        if status := export(flags):
            return status
        vendor = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(vendor, cwd=HERE, check=True)
        (out / "vendor").mkdir(parents=True)
        for path in (path for name in PAGE for path in HERE.glob(name)):
            shutil.copy(path, out)
        for name in VENDORED:
            shutil.copy(DIST / name, out / "vendor")
        shutil.copy(exported / "sampler.json", out)
        shutil.copy(exported / "network_float16.onnx", out / "network.onnx")
    return 0


if __name__ == "__main__":
    if not shutil.which("npm"):
        sys.exit("error: npm is missing; install Node.js, which has it")
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--weights", required=True, help="a weights file or run folder")
    parser.add_argument("--out", required=True, type=Path, help="folder, made anew")
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    sys.exit(build(args.weights, args.out))
