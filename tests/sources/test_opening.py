"""How often a file is opened: over an object store each opening is a request."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from pipeline.sources.text.text_file import open_text, text_form
from pipeline.storage import Store


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_form_of_a_text_is_found_by_opening_it_once(tmp_path: Path, monkeypatch, compress) -> None:
    (tmp_path / "a.txt").write_bytes(compress(b"one\ntwo\n"))
    store, opened = Store(str(tmp_path)), []
    open_file, entry = Store.open, store.entry("a.txt")
    monkeypatch.setattr(Store, "open", lambda *given, **options: opened.append(given) or open_file(*given, **options))
    assert text_form(store, "a.txt", entry.version, entry.size).start == b"one\ntwo\n"
    assert len(opened) == 1
    with open_text(store, "a.txt", entry.version, entry.size) as file:
        assert file.read() == b"one\ntwo\n"
    assert len(opened) == 2
