"""Labelling: how good predictions are where labels are known.

    labelled_rows.py   predictions of the units whose label is known
    metrics.py         accuracy, classes, confusion, calibration

Needs the extra `labelling`. Rows come from `pipeline.results`, labels from the column `known_label` or from a file.
"""
