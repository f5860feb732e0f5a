"""Results as JSON: cases with their rows, and the runs that produced them.

A file holds each case once. Cases may come from different runs, so that one case can be repeated alone. Each refers by index
to a list of runs, which record machine, versions, commit and date.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ckptgrad.bench.rows import Row
from ckptgrad.errors import CkptgradError

FORMAT = 1


class BookError(CkptgradError):
    """A file does not hold results, or cannot be read or written."""


@dataclass(frozen=True)
class Result:
    """The rows of a case, and where they were measured.

    Attributes:
        name, title, about: those of the case.
        run: machine, versions and commit as `environment` returns them, and the date.
        quick: whether it ran at its quick size, so that its figures mean nothing.
        rows: all rows, or those before the failure.
        seconds: wall-clock time of the whole case.
        failure: why it ended early: "interrupted" or the error; empty if it did not.
    """

    name: str
    title: str
    about: str
    run: dict[str, Any]
    quick: bool
    rows: tuple[Row, ...] = ()
    seconds: float = 0.0
    failure: str = ""

    def to_dict(self, run: int) -> dict[str, Any]:
        """As JSON; `run` is the index of its run in the book."""
        data = {name: getattr(self, name) for name in ("title", "about", "quick", "seconds")}
        data |= {"failure": self.failure} if self.failure else {}
        return data | {"run": run, "rows": [row.to_dict() for row in self.rows]}


@dataclass
class Book:
    """Results by name of case."""

    results: dict[str, Result] = field(default_factory=dict)

    def add(self, result: Result) -> None:
        """Add a result, replacing an earlier one, unless this one ended early and the earlier one did not."""
        earlier = self.results.get(result.name)
        if not result.failure or earlier is None or earlier.failure or earlier.quick > result.quick:
            self.results[result.name] = result

    def to_dict(self) -> dict[str, Any]:
        """As JSON; `from_dict` reads it."""
        runs: list[dict[str, Any]] = []
        cases = {}
        for name, result in sorted(self.results.items()):
            if result.run not in runs:
                runs.append(result.run)
            cases[name] = result.to_dict(runs.index(result.run))
        return {"format": FORMAT, "runs": runs, "cases": cases}

    @classmethod
    def from_dict(cls, data: Any) -> Book:
        """The book that `to_dict` wrote.

        Raises:
            BookError: the data is not a book, or has another format.
        """
        try:
            if data["format"] != FORMAT:
                raise BookError(f"these results have format {data['format']}, this version reads {FORMAT}; run them again")
            book = cls()
            for name, case in data["cases"].items():
                rows = tuple(Row.from_dict(row) for row in case["rows"])
                fields = {key: value for key, value in case.items() if key not in ("run", "rows")}
                book.results[name] = Result(name=name, run=data["runs"][case["run"]], rows=rows, **fields)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise BookError(f"not a results file of `ckptgrad bench`: {type(error).__name__}: {error}") from None
        return book

    @classmethod
    def load(cls, path: Path) -> Book:
        """Read a file.

        Raises:
            BookError: it cannot be read, or does not hold results.
        """
        try:
            return cls.from_dict(json.loads(path.read_text()))
        except (OSError, ValueError) as error:
            raise BookError(f"cannot read results from {str(path)!r}: {error}") from None
        except BookError as error:
            raise BookError(f"{str(path)!r}: {error}") from None

    def save(self, path: Path) -> None:
        """Write a file atomically: a reader never sees half of it.

        Raises:
            BookError: it cannot be written.
        """
        part = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(self.to_dict(), indent=1) + "\n")
            os.replace(part, path)
        except OSError as error:
            raise BookError(f"cannot write results to {str(path)!r}: {error}") from None
