"""Files of a web server: fsspec's file system, but with faults told apart from files that are not there."""

import re
from typing import Any

from fsspec.implementations.http import HTTPFileSystem

from pipeline.storage.errors import AccessError

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
