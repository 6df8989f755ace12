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
    """Write the page of some weights to a folder; return an exit status.

    A page that is there is replaced when the new one is complete; anything else is not.
    """
    if out.exists() and not (out / "sampler.json").is_file():
        print(f"error: --out {out}: it is no page; name a new folder", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "exported"
        flags = ("--weights", str(weights), "--out", str(exported), *SAMPLER)
        if status := export(flags):
            return status
        vendor = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(vendor, cwd=HERE, check=True)
        page = Path(folder) / "page"
        (page / "vendor").mkdir(parents=True)
        for path in (path for name in PAGE for path in HERE.glob(name)):
            shutil.copy(path, page)
        for name in VENDORED:
            shutil.copy(DIST / name, page / "vendor")
        shutil.copy(exported / "sampler.json", page)
        shutil.copy(exported / "network_float16.onnx", page / "network.onnx")
        shutil.rmtree(out, ignore_errors=True)
        shutil.move(page, out)
    return 0


if __name__ == "__main__":
    if not shutil.which("npm"):
        sys.exit("error: npm is missing; install Node.js, which has it")
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--weights", required=True, help="a weights file or run folder")
    parser.add_argument("--out", required=True, type=Path, help="folder of the page")
    args = parser.parse_args()
    sys.exit(build(args.weights, args.out))
