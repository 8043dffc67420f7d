"""Damage files in six ways, reproducibly by seed."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

HEADER = 1500  # bytes; damage there has the greatest effect
LENGTH = 2**31 - 1

Mutation = Callable[[bytearray, int, int, np.random.Generator, bytes], None]
"""(data, begin, end, random, other): change data in place between two offsets; `other` is a file to take bytes from."""


def overwritten(data: bytearray, begin: int, end: int, random: np.random.Generator, other: bytes) -> None:
    """Overwrite up to sixty bytes."""
    for at in random.integers(begin, end, random.integers(1, 60)):
        data[at] = random.integers(256)


def flipped(data: bytearray, begin: int, end: int, random: np.random.Generator, other: bytes) -> None:
    """Flip up to ten bits."""
    for at in random.integers(begin, end, random.integers(1, 10)):
        data[at] ^= 1 << random.integers(8)


def truncated(data: bytearray, begin: int, end: int, random: np.random.Generator, other: bytes) -> None:
    """Truncate the file."""
    del data[random.integers(begin, end) :]


def repeated(data: bytearray, begin: int, end: int, random: np.random.Generator, other: bytes) -> None:
    """Duplicate a block."""
    at = random.integers(begin, end)
    block = data[at : at + random.integers(1, 2000)]
    data[at:at] = block


def spliced(data: bytearray, begin: int, end: int, random: np.random.Generator, other: bytes) -> None:
    """Replace the rest of the file by the rest of another one."""
    data[random.integers(begin, end) :] = other[random.integers(len(other)) :]


def lengthened(data: bytearray, begin: int, end: int, random: np.random.Generator, other: bytes) -> None:
    """Replace four bytes that may be a length, a number up to the file size, by 2³¹ - 1."""
    places = [
        (at, order)
        for at in range(begin, end - 3)
        for order in ("<I", ">I")
        if 0 < struct.unpack_from(order, data, at)[0] <= len(data)
    ]
    at, order = places[random.integers(len(places))] if places else (begin, "<I")
    data[at : at + 4] = struct.pack(order, LENGTH)


MUTATIONS: tuple[Mutation, ...] = (overwritten, truncated, repeated, flipped, spliced, lengthened)


def mutated(data: bytes, seed: int, begin: int = 0, other: bytes = b"another file") -> bytes:
    """Return the file damaged in one of the six ways after `begin`; half of the seeds damage only the bytes near it."""
    random, changed = np.random.default_rng(seed), bytearray(data)
    way, near = MUTATIONS[seed % len(MUTATIONS)], seed // len(MUTATIONS) % 2 == 0
    way(changed, begin, min(len(data), begin + HEADER) if near else len(data), random, other)
    return bytes(changed)
