"""What results tell about labels: metrics, mistakes, probes, duplicates, what to label. See `pipeline.labelling`."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from pipeline.heads.pooling import Pooling
from pipeline.labelling.duplicates import SIMILARITY, duplicates_of
from pipeline.labelling.features import feature_columns, read_features
from pipeline.labelling.label_queue import queue_of
from pipeline.labelling.labelled_rows import COLUMNS as LABEL_COLUMNS
from pipeline.labelling.labelled_rows import LabelledRows, known_labels, notes_on, read_labelled_rows, read_rows
from pipeline.labelling.metrics import Metrics, metrics_of
from pipeline.labelling.mistakes import mistakes_of, mistakes_of_probe
from pipeline.labelling.notes import notes_of, with_notes
from pipeline.labelling.probabilities import probability_columns
from pipeline.labelling.probe import Fitted, fit_probe
from pipeline.runtime.errors import UsageError
from pipeline.runtime.records.run_file import Run
from pipeline.runtime.stages.known_labels import KNOWN_LABEL
from pipeline.sources.label_files import LabelFile, read_label_file
from pipeline.storage import Store


class LabellingMethods(ABC):
    """Methods of `Results` about labels. All but `duplicates` require the extra `labelling`.

    Known labels are those of the column `known_label`, or of a file with the columns id and label (CSV, JSON Lines,
    Parquet) or an export of Label Studio, which counts instead.
    """

    run: Run
    store: Store

    @abstractmethod
    def schema(self) -> pa.Schema:
        """Return the names and types of the columns."""

    @abstractmethod
    def batches(
        self,
        columns: Sequence[str] | None = None,
        parts: Sequence[str] | None = None,
        ids: Collection[str] | None = None,
        where: str | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows as record batches."""

    def metrics(
        self, labels: str | Path | LabelFile | None = None, ids: Collection[str] | None = None, where: str | None = None
    ) -> Metrics:
        """Return how good the predictions are where labels are known.

        Args:
            labels: File of known labels; None for the column `known_label`.
            ids: Ids of units; None for all.
            where: SQL expression over the columns, for some of the rows.

        Raises:
            UsageError: The run predicts no labels, or no label is known that the checkpoint has.
            AccessError: The file cannot be read, or gives one id two labels.
        """
        return metrics_of(self._labelled_rows(self._label_file(labels), (), ids, where))

    def label_notes(self, labels: str | Path | LabelFile | None = None) -> Sequence[str]:
        """Return what of the known labels does not count, in sentences: ids without a row, labels of another model.

        labels: As in `metrics`. AccessError as there; that no label counts at all is one of the sentences.
        """
        file = self._label_file(labels)
        try:
            if set(LABEL_COLUMNS) <= set(self.schema().names):
                return self._labelled_rows(file, (), None, None).notes
            columns = ["id", *([KNOWN_LABEL] if file is None else [])]
            return known_labels(read_rows(self.batches(columns)), file)[1]
        except UsageError as error:
            return error.lines

    def mistakes(
        self, labels: str | Path | LabelFile | None = None, ids: Collection[str] | None = None, where: str | None = None
    ) -> pa.Table:
        """Return the units with a known label, ranked by how probably it is wrong, by confident learning.

        Probabilities are those of the rows, exact if the run stored logits. Of rows with embeddings and no labels, a
        probe is fitted to the known labels, and each unit is judged by one that has not seen it.

        Columns: rank from 1; id; uri; known_label; label and score of the model; known_score, the probability of the
        known label; quality in [0, 1], low for a certain contradiction; mistake, whether it is taken for one. The notes
        of the table (`pipeline.labelling.notes`) are those of `metrics` or of the probe.

        Arguments and errors are those of `metrics` and `fit_probe`; UsageError if all known labels are the same.
        """
        file = self._label_file(labels)
        if set(LABEL_COLUMNS) <= set(self.schema().names):
            columns = ("uri", *probability_columns(self.schema()))
            return mistakes_of(self._labelled_rows(file, columns, ids, where))
        rows, fitted = self._fit_probe(file, "mean", ids, where)
        return mistakes_of_probe(rows, fitted)

    def fit_probe(
        self, labels: str | Path | LabelFile | None = None, pooling: Pooling = "mean", where: str | None = None
    ) -> Fitted:
        """Fit a linear probe to the embeddings or latents of the rows whose label is known.

        `fitted.probe.save(folder)` writes it for `perceiver run --probe`.

        Args:
            labels: File of known labels, which need not be those of the checkpoint; None for the column `known_label`.
            pooling: "mean" of the latents; or "statistics", their mean, deviation and maximum, for rows with latents.
            where: SQL expression over the columns, for some of the rows.

        Raises:
            UsageError: The rows have no embeddings or latents; no label is known; there are fewer than two labels, or
                fewer than three units of one; an embedding is not finite.
            AccessError: The file of labels cannot be read, or gives one id two labels.
        """
        return self._fit_probe(self._label_file(labels), pooling, None, where)[1]

    def queue(
        self,
        count: int,
        labels: str | Path | LabelFile | None = None,
        ids: Collection[str] | None = None,
        where: str | None = None,
    ) -> pa.Table:
        """Return which units to label next: those without a known label of which the model is least certain.

        If rows have embeddings or latents, the units are spread over them, and near duplicates are left out. The notes
        of the table (`pipeline.labelling.notes`) say why there are fewer units than asked for.

        Columns: rank from 1; id; uri; label; score; uncertainty, one minus the margin of the scores of two labels.

        Args:
            count: At most so many units.
            labels, ids, where: As in `metrics`; known labels are not needed.

        Raises:
            UsageError: The run predicts no labels, or stored one label of each unit only.
        """
        self._require_labels()
        file = None if labels is None else self._label_file(labels)
        known_column = [KNOWN_LABEL] if file is None and KNOWN_LABEL in self.schema().names else []
        features_in = feature_columns(self.schema().names, "mean", self.store.uri) if self.has_features else ()
        columns = ["id", "uri", "label", "score", "topk", *features_in, *known_column]
        batches = self.batches(columns, ids=ids, where=where)
        rows, features = read_features(batches, "mean") if features_in else (read_rows(batches), None)
        if file is not None:
            notes, known = notes_on(file, rows["id"]), file.of(rows["id"].combine_chunks())
        else:
            notes, known = [], rows[KNOWN_LABEL] if known_column else None
        queue = queue_of(rows, features, count, known)
        return with_notes(queue, [*notes, *notes_of(queue)])

    def duplicates(
        self, similarity: float = SIMILARITY, ids: Collection[str] | None = None, where: str | None = None
    ) -> pa.Table:
        """Return groups of units whose embeddings point in nearly the same direction.

        Columns: group from 1; id; uri; similarity, the cosine to the first unit of the group after centering.

        Args:
            similarity: Cosine from which two units count as the same.
            ids, where: As in `metrics`.

        Raises:
            UsageError: The rows have no embeddings or latents, or there are more than 200,000 units.
        """
        columns = ["id", "uri", *feature_columns(self.schema().names, "mean", self.store.uri)]
        return duplicates_of(*read_features(self.batches(columns, ids=ids, where=where), "mean"), similarity)

    @property
    def has_features(self) -> bool:
        """Whether rows have embeddings or latents."""
        return not {"embedding", "latents"}.isdisjoint(self.schema().names)

    def _labelled_rows(
        self, file: LabelFile | None, more: Sequence[str], ids: Collection[str] | None, where: str | None
    ) -> LabelledRows:
        """Return the predictions of the units whose label is known. more: columns to read, too."""
        self._require_labels()
        columns = [*LABEL_COLUMNS, *more, *([KNOWN_LABEL] if file is None else [])]
        return read_labelled_rows(self.batches(columns, ids=ids, where=where), self.run.label_names, file)

    def _fit_probe(
        self, file: LabelFile | None, pooling: Pooling, ids: Collection[str] | None, where: str | None
    ) -> tuple[pa.Table, Fitted]:
        """Return the rows whose label is known, with `id` and `uri`, and the probe fitted to them."""
        columns = ["id", "uri", *feature_columns(self.schema().names, pooling, self.store.uri)]
        columns += [KNOWN_LABEL] if file is None else []
        rows, features = read_features(self.batches(columns, ids=ids, where=where), pooling)
        known, notes = known_labels(rows, file)
        chosen = [number for number, label in enumerate(known) if label is not None]
        fitted = fit_probe(
            features[chosen],
            [str(known[number]) for number in chosen],
            pooling=pooling,
            checkpoint=str(self.run.fingerprint["checkpoint"]),
            facts={"task": str(self.run.fingerprint["head"]), "ref": str(self.run.record.get("checkpoint", ""))},
        )
        return rows.take(pa.array(chosen, pa.int64())), replace(fitted, notes=(*notes, *fitted.notes))

    def _require_labels(self) -> None:
        if missing := set(LABEL_COLUMNS) - set(self.schema().names):
            task = self.run.fingerprint["head"]
            raise UsageError(f"{self.store.uri}: rows of {task} have no column {min(missing)!r}, so no labels")

    def _label_file(self, labels: str | Path | LabelFile | None) -> LabelFile | None:
        """Return the labels of a file; None for those of the column, UsageError if there is none."""
        if labels is not None:
            return labels if isinstance(labels, LabelFile) else read_label_file(str(labels))
        if KNOWN_LABEL not in self.schema().names:
            raise UsageError(
                f"{self.store.uri}: no labels are known: name a file with the columns id and label, or run with "
                "--label-column, --label-from or --labels"
            )
        return None
