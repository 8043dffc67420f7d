"""Files damaged in six ways, by seed: the same seed gives the same file."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

HEADER = 1500  # bytes: what breaks there breaks most
LENGTH = 2**31 - 1

Mutation = Callable[[bytearray, int, int, np.random.Generator, bytes], None]
"""Changes content in place, somewhere between two places of it; there is another file to take bytes of."""


def overwritten(data: bytearray, begin: int, end: int, random: np.random.Generator, other: bytes) -> None:
    """Up to sixty bytes are any others."""
    for at in random.integers(begin, end, random.integers(1, 60)):
        data[at] = random.integers(256)


def flipped(data: bytearray, begin: int, end: int, random: np.random.Generator, other: bytes) -> None:
    """Up to ten bits are the other way round."""
    for at in random.integers(begin, end, random.integers(1, 10)):
        data[at] ^= 1 << random.integers(8)


def truncated(data: bytearray, begin: int, end: int, random: np.random.Generator, other: bytes) -> None:
    """It ends early."""
    del data[random.integers(begin, end) :]


def repeated(data: bytearray, begin: int, end: int, random: np.random.Generator, other: bytes) -> None:
    """A block of it is there twice."""
    at = random.integers(begin, end)
    block = data[at : at + random.integers(1, 2000)]
    data[at:at] = block


def spliced(data: bytearray, begin: int, end: int, random: np.random.Generator, other: bytes) -> None:
    """From some place on it is another file, from a place of that one on."""
    data[random.integers(begin, end) :] = other[random.integers(len(other)) :]


def lengthened(data: bytearray, begin: int, end: int, random: np.random.Generator, other: bytes) -> None:
    """Four bytes that may be a length, for they are a number no greater than the file, are 2³¹ - 1."""
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
    """The file damaged in one of the ways, from `begin` on; for half of the seeds near there, else anywhere."""
    random, changed = np.random.default_rng(seed), bytearray(data)
    way, near = MUTATIONS[seed % len(MUTATIONS)], seed // len(MUTATIONS) % 2 == 0
    way(changed, begin, min(len(data), begin + HEADER) if near else len(data), random, other)
    return bytes(changed)
