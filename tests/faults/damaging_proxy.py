"""A proxy in front of an S3 server that damages what it passes on, and damages to choose from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from tests.faults.faulty_proxy import Answer, Connection, Proxy, Request

Damage: TypeAlias = Callable[[Answer], Answer]

PAGE = Answer(status=200, headers={"Content-Type": "text/html"}, body=b"<html><body>Please log in</body></html>")


class DamagingProxy(Proxy):
    """Damages the answers to the next `left` requests of a method, or any, whose path has an ending, or one of several.

    `seen` counts them, damaged or not. `trickles`: it sends their bodies byte by byte instead.
    """

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.damage: Damage = lambda answer: answer
        self.method, self.left, self.trickles, self.seen = "GET", 0, False, 0
        self.ending: str | tuple[str, ...] = ""

    def start(self, damage: Damage, *, left: int, method: str = "GET", ending: str | tuple[str, ...] = "") -> None:
        """Damage the next answers."""
        self.damage, self.left, self.method, self.ending, self.seen = damage, left, method, ending, 0

    def handle(self, request: Request, connection: Connection) -> None:
        answer = self.forward(request)
        if self.method in (request.method, "any") and request.path.endswith(self.ending):
            self.seen += 1
            self.left -= 1
            if self.left >= 0 and self.trickles:
                connection.trickle(answer, seconds=0.1)
                return
            answer = self.damage(answer) if self.left >= 0 else answer
        connection.answer(answer)


def login_page(_: Answer) -> Answer:
    """Return the page of a proxy that wants users to log in."""
    return PAGE


def flipped(answer: Answer) -> Answer:
    """Flip a bit of the body."""
    body = bytearray(answer.body)
    body[len(body) // 2] ^= 1
    return replace(answer, body=bytes(body))


def cut(answer: Answer) -> Answer:
    """Cut a body, and the length that is said of it."""
    headers = {name: value for name, value in answer.headers.items() if name.lower() != "content-length"}
    return replace(answer, headers=headers, body=answer.body[: len(answer.body) // 2])


def with_etag(answer: Answer, etag: str) -> Answer:
    """Give an answer another ETag."""
    headers = {name: value for name, value in answer.headers.items() if name.lower() != "etag"}
    return replace(answer, headers=headers | {"ETag": f'"{etag}"'})


def without_checksums(answer: Answer) -> Answer:
    """Return an answer as of an object whose uploader stored no checksum."""
    return replace(answer, headers={name: value for name, value in answer.headers.items() if "checksum" not in name})


def empty_listing(_: Answer) -> Answer:
    """Return a listing without objects."""
    body = b"<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated></ListBucketResult>"
    return Answer(status=200, headers={"Content-Type": "application/xml"}, body=body)


def without_token(answer: Answer) -> Answer:
    """Return a listing that says that it is cut, without the token to continue."""
    body = answer.body.replace(b"<IsTruncated>false</IsTruncated>", b"<IsTruncated>true</IsTruncated>")
    return replace(cut(answer), body=body)
