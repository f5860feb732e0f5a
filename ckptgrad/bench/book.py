"""Results as JSON: cases with their rows, and the runs that they come from.

A file holds each case once. Cases may come from several runs, so that one can be repeated alone; each names its run by its
place in the list of runs, which tells machine, versions, commit and date.
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
    """A file that holds no results."""


@dataclass(frozen=True)
class Result:
    """What a case found.

    Attributes:
        name, title, about: of the case.
        run: machine, versions, commit and date, as `environment` tells them.
        quick: whether it was measured in its quick size, and is no figure to read.
        rows: as far as it came.
        seconds: what the whole case took.
        failure: why it ended early; empty where it did not; "interrupted" or the error.
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
        """As JSON, with the place of its run."""
        data = {name: getattr(self, name) for name in ("title", "about", "quick", "seconds")}
        data |= {"failure": self.failure} if self.failure else {}
        return data | {"run": run, "rows": [row.to_dict() for row in self.rows]}


@dataclass
class Book:
    """Results by the name of their case."""

    results: dict[str, Result] = field(default_factory=dict)

    def add(self, result: Result) -> None:
        """Put a result in, in place of an earlier one; one that ended early does not replace one that did not."""
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
            BookError: it is none, or of another format.
        """
        try:
            if data["format"] != FORMAT:
                raise BookError(f"these results have format {data['format']}, this version reads {FORMAT}; run them again")
            book = cls()
            for name, found in data["cases"].items():
                rows = tuple(Row.from_dict(row) for row in found["rows"])
                fields = {key: value for key, value in found.items() if key not in ("run", "rows")}
                book.results[name] = Result(name=name, run=data["runs"][found["run"]], rows=rows, **fields)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise BookError(f"these are no results of `ckptgrad bench`: {type(error).__name__}: {error}") from None
        return book

    @classmethod
    def load(cls, path: Path) -> Book:
        """Read a file.

        Raises:
            BookError: it cannot be read, or holds no results.
        """
        try:
            return cls.from_dict(json.loads(path.read_text()))
        except (OSError, ValueError) as error:
            raise BookError(f"cannot read results from {str(path)!r}: {error}") from None
        except BookError as error:
            raise BookError(f"{str(path)!r}: {error}") from None

    def save(self, path: Path) -> None:
        """Write a file, at once: it is whole at any moment.

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
