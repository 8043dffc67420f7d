"""The report of a run of any size takes about the same time, memory and space."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.report.report import make_report
from pipeline.results import open_run
from tests.report.large_run import make_large_run
from tests.report.parsed_page import read_page

# Not by the usage of a child process, which counts the memory of the process that started it.
REPORT = """
import pathlib, sys
from jobs.report import command
command(sys.argv[1])
print(pathlib.Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""
MAX_SECONDS, MAX_MEMORY, MAX_BYTES = 30.0, 1 << 30, 5_000_000


def test_a_sample_of_parts_is_spread_over_the_run_and_named(tmp_path: Path) -> None:
    output = make_large_run(tmp_path, parts=130, units=20)
    page = read_page(make_report(open_run(output)))
    assert "From 64 of 130 parts (1,280 rows)." in page.text
    assert "rows 2,600 quarantined 0" in page.text
    assert "Bottleneck: predict. In all, the replica was busy" in page.text
    numbers = [int(word) // 20 for word in page.text.split() if word.isdecimal() and len(word) == 13]
    assert len(numbers) == 16
    assert min(numbers) < 40
    assert max(numbers) > 90


@pytest.mark.slow
def test_report_of_a_million_rows_in_2000_parts_is_fast_and_small(tmp_path: Path) -> None:
    output = make_large_run(tmp_path, parts=2000, units=500)
    started = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", REPORT, output], capture_output=True, text=True, check=True)
    seconds, memory = time.monotonic() - started, int(ended.stdout.split()[-1]) << 10
    size = (output / "report.html").stat().st_size
    print(f"{seconds:.1f} s, {memory / 2**20:,.0f} MiB, {size:,} bytes")
    assert seconds < MAX_SECONDS
    assert memory < MAX_MEMORY
    assert size < MAX_BYTES
    page = read_page((output / "report.html").read_text())
    assert "rows 990,000 quarantined 10,000" in page.text
    assert "From 64 of 2,000 parts (31,680 rows)." in page.text
