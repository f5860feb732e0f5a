# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""A folder as a tier: one file for each value, with a checksum that is compared when it is read again.

Each open tier has a folder of its own inside the one that it is given, and a lock on a file beside that, which the system
lets go of when the process ends, however it does.  So several processes may share a folder, and what a killed one left is
removed by the next that opens a tier there.
"""

from __future__ import annotations

import errno
import os
import shutil
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import jax
import numpy as np

from ckptgrad.errors import TierError
from ckptgrad.execution.tiers.tier import kind

PREFIX, LOCK = "ckptgrad-", ".lock"
# Bytes that are written or checked at once.
CHUNK = 1 << 24


def _free(place: str) -> int:
    try:
        return shutil.disk_usage(place).free
    except OSError as error:
        raise TierError(
            f"the folder {place} of the tier disk cannot be used: {error.strerror}; name one that is there"
        ) from None


@kind("disk", _free, asks_for_place=True)
class DiskStore:
    """Values in files."""

    def __init__(self, place: str, capacity: int, device: Any) -> None:
        self._parent, self._capacity, self._device = Path(place), capacity, device
        self._sizes: dict[int, int] = {}
        self._sums: dict[int, int] = {}
        try:
            reclaim(self._parent)
            self._lock, self.folder = _own_folder(self._parent)
        except OSError as error:
            raise TierError(
                f"the folder {place} of the tier disk cannot be used: {error.strerror}; name one that is there and can be "
                f"written to"
            ) from None

    def path(self, key: int) -> Path:
        """The file of a value."""
        return self.folder / f"{key}.bin"

    def put(self, key: int, value: Any) -> None:
        """As `Store.put`."""
        data = _as_bytes(np.asarray(value))
        # Another thread drops values meanwhile.
        held, path = sum([*self._sizes.values()]), self.path(key)
        if held + len(data) > self._capacity:
            raise TierError(
                f"the tier disk:{self._parent} holds {held} of {self._capacity} bytes; {len(data)} more do not fit"
            )
        checksum = 0
        try:
            with open(path, "xb", buffering=0) as file:
                for start in range(0, len(data), CHUNK):
                    part = data[start : start + CHUNK]
                    checksum = zlib.crc32(part, checksum)
                    while part:
                        part = part[file.write(part) :]
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            what = "make room there, or give the tier fewer bytes" if full else "see that the folder can be written to"
            raise TierError(f"cannot write {len(data)} bytes to {path}: {error.strerror}; {what}") from None
        self._sizes[key], self._sums[key] = len(data), checksum

    def get(self, key: int, like: Any) -> Any:
        """As `Store.get`."""
        value, path = np.empty(like.shape, like.dtype), self.path(key)
        data = _as_bytes(value)
        read = checksum = 0
        try:
            with open(path, "rb", buffering=0) as file:
                while read < len(data) and (count := file.readinto(data[read : read + CHUNK])):
                    checksum = zlib.crc32(data[read : read + count], checksum)
                    read += count
        except OSError as error:
            raise TierError(
                f"cannot read {path}: {error.strerror}; something else removed it: give the tier a folder of its own, and "
                f"run the gradient again"
            ) from None
        if read != len(data) or checksum != self._sums[key]:
            raise TierError(
                f"{path} is damaged: it does not hold what was written to it; check the disk, and run the gradient again"
            )
        return jax.device_put(value, self._device).block_until_ready()

    def drop(self, key: int) -> None:
        """As `Store.drop`."""
        if self._sizes.pop(key, None) is not None:
            with suppress(FileNotFoundError):
                self.path(key).unlink()

    def close(self) -> None:
        """As `Store.close`."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            self.folder.with_suffix(LOCK).unlink()
        with suppress(OSError):
            os.close(self._lock)


def reclaim(parent: Path) -> list[Path]:
    """Remove what processes left in a folder that did not end by themselves; the folders that were removed."""
    gone: list[Path] = []
    for lock in parent.glob(f"{PREFIX}*{LOCK}"):
        with suppress(OSError):
            descriptor = os.open(lock, os.O_RDWR)
            try:
                if _try_lock(descriptor):
                    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                    lock.unlink(missing_ok=True)
                    gone.append(lock.with_suffix(""))
            finally:
                os.close(descriptor)
    return gone


def _own_folder(parent: Path) -> tuple[int, Path]:
    """A new folder, and the lock that says that it is in use."""
    while True:
        folder = parent / f"{PREFIX}{uuid4().hex[:12]}"
        lock = folder.with_suffix(LOCK)
        descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        # Between these two calls another process may have taken it for a leftover.
        if _try_lock(descriptor) and lock.exists():
            folder.mkdir(mode=0o700)
            return descriptor, folder
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    """Whether nobody else holds the lock: then this process does, until it closes the file or ends."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _as_bytes(array: np.ndarray) -> memoryview:
    """The bytes of an array, which is written as it lies."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
