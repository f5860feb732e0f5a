"""The file of compiled kernels that programs of one target share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ckptgrad.target.kernel_cache import kernel_cache


def test_threads_share_one_folder_that_is_there():
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda k: kernel_cache(("gpu", str(k % 2))), range(64)))
    assert len({*paths}) == 2
    assert all(Path(path).parent.is_dir() for path in paths)
