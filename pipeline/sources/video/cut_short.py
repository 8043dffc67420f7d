"""Video files that end too early, as far as their own structure tells without an index."""

from pipeline.sources.listing.file_signatures import transport_packet_bytes

START_BYTES = 1 << 16
"""First bytes of a file that `cut_short` needs: an ASF header lies in them."""

_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def cut_short(start: bytes, size: int) -> str | None:
    """Return how a file of `size` bytes shows that its end is missing; None if it does not."""
    packet_bytes = transport_packet_bytes(start)
    if packet_bytes is not None and size % packet_bytes != 0:
        return "inside a packet"
    declared = _asf_bytes(start)
    return f"with byte {size:,} of {declared:,}" if declared is not None and size < declared else None


def _asf_bytes(start: bytes) -> int | None:
    """Return the size of an ASF file by its header; None for other files, and for a broadcast, which has no size."""
    at = start.find(_FILE_PROPERTIES)
    if not start.startswith(_ASF) or at < 0 or len(start) < at + 92 or start[at + 88] & 1:
        return None
    return int.from_bytes(start[at + 40 : at + 48], "little")
