"""Export of a run's rows to the formats of other tools.

    export.py          checks, and the export itself
    exported.py        the rows that an export takes, its format, and what it made
    destination.py     DEST: which export it belongs to, its files and their names
    file_names.py      safe file names for ids
    unit_files.py      formats with a file per unit; flo.py, kitti.py and media_files.py encode it
    flow_video.py      flow as colors, a video per source video
    table_files.py     csv and jsonl, one file of rows; growing_file.py and csv_rows.py write it
    rankings.py        mistakes, queue and duplicates: units in an order, for labelling
    dataset_folder.py  a folder for `datasets`, with features and a card; label_classes.py names the classes of labels,
                       source_images.py copies the images

A format is one file, and one line here.
"""

from collections.abc import Mapping

from pipeline.export.dataset_folder import DATASET
from pipeline.export.exported import Format
from pipeline.export.flo import FLO
from pipeline.export.flow_video import FLOW_VIDEO
from pipeline.export.kitti import KITTI
from pipeline.export.media_files import MP4, WAV
from pipeline.export.rankings import DUPLICATES, MISTAKES, QUEUE
from pipeline.export.table_files import CSV, JSONL

FORMATS: Mapping[str, Format] = {
    each.name: each
    for each in (
        FLO,
        KITTI,
        FLOW_VIDEO,
        MP4,
        WAV,
        CSV,
        JSONL,
        DATASET,
        MISTAKES,
        QUEUE,
        DUPLICATES,
    )
}
"""The formats of `perceiver export --to`."""
