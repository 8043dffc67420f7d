"""Folders of web servers: pages with links, some of which are no files, and errors that are no missing files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline.sources import SourceOptions, discover, source_for
from pipeline.storage import AccessError, Denied, Missing, StorageError, Store, retry

PAGE = (
    "<a href='?C=N;O=D'>Name</a> <a href='../'>up</a> <a href='/'>home</a> <a href='#top'>top</a> "
    "<a href='mailto:a@b'>us</a> <a href='https://elsewhere.example/c.txt'>c</a> <a href='/other/d.txt'>d</a> "
    "<a href='a.txt'>a</a> <a href='/in/sub/'>sub</a>"
)
PAGES = {
    "/in/": PAGE,
    "/in": PAGE,
    "/in/sub": "<a href='b%20c.txt'>b c</a>",
    "/in/a.txt": "one",
    "/in/sub/b%20c.txt": "two",
    "/text": "no links",
}


class Handler(BaseHTTPRequestHandler):
    """Answers by `PAGES`, redirects /in to /in/, and fails with the number that is the path."""

    def do_GET(self) -> None:
        if self.path == "/in" and self.command == "HEAD":
            self.send_response(301)
            self.send_header("Location", "/in/")
            self.end_headers()
        elif (status := self.path.rpartition("/")[2]).isdecimal():
            self.send_error(int(status))
        elif self.path not in PAGES and not self.path.startswith("/deep"):
            self.send_error(404)
        else:
            data = PAGES.get(self.path, "<a href='deeper/'>deeper</a>").encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data if self.command == "GET" else b"")

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("folder", ["in", "in/"])
def test_folder_holds_the_files_that_its_pages_link_to_and_no_others(web: str, folder: str) -> None:
    listing = discover(f"{web}/{folder}", source_for("auto", SourceOptions(medium="text")))
    assert [(entry.key, entry.size) for entry in listing.entries] == [("a.txt", 3), ("sub/b%20c.txt", 3)]
    assert listing.store.read("sub/b%20c.txt") == b"two"


@pytest.mark.parametrize("name", ["none", "text/"])
def test_folder_without_links_is_refused(web: str, name: str) -> None:
    with pytest.raises(AccessError, match="is no page with links to files, by which a web server lists a folder"):
        discover(f"{web}/{name}", source_for("auto", SourceOptions(medium="text")))


def test_pages_that_never_end_are_refused(web: str) -> None:
    with pytest.raises(AccessError, match="pages link to ever deeper folders"):
        list(Store(f"{web}/deep").entries())


def test_error_of_the_server_is_no_missing_file(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0)
    store = Store(f"{web}/in")
    with pytest.raises(Missing):
        store.entry("none.txt")
    with pytest.raises(Denied):
        store.entry("403")
    with pytest.raises(StorageError, match="503") as caught:
        store.entry("503")
    assert caught.value.transient
