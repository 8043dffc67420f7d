"""A run over inputs that a checkpoint was not trained on, and the bar that it must pass."""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow.dataset as ds

from pipeline.runtime.driver.run import execute
from pipeline.runtime.options import RunOptions

Rows: TypeAlias = Sequence[Mapping[str, Any]]
Answers: TypeAlias = Mapping[str, Any]
"""What is right, by the id of the unit."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A run of one task over held-out inputs.

    Attributes:
        task: the task of the run; options: its other options.
        write: writes the inputs to a folder and returns the answers.
        score: returns the figure, from the rows of predictions and the answers.
        bar: least figure that is good enough, or greatest if `lower_is_better`.
        figure: what the figure is.
    """

    task: str
    write: Callable[[Path], Answers]
    score: Callable[[Rows, Answers], float]
    bar: float
    figure: str
    lower_is_better: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def passes(self, value: float) -> bool:
        """Return whether a figure is as good as the bar."""
        return value <= self.bar if self.lower_is_better else value >= self.bar

    @property
    def bar_in_words(self) -> str:
        return f"at {'most' if self.lower_is_better else 'least'} {self.bar:g}"

    def measure(self, checkpoint: str) -> float:
        """Predict the held-out inputs by a checkpoint with `perceiver run`, and return the figure."""
        with tempfile.TemporaryDirectory() as scratch:
            inputs, output = Path(scratch, "input"), Path(scratch, "output")
            inputs.mkdir()
            answers = self.write(inputs)
            options = {"checkpoint": checkpoint, **self.options}
            execute(RunOptions(task=self.task, input=str(inputs), output=str(output), **options))
            rows = ds.dataset(output / "predictions", format="parquet").to_table().to_pylist()
        return self.score(rows, answers)


def share_right(rows: Rows, answers: Answers) -> float:
    """Return the share of units whose label is right, in percent."""
    return 100 * sum(row["label"] == answers[row["id"]] for row in rows) / len(answers)


def share_filled(rows: Rows, answers: Answers) -> float:
    """Return the share of units whose first mask has the right best candidate, in percent."""
    best = {row["id"]: row["masks"][0]["candidates"][0]["token"] for row in rows}
    return 100 * float(np.mean([best.get(name) == answer for name, answer in answers.items()]))


def write_lines(folder: Path, texts: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Write (answer, text) as JSON Lines with the columns name and text. Return the answers by name."""
    names = [f"text-{number:04d}" for number in range(len(texts))]
    lines = [json.dumps({"name": name, "text": text}) for name, (_, text) in zip(names, texts, strict=True)]
    (folder / "texts.jsonl").write_text("\n".join(lines))
    return {name: answer for name, (answer, _) in zip(names, texts, strict=True)}
