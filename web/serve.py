"""Serve a folder to this machine only: `python web/serve.py build/web`."""

import argparse
import contextlib
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


class Handler(SimpleHTTPRequestHandler):
    """Files, with the headers that let WebAssembly use threads."""

    extensions_map = {
        ".html": "text/html",
        ".css": "text/css",
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".json": "application/json",
        ".svg": "image/svg+xml",
        ".wasm": "application/wasm",
        "": "application/octet-stream",
    }

    def log_message(self, *args):
        """Print nothing: the browser's own tools show every request."""

    def end_headers(self):
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()


def make_server(folder, port=0):
    """Return a server of a folder at 127.0.0.1; port 0 is any free one."""
    handler = partial(Handler, directory=folder)
    return ThreadingHTTPServer(("127.0.0.1", port), handler)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("folder", help="what to serve")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000")
    args = parser.parse_args()
    try:
        server = make_server(args.folder, args.port)
    except (OSError, OverflowError) as error:  # the port is taken, or none
        reason = getattr(error, "strerror", None) or error
        sys.exit(f"error: --port {args.port}: {reason}; name another")
    with server:
        print(f"http://127.0.0.1:{server.server_port}  (Ctrl-C ends it)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
