"""Safe file names for ids, which may hold any text. Names that collide on any file system get a suffix."""

import hashlib
import re
import unicodedata

NAME_BYTES = 150  # longest name of a file or folder; file systems allow 255
PATH_BYTES = 600  # longest path below DEST
_PLACE = re.compile(r"(.+)#(\d+(?:\.\d+)?)", re.DOTALL)  # an id of a place in a file: drive.mp4#12.480
_FOLDER = "folder"
_OTHERS = "others"  # folder of files whose path is too long, or leads through a file
_ALLOWED = frozenset("-_.,+=@() ")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")  # on Windows


class FileNames:
    """Names of files below one folder, each with the row that it belongs to.

    No name is that of another file, or of a folder, on a file system that ignores case or normalizes letters.
    """

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}

    def __contains__(self, name: str) -> bool:
        return name_key(name) in self._owners

    def add(self, name: str, owner: str) -> None:
        """Record the name of the file of a row, and those of the folders that hold it."""
        self._owners[name_key(name)] = owner
        self._owners |= dict.fromkeys(map(name_key, _folders(name)), _FOLDER)

    def name_of(self, unit: str, version: str, extension: str) -> str:
        """Return the name of a unit's file: `file_name`, with a suffix if something else has it."""
        name, mine = file_name(unit, extension), owner(unit, version)
        if any(self._owners.get(name_key(folder), _FOLDER) != _FOLDER for folder in _folders(name)):
            name = f"{_OTHERS}/{name.rpartition('/')[2]}"  # a file has the name of one of its folders
        if self._owners.get(name_key(name), mine) == mine:
            return name
        return f"{name.removesuffix(extension)}~{mine}{extension}"


def file_name(unit: str, extension: str) -> str:
    """Return a relative path for the file of a unit, for example `drives/a.mp4/12.480.flo` for `drives/a.mp4#12.480`.

    Letters and digits of any script, spaces and `-_.,+=@()` stay, anything else becomes `_`. An extension that the id
    has is not repeated. Different ids may give the same name.
    """
    place = _PLACE.fullmatch(unit)
    names = [*(place[1] if place else unit).split("/"), *([place[2]] if place else [])]
    *folders, last = [_safe(name) for name in names if name] or ["_"]
    last = last.removesuffix(extension)
    path = "/".join([*folders, last + extension])
    if len(path.encode()) > PATH_BYTES:
        return f"{_OTHERS}/{_shortened(last, unit)}{extension}"
    return path


def owner(unit: str, version: str) -> str:
    """Return a short name of the row of a unit: 16 hex digits of a digest of its id and the version of its input."""
    return hashlib.sha256(f"{unit}\n{version}".encode()).hexdigest()[:16]


def _folders(name: str) -> list[str]:
    """Return the folders that hold a file: `a` and `a/b` for `a/b/c`."""
    parts = name.split("/")
    return ["/".join(parts[:length]) for length in range(1, len(parts))]


def name_key(name: str) -> str:
    """Return the same text for names that are one file on a file system that ignores case or normalizes letters."""
    return unicodedata.normalize("NFC", name).casefold()


def _safe(name: str) -> str:
    letters = unicodedata.normalize("NFC", name)
    safe = "".join(one if one in _ALLOWED or unicodedata.category(one)[0] in "LNM" else "_" for one in letters)
    if safe[0] in ".- " or _RESERVED.match(safe):  # hidden, an option of a command, or reserved
        safe = f"_{safe.lstrip('. ')}" if safe.strip(". ") else "_" * len(safe)
    if safe[-1] in ". ":  # Windows drops them
        safe = f"{safe[:-1]}_"
    return _shortened(safe, name) if len(safe.encode()) > NAME_BYTES else safe


def _shortened(name: str, original: str) -> str:
    start = name.encode()[: NAME_BYTES - 20].decode(errors="ignore")
    return f"{start}~{hashlib.sha256(original.encode()).hexdigest()[:16]}"
