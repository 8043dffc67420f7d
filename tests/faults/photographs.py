"""A bucket of photographs that can be extended at any time; some of them are damaged."""

from __future__ import annotations

import io
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image
from skimage import data

KINDS = 24  # different files, used for many more keys
DAMAGED = 0.02  # share of the keys
SIZE = (1280, 960)  # large, so that reading takes most of the time of a run


class Photographs:
    """JPEG files in a bucket, by seed; `good` and `bad` are the keys so far."""

    def __init__(self, client: Any, bucket: str, seed: int) -> None:
        self.uri = f"s3://{bucket}"
        self.good: list[str] = []
        self.bad: list[str] = []
        self._client, self._bucket = client, bucket
        self._chance = random.Random(seed)
        self._files = [_photograph(number) for number in range(KINDS)]

    def put(self, count: int) -> None:
        """Add this many objects, whose keys sort between the existing ones."""
        chosen = []
        for _ in range(count):
            number = len(self.good) + len(self.bad)
            key = f"{self._chance.getrandbits(16):04x}/{number:06d}.jpg"
            body, damaged = self._chance.choice(self._files), self._chance.random() < DAMAGED
            (self.bad if damaged else self.good).append(key)
            chosen.append((key, body[: len(body) // 3] if damaged else body))
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda file: self._put(*file), chosen))

    def _put(self, key: str, body: bytes) -> None:
        self._client.put_object(Bucket=self._bucket, Key=key, Body=body)


def _photograph(number: int) -> bytes:
    sources = (data.astronaut, data.coffee, data.chelsea)
    image = Image.fromarray(sources[number % len(sources)]()).convert("RGB").rotate(number).resize(SIZE)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=40)
    return file.getvalue()
