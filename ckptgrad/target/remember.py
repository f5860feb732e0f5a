"""What was measured, kept on disk: by the program's text, the device, the compiler's options and the versions.

One SQLite file in the user's cache folder, or in the folder that the environment variable CKPTGRAD_CACHE names ("off":
nothing is kept).  SQLite makes it safe for several processes at once; whatever goes wrong with the file, measuring goes
on without it, and what stands in it is believed only where it is a number that can have been measured.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from ckptgrad.compat import VERSIONS
from ckptgrad.target.target import Target

FILE = "measurements.sqlite"
# No number of bytes, of seconds, or of operations per second is as large.
_BEYOND = 1e20
# Where users give options to XLA's compilers.
_FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")
# Seconds to wait for a file that another process has locked: at a time, and without success in this process's life.
PATIENCE, MOST_PATIENCE = 2.0, 4.0
# Seconds waited without success, by folder.
_WAITED: dict[Path, float] = {}


def remembered(target: Target, what: str, text: str, measure: Callable[[], float], *, positive: bool = False) -> float:
    """The number that was measured for this target and text before, or that `measure` gives now.

    Args:
        target: what it was measured on, or compiled for.
        what: the quantity and its unit.
        text: the program that it is a property of.
        measure: called where nothing is remembered.
        positive: whether it cannot be zero.
    """
    return remembered_together(target, (what,), text, lambda: (measure(),), positive=positive)[0]


def remembered_together(
    target: Target,
    quantities: Sequence[str],
    text: str,
    measure: Callable[[], Sequence[float]],
    *,
    positive: bool = False,
) -> list[float]:
    """As `remembered`, of several quantities that are measured at once."""
    known = recalled(target, quantities, text, positive=positive)
    if known is not None:
        return known
    values = list(measure())
    remember(target, quantities, text, values, positive=positive)
    return values


def remember(
    target: Target, quantities: Sequence[str], text: str, values: Sequence[float], *, positive: bool = False
) -> None:
    """Keep numbers for `recalled`, in place of those that were kept before."""
    pairs = zip(quantities, values, strict=True)
    kept = [(_key(target, what, text), value) for what, value in pairs if _is_plausible(value, positive)]
    if kept:
        rows = ", ".join(["(?, ?)"] * len(kept))
        _ask(f"INSERT OR REPLACE INTO measurements VALUES {rows}", *(x for row in kept for x in row))


def recalled(target: Target, quantities: Sequence[str], text: str, *, positive: bool = False) -> list[float] | None:
    """The numbers of `remembered_together`, if all of them were measured before."""
    return recalled_rows(target, [quantities], text, positive=positive)[0]


def recalled_rows(
    target: Target, rows: Sequence[Sequence[str]], text: str, *, positive: bool = False
) -> list[list[float] | None]:
    """The same of several rows of quantities, each whole or not at all, asked for at once."""
    keys = [[_key(target, what, text) for what in row] for row in rows]
    flat = [key for row in keys for key in row]
    places = ", ".join("?" * len(flat))
    values = dict(_ask(f"SELECT key, value FROM measurements WHERE key IN ({places})", *flat))
    found = [[values[key] for key in row if key in values and _is_plausible(values[key], positive)] for row in keys]
    return [values if len(values) == len(row) else None for values, row in zip(found, keys, strict=True)]


def _is_plausible(value: Any, positive: bool) -> bool:
    """Whether it is a number of bytes, seconds, or operations per second: not text, not infinite, not negative."""
    return isinstance(value, (int, float)) and 0 <= value < _BEYOND and not (positive and value == 0)


def folder() -> Path | None:
    """Where measurements are kept; None if nowhere."""
    named = os.environ.get("CKPTGRAD_CACHE")
    if named == "off":
        return None
    return Path(named) if named else user_cache_path("ckptgrad")


def _key(target: Target, what: str, text: str) -> str:
    flags = [os.environ.get(name, "") for name in _FLAGS]
    options = [f"{name}={value}" for name, value in target.compiler_options]
    parts = (what, *target.key, str(os.cpu_count()), *VERSIONS, *target.compiler_versions, *flags, *options, text)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _ask(question: str, *values: Any) -> list[Any]:
    place = folder()
    if place is None:
        return []
    patience = max(0.0, min(PATIENCE, MOST_PATIENCE - _WAITED.get(place, 0.0)))
    began = time.monotonic()
    try:
        place.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(place / FILE, timeout=patience, isolation_level=None)) as database:
            database.execute("CREATE TABLE IF NOT EXISTS measurements (key TEXT PRIMARY KEY, value REAL)")
            return database.execute(question, values).fetchall()
    except sqlite3.OperationalError:
        _WAITED[place] = _WAITED.get(place, 0.0) + time.monotonic() - began
        return []
    except (OSError, sqlite3.Error):
        return []
