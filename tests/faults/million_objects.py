"""An S3 server that lists a bucket with any number of images, in pages. Each image is one byte."""

from __future__ import annotations

import argparse
import http.server
import sys
import threading
import urllib.parse

FOLDER = 1000  # files per folder
PAGE = 1000  # keys per page, as in S3
_XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"
_OBJECT = (
    "<Contents><Key>{key}</Key><LastModified>2025-05-17T10:20:30.000Z</LastModified>"
    "<ETag>&quot;{number:032x}&quot;</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
)


def key_of(number: int) -> str:
    """Return the key of an image; keys sort in the order of their numbers."""
    return f"camera/{number // FOLDER:06d}/IMG_{number:09d}.jpg"


class Lister(http.server.BaseHTTPRequestHandler):
    """Answers ListObjectsV2 for any bucket, with all images or for another prefix none, and the first byte of each."""

    protocol_version = "HTTP/1.1"
    objects = 0

    def do_GET(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        if parts.path.strip("/").count("/"):
            return self._answer_object(parts.path)
        query = urllib.parse.parse_qs(parts.query)
        objects = self.objects if key_of(0).startswith(query.get("prefix", [""])[0]) else 0
        return self._answer(_page(int(query.get("continuation-token", ["0"])[0]), objects))

    def do_HEAD(self) -> None:
        self._answer_object(urllib.parse.urlsplit(self.path).path)

    def _answer_object(self, path: str) -> None:
        if path.endswith(".jpg"):
            self._answer(b"\xff", ETag=f'"{int(path[-13:-4]):032x}"')
        else:
            self._answer(b"", 404)

    def _answer(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Type": "application/xml", "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def _page(first: int, objects: int) -> bytes:
    end = min(objects, first + PAGE)
    found = [_OBJECT.format(key=key_of(number), number=number, size=100_000 + number) for number in range(first, end)]
    more = f"<NextContinuationToken>{end}</NextContinuationToken>" if end < objects else ""
    head = f"<KeyCount>{len(found)}</KeyCount><IsTruncated>{str(bool(more)).lower()}</IsTruncated>{more}"
    return f'<?xml version="1.0"?><ListBucketResult xmlns="{_XMLNS}">{head}{"".join(found)}</ListBucketResult>'.encode()


def main() -> None:
    """Print the port, and serve until standard input ends."""
    parser = argparse.ArgumentParser(description="An S3 server that does nothing but list.")
    parser.add_argument("--objects", type=int, required=True)
    Lister.objects = parser.parse_args().objects
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Lister)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
