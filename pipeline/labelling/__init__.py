"""Labelling: how good predictions are where labels are known, labels of one's own, and what to label next.

    labelled_rows.py   predictions of the units whose label is known
    metrics.py         accuracy, classes, confusion, calibration
    probabilities.py   of all labels, from logits or the best labels
    mistakes.py        known labels that are probably wrong
    features.py        embeddings and pooled latents of units
    probe.py           fits a linear probe, which `pipeline.heads.probe` predicts with
    label_queue.py     what to label next
    duplicates.py      units that resemble each other
    notes.py           what was assumed or left out, in the metadata of a table
    extra.py           whether the packages of the extra are installed

All but near duplicates needs the extra `labelling`. Rows come from `pipeline.results`, labels from the column
`known_label` or from a file.
"""
