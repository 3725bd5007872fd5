"""A server on loopback that answers reads of S3, as late and as slowly as a bucket far away.

The server of moto copies the whole object for each request; this one reads what was asked for.
"""

import email.utils
import multiprocessing
import re
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PIECE = 64 << 10
"""Bytes that are sent at once."""


class Handler(BaseHTTPRequestHandler):
    """Answers HEAD and GET of objects, the files of a folder, also of a range."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    folder: Path
    latency: float
    rate: float

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body):
        """Wait, and send head and body."""
        time.sleep(self.latency)
        path = self.folder / self.path.partition("?")[0].strip("/").partition("/")[2]
        if not path.is_file():
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        size, written = path.stat().st_size, path.stat().st_mtime
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, end = (int(asked[1]), min(int(asked[2]) + 1, size)) if asked else (0, size)
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.send_header("Content-Length", str(end - start))
        self.send_header("ETag", f'"{size}-{int(written)}"')
        self.send_header("Last-Modified", email.utils.formatdate(written, usegmt=True))
        self.end_headers()
        if body:
            self.send(path, start, end)

    def send(self, path, start, end):
        """Send a part of a file, no faster than one stream of a bucket."""
        began, sent = time.perf_counter(), 0
        with path.open("rb") as file:
            file.seek(start)
            while start + sent < end:
                data = file.read(min(PIECE, end - start - sent))
                self.wfile.write(data)
                sent += len(data)
                ahead = sent / self.rate - (time.perf_counter() - began)
                if ahead > 0:
                    time.sleep(ahead)

    def log_message(self, *args):
        """Say nothing."""


def serve(folder, latency, rate, port):
    """Serve a folder until the process is ended."""
    kind = type("Bucket", (Handler,), {"folder": folder, "latency": latency, "rate": rate})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    server.daemon_threads = True
    port.send(server.server_port)
    server.serve_forever()


@contextmanager
def bucket(folder, *, latency=0.0, rate=80e6):
    """Serve the files of a folder as objects of any bucket; give the variables for clients.

    Parameters
    ----------
    folder : Path
    latency : float
        Seconds before the first byte of an answer.
    rate : float
        Bytes per second of one stream.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=serve, args=(folder, latency, rate, there), daemon=True)
    process.start()
    try:
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{here.recv()}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }
    finally:
        process.terminate()
        process.join()
