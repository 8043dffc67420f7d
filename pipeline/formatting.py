"""Format counts, sizes, durations and suggestions for people."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def count(n: int) -> str:
    """Return a number with thousands separators: 1,234,567."""
    return f"{n:,}"


def counted(n: int, noun: str) -> str:
    """Return a number with its noun, which forms its plural with s: 1 part, 1,234 parts."""
    return f"{count(n)} {noun if n == 1 else f'{noun}s'}"


def share(n: int, of: int, noun: str) -> str:
    """Return how many of all a sentence is about, with its verb: 1 of 8 shards is, 3 of 8 shards are."""
    return f"{count(n)} of {counted(of, noun)} {'is' if n == 1 else 'are'}"


def first_of(names: Sequence[str], most: int = 3, total: int | None = None) -> str:
    """Return the first names, and how many more there are: a, b, c and 4 more.

    total: Number of all names, if `names` has the first ones only.
    """
    left = (len(names) if total is None else total) - most
    more = f" and {count(left)} more" if left > 0 else ""
    return ", ".join(names[:most]) + more


def percent(fraction: float) -> str:
    """Return a fraction as a percentage: 69.2 %."""
    return f"{100 * fraction:.1f} %"


def size(n_bytes: float) -> str:
    """Return a number of bytes in decimal units: 17.5 MB."""
    if n_bytes < 1000:
        return counted(round(n_bytes), "byte")
    for unit in ("kB", "MB", "GB"):
        n_bytes /= 1000
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
    return f"{n_bytes / 1000:,.3g} TB"


def duration(seconds: float) -> str:
    """Return a duration to about two digits: 0.4 s, 12 s, 3 min 05 s, 4 h 12 min."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def unit_duration(seconds: float) -> str:
    """Return the duration of one unit to three digits: 3.2 ms, 1.5 s."""
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return ` (did you mean x?)` if one of `names` is similar to `name` in any case, else an empty string."""
    by_lower = {each.lower(): each for each in names}
    similar = get_close_matches(name.lower(), by_lower, n=1)
    return f" (did you mean {by_lower[similar[0]]}?)" if similar else ""
