"""Settings of the CPU's memory allocator."""

import torch

MAX_MMAP_THRESHOLD = 32 << 20  # glibc's DEFAULT_MMAP_THRESHOLD_MAX, bytes
_OVERHEAD = 8 << 10  # more than malloc adds to a block for its header and alignment, bytes


def keep_freed_memory() -> None:
    """Make glibc keep the memory of freed tensors of up to 32 MB for later ones. No effect with other allocators.

    By default glibc returns large blocks to the system, and every 4 kB page that is used again costs a page fault: a
    tenth of a model's time in total. Freeing one block of the largest size raises both of its thresholds (the size
    above which blocks are mapped, and the free memory above which the heap is trimmed) to their maximum.
    """
    torch.empty(MAX_MMAP_THRESHOLD - _OVERHEAD, dtype=torch.uint8)
