"""Files of a web server: fsspec's file system, but with faults told apart from files that are not there."""

import re
from collections.abc import Mapping
from typing import Any

from fsspec.implementations.http import HTTPFileSystem

from pipeline.storage.errors import AccessError, Changed, Corrupt

MAX_DEPTH = 64  # slashes; some servers answer any address with the same page
_GONE = (404, 410)
# In links that name no file of the folder: sorting by a column, a place in the page, a parent, an address of mail.
_NO_FILE = re.compile(r"[?#]|(?:^|/)\.\.?(?:/|$)|^\w+:")


class WebFileSystem(HTTPFileSystem):
    """A folder is a page with links to the files and folders in it, as web servers make one of a folder."""

    async def _info(self, url: str, **kwargs: Any) -> dict[str, Any]:
        try:
            info: dict[str, Any] = await super()._info(url, **kwargs)
        except FileNotFoundError as error:  # which fsspec raises for any failure
            cause = error.__cause__
            if cause is None or getattr(cause, "status", None) in _GONE:
                raise
            raise cause from None
        is_folder = str(info.get("url", "")).endswith("/") and not url.endswith("/")  # the server redirected
        return {**info, "type": "directory"} if is_folder else info

    async def _cat_file(
        self, url: str, start: int | None = None, end: int | None = None, *, info: Any = None, **kwargs: Any
    ) -> bytes:
        """Return a file or a range of it. info: of the version that the answer must have."""
        options = {**self.kwargs, **kwargs}
        headers = {**options.pop("headers", {}), "Accept-Encoding": "identity"}  # a range of what `info` describes
        if start is not None and end is not None:
            headers["Range"] = f"bytes={start}-{end - 1}"
        session = await self.set_session()
        async with session.get(self.encode_url(url), headers=headers, **options) as answer:
            data: bytes = await answer.read()
            self._raise_not_found_for_status(answer, url)
        _check_answer(answer.headers, info or {}, url)
        return data

    async def _ls_real(self, url: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        folder = url.rstrip("/") + "/"
        if folder.count("/") > MAX_DEPTH:
            raise AccessError(f"{folder}: pages link to ever deeper folders, so they cannot be listed: name one file")
        linked: list[str] = await super()._ls_real(url, detail=False, **kwargs)
        names = [name for name in linked if name.startswith(folder) and not _NO_FILE.search(name[len(folder) :])]
        if not detail:
            return names
        kinds = ("directory" if name.endswith("/") else "file" for name in names)
        return [{"name": name, "size": None, "type": kind} for name, kind in zip(names, kinds, strict=True)]


def _check_answer(headers: Mapping[str, str], info: Mapping[str, Any], url: str) -> None:
    """Raise Changed if an answer is of another version of the file than a look-up was, Corrupt if it does not say."""
    name = next((name for name in ("ETag", "Last-Modified") if info.get(name)), None)
    if name is None:
        return
    if name not in headers:
        raise Corrupt(f"{url}: the answer that was received has no {name}: a proxy may have given it")
    if headers[name].removeprefix("W/") != str(info[name]).removeprefix("W/"):
        raise Changed(f"{url} changed while it was read")
