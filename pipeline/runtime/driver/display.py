"""What a run shows while it works: phases, notes and progress, on a terminal, as plain lines, or as JSON lines."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner

from pipeline.runtime.driver.progress import Counts
from pipeline.runtime.options import RunOptions
from pipeline.terminal import plain, print_line
from pipeline.visible import visible_line

LINE_SECONDS = 10.0
REFRESHES_PER_SECOND = 4

LogFormat = Literal["text", "json"]


class Display:
    """Shows a run on a console. Texts are shown as they are: names of files are neither markup nor escape sequences.

    On a terminal or in a notebook the current phase or the progress is one place that changes; elsewhere each is a
    line, progress every ten seconds.
    """

    def __init__(self, console: Console | None = None, *, log_format: LogFormat = "text", quiet: bool = False) -> None:
        """Show on a console, by default standard error.

        log_format: "json" for an object per line. quiet: neither phases nor progress, only notes.
        """
        self._console = console or Console(stderr=True)
        self._json, self._quiet = log_format == "json", quiet
        changing = not self._json and not quiet
        self._notebook = changing and self._console.is_jupyter
        self._live = changing and self._console.is_terminal and not self._notebook

    @classmethod
    def of(cls, options: RunOptions, console: Console | None = None) -> Self:
        """Return the display that the options of a run ask for."""
        return cls(console, log_format=options.log_format, quiet=options.quiet)

    def note(self, text: str) -> None:
        """Show a fact that the user should know."""
        self._event("note", message=text) if self._json else self._line(text)

    @contextmanager
    def phase(self, text: str) -> Iterator[None]:
        """Show what goes on during the block, with the seconds that it has taken."""
        if self._live:
            started, spinner = time.monotonic(), Spinner("dots")

            def render() -> RenderableType:
                spinner.update(text=plain(f"{text}, {time.monotonic() - started:.0f} s"))
                return spinner

            with self._refreshed(render, transient=True):
                yield
            return
        if self._notebook:
            with _notebook_line(lambda: f"{text} …"):
                yield
            return
        if not self._quiet:
            self._event("phase", message=text) if self._json else self._line(f"{text} …")
        yield

    @contextmanager
    def progress(self, counts: Counts) -> Iterator[None]:
        """Show `counts`, which its owner updates, during the block."""
        with ExitStack() as stack:
            if self._live:
                stack.enter_context(self._refreshed(lambda: _live_progress(counts)))
            elif self._notebook:
                stack.enter_context(_notebook_line(counts.line))
            elif not self._quiet:
                stack.enter_context(_every(LINE_SECONDS, lambda: self._progress_line(counts)))
            yield

    def _progress_line(self, counts: Counts) -> None:
        self._event("progress", **counts.as_json()) if self._json else self._line(counts.line())

    @contextmanager
    def _refreshed(self, render: Callable[[], RenderableType], *, transient: bool = False) -> Iterator[None]:
        """Show what `render` returns, again and again during the block; the last one stays unless it is transient."""
        with Live(
            get_renderable=render, console=self._console, refresh_per_second=REFRESHES_PER_SECOND, transient=transient
        ) as live:
            try:
                yield
            finally:
                live.refresh()

    def _line(self, text: str) -> None:
        print_line(text, console=self._console)

    def _event(self, event: str, **fields: Any) -> None:
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields})
        self._console.file.write(line + "\n")
        self._console.file.flush()


@contextmanager
def _notebook_line(text: Callable[[], str]) -> Iterator[None]:
    """Show one line below the cell and change it every second. rich's bar needs ipywidgets for that."""
    from IPython.display import display

    line = display({"text/plain": visible_line(text())}, raw=True, display_id=True)

    def update() -> None:
        line.update({"text/plain": visible_line(text())}, raw=True)

    try:
        with _every(1.0, update):
            yield
    finally:
        update()


def _live_progress(counts: Counts) -> RenderableType:
    """Return a bar and the progress in words, on as many lines as the terminal needs."""
    bar = ProgressBar(total=max(1, counts.shards), completed=counts.shards_done, width=40)
    return Group(bar, plain(counts.line()))


@contextmanager
def _every(seconds: float, call: Callable[[], None]) -> Iterator[None]:
    """Call a function every so often during the block, in a thread."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            call()

    thread = threading.Thread(target=repeat, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
