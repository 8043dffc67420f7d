"""README.md in OUTPUT: a dataset card, by which `datasets.load_dataset(OUTPUT)` reads the predictions alone."""

from pipeline.storage import Store

CARD = "README.md"

_TEXT = """\
---
configs:
- config_name: predictions
  data_files: predictions/*.parquet
  default: true
- config_name: quarantine
  data_files: quarantine/*.parquet
---

# Predictions of a Perceiver IO model

- `predictions/*.parquet`: one row per predicted unit.
- `quarantine/*.parquet`: one row per unit that could not be predicted, with the reason.
- `_run/`: the plan and the progress of the run. The same command needs it to continue.

`datasets.load_dataset` reads the predictions of this folder, or with "quarantine" as its second argument that table.
"""


def put_card(output: Store) -> None:
    """Write the card, unless OUTPUT has a README.md, which may be the user's own."""
    output.put_if_absent(CARD, _TEXT.encode())
