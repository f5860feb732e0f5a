"""The state of a training on disk, always whole: a file is written beside the old one, and then takes its place."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ckptgrad.errors import OptionError

_LEAF = "leaf {}"


@dataclass(frozen=True)
class Saved:
    """The state after some steps.

    Attributes:
        job: what is trained, as plain data by name: a state belongs to one job.
        losses: one per step that was taken.
        leaves: the arrays of the state.
    """

    job: Mapping[str, Any]
    losses: Sequence[float]
    leaves: Sequence[np.ndarray]

    @property
    def digest(self) -> str:
        """Tells states apart."""
        parts = [json.dumps([dict(self.job), list(self.losses)]).encode(), *(np.ascontiguousarray(x) for x in self.leaves)]
        found = hashlib.sha256()
        for part in parts:
            found.update(part)
        return found.hexdigest()


def save(path: Path, state: Saved) -> None:
    """Write a state; whoever is killed on the way leaves the old file.

    Raises:
        OSError: it cannot be written.
    """
    arrays: dict[str, Any] = {_LEAF.format(k): np.asarray(x) for k, x in enumerate(state.leaves)}
    arrays |= {"job": np.array(json.dumps(dict(state.job))), "losses": np.array(state.losses, np.float64)}
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with part.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def load(path: Path, job: Mapping[str, Any], leaves: Sequence[Any]) -> Saved | None:
    """The state that a file holds; None where there is no file.

    Args:
        path: of the file.
        job: what is to be trained.
        leaves: arrays of the shapes and types that the state must have.

    Raises:
        OptionError: the file is not a state, or that of another job.
    """
    try:
        with np.load(path) as file:
            saved = Saved(
                json.loads(str(file["job"])), file["losses"].tolist(), [file[_LEAF.format(k)] for k in range(len(leaves))]
            )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise OptionError(f"{path} does not hold the state of this training ({error}); name another file") from None
    others = [name for name in sorted({*saved.job, *job}) if saved.job.get(name) != job.get(name)]
    if not others and any(a.shape != b.shape or a.dtype != b.dtype for a, b in zip(saved.leaves, leaves, strict=True)):
        others = ["the types of numbers"]
    if others:
        raise OptionError(f"{path} holds the state of another training ({', '.join(others)} differ); name another file")
    return saved
