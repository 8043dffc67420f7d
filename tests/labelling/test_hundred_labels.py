"""A hundred labels: probes of checkpoints that never saw these labels, against logistic regression on the raw data.

Digits: the latents of `demo:letters`, trained on letters of fonts, against pixels. Texts: the latents of
`demo:fill-mask`, trained to fill masks in texts of other modules, against counts of bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from pipeline.demo.python_texts import KINDS, texts
from pipeline.demo.text_kinds import excerpt
from pipeline.labelling.features import feature_columns, read_features
from pipeline.results import open_run
from tests import example_runs
from tests.labelling.digit_images import DIGITS, PIXELS, write_digits

pytestmark = pytest.mark.slow  # 1,797 images and 1,000 texts are encoded, and 20 probes are fitted
SEEDS = range(5)
LABELLED = 100
OF_EACH_KIND = 250
READ = 62  # bytes of a text that the checkpoint reads; features of a longer one are those of its beginning


@dataclass(frozen=True)
class Units:
    """Units of a run with known labels.

    Attributes:
        output: OUTPUT of feature-extraction.
        names: their ids; known: their labels.
        raw: what scikit-learn is given of them, [n, F], by name. A probe must be as good as with the first.
    """

    output: Path
    names: list[str]
    known: np.ndarray
    raw: Mapping[str, np.ndarray]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Units:
    folder = tmp_path_factory.mktemp("digits")
    names = write_digits(folder / "in")
    example_runs.run("feature-extraction", folder / "in", folder / "out", Path("demo:letters"), latents=True)
    return Units(folder / "out", names, DIGITS.astype(str), {"pixels": PIXELS})


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Units:
    """1,000 different excerpts, a quarter of each kind, of modules of which no checkpoint was trained on a text."""
    folder, random = tmp_path_factory.mktemp("texts"), np.random.default_rng(1)
    found: dict[str, str] = {}
    for kind in KINDS:
        wanted = len(found) + OF_EACH_KIND
        while len(found) < wanted:
            text = excerpt(texts(held_out=True)[kind], random)
            if len(text) >= 40:
                found.setdefault(text, kind)
    names = [f"{number:04d}" for number in range(len(found))]
    lines = [json.dumps({"name": name, "text": text}) for name, text in zip(names, found, strict=True)]
    (folder / "in").mkdir()
    (folder / "in/texts.jsonl").write_text("\n".join(lines))
    options = {"latents": True, "id_column": "name"}
    example_runs.run("feature-extraction", folder / "in", folder / "out", Path("demo:fill-mask"), **options)
    encoded = [text.encode() for text in found]
    counts = _byte_counts(encoded)
    pairs = CountVectorizer(analyzer="char", ngram_range=(1, 2), lowercase=False).fit_transform(found)
    raw = {
        "byte counts": counts,
        f"byte counts of the first {READ} bytes": _byte_counts([text[:READ] for text in encoded]),
        "logarithms of byte counts": np.log1p(counts),
        "counts of characters and pairs": pairs.toarray(),
    }
    return Units(folder / "out", names, np.array(list(found.values())), raw)


def _byte_counts(encoded: list[bytes]) -> np.ndarray:
    return np.stack([np.bincount(np.frombuffer(text, np.uint8), minlength=256) for text in encoded])


@pytest.mark.parametrize("pooling", ["mean", "statistics"])
@pytest.mark.parametrize("source", ["digits", "kinds"])
def test_probe_is_as_good_as_raw_data_and_its_interval_is_true(
    request: pytest.FixtureRequest, tmp_path: Path, source: str, pooling: str
) -> None:
    units: Units = request.getfixturevalue(source)
    results = open_run(units.output)
    columns = feature_columns(results.schema().names, pooling, str(units.output))
    rows, features = read_features(results.batches(["id", *columns]), pooling)
    assert rows["id"].to_pylist() == units.names
    probed, raw, contained = [], {name: [] for name in units.raw}, 0
    for seed in SEEDS:
        order = np.random.default_rng(seed).permutation(len(units.names))
        labelled, others = order[:LABELLED], order[LABELLED:]
        lines = [json.dumps({"id": units.names[unit], "label": units.known[unit]}) for unit in labelled]
        (tmp_path / "labels.jsonl").write_text("\n".join(lines))
        fitted = results.fit_probe(tmp_path / "labels.jsonl", pooling)
        best = fitted.probe.logits(torch.from_numpy(features[others])).argmax(dim=1).numpy()
        accuracy = float((np.array(fitted.probe.labels)[best] == units.known[others]).mean())
        low, high = fitted.accuracy_interval
        contained += low <= accuracy <= high
        print(f"seed {seed}: {accuracy:.1%}, stated {fitted.accuracy:.1%}, {low:.1%} to {high:.1%}")
        probed.append(accuracy)
        for name, values in units.raw.items():
            regression = LogisticRegression(max_iter=5_000).fit(values[labelled], units.known[labelled])
            raw[name].append(regression.score(values[others], units.known[others]))
    means = {name: float(np.mean(each)) for name, each in raw.items()}
    print(f"{source}, {pooling}: probe {np.mean(probed):.2%} ({contained} of 5 in the interval), {means}")
    assert np.mean(probed) >= next(iter(means.values()))
    assert contained >= 4
