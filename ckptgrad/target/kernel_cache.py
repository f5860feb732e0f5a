"""Files in which a compiler keeps the kernels that it has compiled, for other programs of this process that hold the same.

Options of one kind of stage have most of their kernels in common, and so have plans of one program for several budgets; code
generation takes most of a compilation.  Only programs that do not run in this process share kernels.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
from functools import cache
from pathlib import Path

_ASKING = threading.Lock()


def kernel_cache(key: tuple[str, ...]) -> str:
    """The path of the file for targets of this key, gone with the process."""
    # Two threads that ask at once would make two folders, and the one that is not kept is deleted.
    with _ASKING:
        folder = _folder().name
    name = hashlib.sha256("\0".join(key).encode()).hexdigest()[:16]
    return str(Path(folder) / name)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="ckptgrad-kernels-")
