"""Numbers as people read them."""


def count(n: int) -> str:
    """1,234,567"""
    return f"{n:,}"


def size(n: float) -> str:
    """Bytes in decimal units: 17.5 MB"""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:,.0f} bytes" if unit == "bytes" else f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:,.3g} TB"


def duration(seconds: float) -> str:
    """0.4 s, 12 s, 3 min 05 s, 4 h 12 min"""
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def millis(seconds: float) -> str:
    """Seconds of one unit: 3.2 ms, 1.5 s"""
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
