"""Runs again and again while a hand meddles with the files of INPUT and OUTPUT: `python -m tests.faults.meddling`.

In every round images are added; the hand deletes, cuts, overwrites, copies, renames and puts back files, before the run
and in half of the rounds also during it. Then the run must be exact, or must end in words and be exact after --repair.
Every tenth round begins with an empty OUTPUT, every other one of these in an S3 server. `--rounds 200 --seed 0`.

By default the stages run in this process, without Ray, so that a round takes a second and the hand strikes at known
moments. With --ray it strikes at any moment of a run in processes of its own; the undisturbed run after it is judged.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from jobs.cli import app
from pipeline.reference.published_configs import FOURIER, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.storage import Missing, Store
from tests import runs_in_process
from tests.faults.object_store_servers import s3_server
from tests.faults.output_invariants import rows_of

ROUNDS_OF_AN_OUTPUT = 10
FEWEST_INPUTS = 4
FOLDERS = ("predictions/", "quarantine/", "_run/", "_run/plan/", "_run/receipts/")
KINDS = {"delete": 3, "cut": 3, "overwrite": 2, "copy": 4, "rename": 3, "put back": 4, "delete a folder": 1}
IN_INPUT = 0.3  # share of the strikes
SECONDS = 180.0  # that a run may take
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "hand", "AWS_SECRET_ACCESS_KEY": "hand", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass
class Hand:
    """Somebody who changes files at random.

    output, input: where. done: what the hand did. taken: what it overwrote or deleted: the folder, the key, the bytes.
    """

    chance: random.Random
    output: Store
    input: Store
    done: list[str] = field(default_factory=list)
    taken: list[tuple[Store, str, bytes]] = field(default_factory=list)

    def strike(self) -> None:
        """Change one file, or delete a folder of OUTPUT."""
        kind = self.chance.choices(list(KINDS), list(KINDS.values()))[0]
        store = self.input if self.chance.random() < IN_INPUT else self.output
        # The driver's marker stays: all drivers of these runs are this process, which is alive.
        keys = [key for key in store.keys("") if not key.startswith("_run/drivers/")]
        if kind == "put back" and self.taken:
            store, key, data = self.chance.choice(self.taken)
            self._put(store, key, data, kind)
        elif kind == "delete a folder" and store is self.output:
            folder = self.chance.choice(FOLDERS)
            for key in keys:
                if key.startswith(folder):
                    self._delete(store, key)
        elif keys and (store is self.output or len(keys) > FEWEST_INPUTS):
            self._change(store, keys, kind)

    def _change(self, store: Store, keys: list[str], kind: str) -> None:
        key = self.chance.choice(keys)
        data = store.read(key)
        if kind == "cut":
            self._put(store, key, data[: self.chance.randrange(len(data) + 1)], kind)
        elif kind == "overwrite":
            self._put(store, key, self.chance.randbytes(100), kind)
        else:
            if kind in ("copy", "rename"):
                self._put(store, self._other_name(key, keys), data, f"{kind} {key} to")
            if kind != "copy":
                self._delete(store, key)

    def _other_name(self, key: str, keys: list[str]) -> str:
        """Return the name of another file, a name with another number, a new one, or the same in another folder."""
        folder, slash, name = key.rpartition("/")
        folder += slash
        names = [
            self.chance.choice([each for each in keys if each.startswith(folder)]),
            re.sub(r"\d+(?=\.\w+$)", lambda found: f"{self.chance.randrange(12):0{len(found[0])}}", key),
            f"{folder}copy-of-{name}",
            f"{self.chance.choice(FOLDERS)}{name}" if folder in FOLDERS else f"{folder}copied/{name}",
        ]
        return self.chance.choice(names)

    def _put(self, store: Store, key: str, data: bytes, kind: str) -> None:
        with contextlib.suppress(Missing):
            self.taken.append((store, key, store.read(key)))
        store.put(key, data)
        self.done.append(f"{kind} {key}")

    def _delete(self, store: Store, key: str) -> None:
        self.taken.append((store, key, store.read(key)))
        store.delete(key)
        self.done.append(f"delete {key}")


@dataclass
class Meddled:
    """An OUTPUT, its INPUT, and the hand; `predictions` has what was predicted of each version of a file."""

    hand: Hand
    checkpoint: Path
    predictions: dict[str, Any] = field(default_factory=dict)
    ends: Counter[str] = field(default_factory=Counter)
    images: int = 0

    def round(self) -> None:
        """Add images, meddle, run, and check. Raises AssertionError if the run is not exact, nor ends in words."""
        hand, chance = self.hand, self.hand.chance
        hand.done.clear()
        self._add_images(FEWEST_INPUTS if not self.images else chance.randint(0, 3))
        for _ in range(chance.choice([0, 1, 1, 2, 4])):
            hand.strike()
        listed = set(hand.input.keys())
        code = self._meddled_run() if chance.random() < 0.5 else self._run()
        if code != 0:
            listed = set(hand.input.keys())
            assert self._run("--repair") == 0, self.printed
        self._check(listed)

    def _arguments(self, *more: str) -> list[str]:
        hand = self.hand
        flags = ["--checkpoint", str(self.checkpoint), "--shard-size", "2", "--max-quarantine", "1"]
        flags += ["--no-report", "--trusted-inputs", *more]
        return ["run", "image-classification", hand.input.uri, hand.output.uri, *flags]

    def _run(self, *more: str) -> int:
        """Run the command in this process; return its exit code, after a check of its words."""
        result = CliRunner().invoke(app, self._arguments(*more))
        return self._ended(result.exit_code, result.output)

    def _ended(self, code: int, printed: str) -> int:
        self.printed = " ".join([*printed.split(), "|", *self.hand.done])
        assert code in (0, 1, 2), (code, self.printed)
        assert "Traceback" not in printed, self.printed
        assert "did not expect" not in printed, self.printed
        assert code == 0 or "error: " in printed, self.printed
        self.ends[str(code)] += 1
        return code

    def _meddled_run(self) -> int:
        """Run while the hand strikes; return the exit code."""
        with self._meddled_stages():
            return self._run()

    @contextlib.contextmanager
    def _meddled_stages(self) -> Iterator[None]:
        """Let the hand strike before shards are loaded, or between their prediction and their commit."""

        def meddled(stage: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                if self.hand.chance.random() < 0.3:
                    self.hand.strike()
                return stage(*arguments, **named)

            return call

        with pytest.MonkeyPatch.context() as patch:
            for name in ("load", "write"):
                patch.setattr(runs_in_process, name, meddled(getattr(runs_in_process, name)))
            yield

    def _add_images(self, count: int) -> None:
        for number in range(self.images, self.images + count):
            pixels = np.random.default_rng(number).integers(0, 256, (9, 9, 3), np.uint8)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            self.hand.input.put(f"{number:04d}.png", file.getvalue())
        self.images += count

    def _check(self, listed: set[str]) -> None:
        """Assert that every listed input is a row or in quarantine, once, with what its version predicts."""
        output = self.hand.output
        predicted, quarantined = (
            rows_of(output, [key for key in output.keys(folder) if key.endswith(".parquet")])
            for folder in ("predictions/", "quarantine/")
        )
        ids = Counter(row["id"] for row in (*predicted, *quarantined))
        assert ids.total() == len(ids), (ids - Counter(set(ids)), self.printed)
        assert listed <= ids.keys(), (listed - ids.keys(), self.printed)
        for row in predicted:
            known = self.predictions.setdefault(row["version"], row)
            assert row["label"] == known["label"], (row, known, self.printed)
            assert row["score"] == pytest.approx(known["score"], rel=1e-3), (row, known, self.printed)
        manifest = json.loads(output.read("_run/manifest.json"))
        counts = {"rows": len(predicted), "quarantined": len(quarantined)}
        assert manifest == manifest | counts, (manifest, counts, self.printed)


class MeddledOnRay(Meddled):
    """The same with runs in processes of their own, on a local Ray cluster."""

    def _run(self, *more: str) -> int:
        with self._started(*more) as process:
            printed, _ = process.communicate(timeout=SECONDS)
        return self._ended(process.returncode, printed)

    def _meddled_run(self) -> int:
        """Run while the hand strikes every few seconds, then again, undisturbed; return that run's exit code."""
        with self._started() as process:
            until = time.monotonic() + SECONDS
            while process.poll() is None and time.monotonic() < until:
                time.sleep(self.hand.chance.uniform(0.5, 3.0))
                with contextlib.suppress(Missing):  # what the run deleted meanwhile
                    self.hand.strike()
            printed, _ = process.communicate(timeout=SECONDS)
        self._ended(process.returncode, printed)
        return self._run()

    def _started(self, *more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "jobs.cli", *self._arguments("--address", "local", *more)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def meddle(meddled: Meddled, rounds: int) -> Counter[str]:
    """Do this many rounds on one OUTPUT; return how its runs ended, by exit code."""
    for _ in range(rounds):
        meddled.round()
    return meddled.ends


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs while a hand meddles with the files of INPUT and OUTPUT.")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ray", action="store_true", help="run on Ray, in processes of their own")
    arguments = parser.parse_args()
    ends: Counter[str] = Counter()
    with (
        tempfile.TemporaryDirectory() as temporary,
        s3_server() as endpoint,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": endpoint}.items():
            patch.setenv(name, value)
        if not arguments.ray:
            runs_in_process.use_this_process(patch)
        checkpoint = make_checkpoint(FOURIER, small(FOURIER), Path(temporary, "model"))
        for number in range(arguments.rounds // ROUNDS_OF_AN_OUTPUT):
            seed = arguments.seed * 10_000 + number
            folder = _bucket(endpoint) if number % 2 else f"{temporary}/{number}"
            hand = Hand(random.Random(seed), Store(f"{folder}/out"), Store(f"{folder}/in"))
            try:
                found = meddle((MeddledOnRay if arguments.ray else Meddled)(hand, checkpoint), ROUNDS_OF_AN_OUTPUT)
            except AssertionError as error:
                print(f"seed {seed}, {folder}: {error}", flush=True)
                sys.exit(1)
            ends.update(found)
            print(f"seed {seed}, {folder}: exact; runs by exit code: {dict(found)}", flush=True)
    print(json.dumps({"rounds": arguments.rounds, "runs": ends}))


def _bucket(endpoint: str) -> str:
    """Create a bucket and return its URI."""
    import boto3

    name = f"meddled-{uuid.uuid4().hex[:8]}"
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=name)
    return f"s3://{name}"


if __name__ == "__main__":
    main()
