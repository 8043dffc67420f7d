"""Texts that ship with Python: the standard library's code and documentation strings, its manual, its C headers.

Every text belongs to a module, a topic of the manual or a header, and a fifth of these is held out.
"""

import ast
import doctest
import re
import sysconfig
import textwrap
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

KINDS = ("English", "Python", "C", "Python session")
"""Kinds of text: sentences, program code in two languages, and `>>>` examples with their output."""

LICENCE = "PSF-2.0, the licence of Python."

_LEFT_OUT = {
    "site-packages",
    "dist-packages",
    "encodings",
    "idlelib",
    "lib2to3",
    "turtledemo",
    "__pycache__",
    "pydoc_data",
}
_SENTENCES = re.compile(r"[A-Z`\"'][^{}<>|=*\\_]*[.:!?]")  # a paragraph of words, not a table, code or a list of names
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_MIN_PARAGRAPH = 60  # characters


@cache
def texts(held_out: bool) -> dict[str, list[str]]:
    """Return the texts of each of `KINDS`, from a fifth of all modules if `held_out`, else from the others."""
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for kind, text in _texts_of(lambda name: (zlib.crc32(name.encode()) % 5 == 0) == held_out):
        found[kind].append(text)
    if empty := [kind for kind in KINDS if not found[kind]]:
        raise FileNotFoundError(
            f"this Python has no texts of the kind {empty[0]}: install its standard library and headers"
        )
    return found


def _texts_of(chosen: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """Yield (kind, text) of all topics, modules and headers whose names are `chosen`."""
    import pydoc_data.topics

    for topic, text in sorted(pydoc_data.topics.topics.items()):
        if chosen(topic):
            yield from (("English", paragraph) for paragraph in _paragraphs(text))
    paths = sysconfig.get_paths()
    library, headers = Path(paths["stdlib"]), Path(paths["include"])
    for path in sorted(library.rglob("*.py")):
        if not _LEFT_OUT.intersection(path.parts) and chosen(path.relative_to(library).as_posix()):
            yield from _texts_of_module(path)
    for path in sorted(headers.rglob("*.h")):
        if chosen(path.name):
            yield "C", _without_blank_lines(_COMMENT.sub("", path.read_text(errors="replace")))


def _texts_of_module(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (kind, text) of a Python file: its code without comments, its documentation strings by paragraph."""
    source = path.read_text(errors="replace")
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return  # some tests hold damaged files
    lines, is_test = source.splitlines(), "test" in path.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            for number in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[number] = ""
            text = textwrap.dedent(node.value.value.expandtabs())
            yield from (("Python session", session) for session in _sessions(text))
            if not is_test:
                yield from (("English", paragraph) for paragraph in _paragraphs(text))
    if not is_test:
        yield "Python", _without_blank_lines("\n".join(line for line in lines if not line.lstrip().startswith("#")))


def _paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of sentences in a text, each on one line."""
    for block in re.split(r"\n\s*\n", text):
        paragraph = " ".join(block.split())
        if len(paragraph) >= _MIN_PARAGRAPH and paragraph.count(" ") >= 8 and _SENTENCES.fullmatch(paragraph):
            yield paragraph


def _sessions(text: str) -> Iterator[str]:
    """Yield the `>>>` examples of a documentation string, all of them as one text."""
    try:
        examples = doctest.DocTestParser().get_examples(text)
    except ValueError:
        return
    lines = []
    for example in examples:
        first, *others = example.source.rstrip().split("\n")
        lines += [f">>> {first}", *(f"... {line}" for line in others), example.want.rstrip()]
    if lines:
        yield "\n".join(line for line in lines if line)


def _without_blank_lines(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.expandtabs().splitlines() if line.strip())
