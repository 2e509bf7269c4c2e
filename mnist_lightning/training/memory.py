"""How the process treats memory that it has freed."""

import ctypes
import platform

# Parameters of glibc's mallopt, from malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed() -> bool:
    """Lets the process keep freed memory for the next step instead of handing it back to the operating system.

    By default glibc returns a step's activations when backward frees them, and the next step faults every page in again:
    5,000 page faults a step of Net3 at batch 128. Without them a step takes 14 ms in place of 20 (two threads), and the
    process's peak stays what it was, since each step needs the same memory.

    Returns:
        Whether it could be set; elsewhere than with glibc it cannot, and nothing changes.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # Never trim the heap, and serve large blocks from it rather than by a mapping of their own.
    return bool(mallopt(_M_TRIM_THRESHOLD, -1) and mallopt(_M_MMAP_MAX, 0))
