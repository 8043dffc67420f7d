"""An S3 server that lists a bucket with any number of images, in pages. Of each image, any bytes can be read."""

from __future__ import annotations

import argparse
import html
import http.server
import re
import sys
import threading
import urllib.parse

FOLDER = 1000  # files per folder
PAGE = 1000  # keys per page, as in S3
_XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"
_OBJECT = (
    "<Contents><Key>{key}</Key><LastModified>2025-05-17T10:20:30.000Z</LastModified>"
    "<ETag>{etag}</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
)


def key_of(number: int) -> str:
    """Return the key of an image; keys sort in the order of their numbers."""
    return f"camera/{number // FOLDER:06d}/IMG_{number:09d}.jpg"


def etag_of(number: int) -> str:
    """Return the ETag of an image, that of an upload in one part, so that it is no MD5 of the bytes."""
    return f'"{number:032x}-1"'


def size_of(number: int) -> int:
    """Return the size of an image in bytes."""
    return 100_000 + number


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
        if not path.endswith(".jpg"):
            return self._answer(b"", 404)
        number = int(path[-13:-4])
        size, asked = size_of(number), re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, last = (int(asked[1]), min(int(asked[2]), size - 1)) if asked else (0, size - 1)
        ranged = {"Content-Range": f"bytes {first}-{last}/{size}"} if asked else {}
        return self._answer(b"\xff" * (last - first + 1), 206 if asked else 200, ETag=etag_of(number), **ranged)

    def _answer(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Type": "application/xml", "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def _object(number: int) -> str:
    return _OBJECT.format(key=key_of(number), etag=html.escape(etag_of(number)), size=size_of(number))


def _page(first: int, objects: int) -> bytes:
    end = min(objects, first + PAGE)
    found = [_object(number) for number in range(first, end)]
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
