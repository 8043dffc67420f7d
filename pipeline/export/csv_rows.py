"""Lines of CSV (RFC 4180) that spreadsheets do not run as formulas."""

import csv
import io
from collections.abc import Sequence
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(values: Sequence[Any]) -> str:
    """Return one line. Texts that a spreadsheet would run as formulas get a leading apostrophe; see `is_formula`."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([f"'{value}" if is_formula(value) else value for value in values])
    return line.getvalue()


def is_formula(value: Any) -> bool:
    """Return whether a spreadsheet would take a text for a formula: it begins with = + - @, a tab or CR, and is no
    number."""
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return False
    try:
        float(value)
    except ValueError:
        return True
    return False
