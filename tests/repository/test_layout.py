"""Tests stand where the package has what they test, and each file of the package has its tests."""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import ckptgrad
from ckptgrad.bench import registry as benchmarks
from ckptgrad.example_models import SWEEP
from ckptgrad.loops.reversals.reversal import registered as reversals
from tests.cases.policies import ROWS
from tests.cases.rules import CASES

PACKAGE = Path(ckptgrad.__file__).parent
TESTS = Path(__file__).parents[1]

# Folders of tests that mirror no room, and what their tests are about.
WITHOUT_ROOM = {
    "end_to_end": "what a user sees of several rooms together",
    "repository": "the package and its documents as they are distributed",
    "notebooks": "the notebooks of the repository, one by one",
    "fuzz": "the search for wrong gradients, a program of its own",
}


# Of `rules.decorators`: those that register a derivative, or that there is none.
DECORATORS = {"bprop", "defined", "elementwise", "linear", "pullback", "tangent", "transcendental", "zero"}


def stems(modules: set[str]) -> set[str]:
    return {module.rpartition(".")[2] for module in modules}


@cache
def rules_with_rows() -> set[str]:
    """The files whose decorators name a primitive that has a row."""
    covered = {name for case in CASES for name in case.primitives}
    return {file.stem for file in (PACKAGE / "rules").glob("*.py") if primitives_named(file.read_text()) & covered}


def primitives_named(source: str) -> set[str]:
    """The primitives for which rules are registered: the first argument of a decorator, `p.sin_p` or a name."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and node.args]
    first = [call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id in DECORATORS]
    attributes = {a.attr.removesuffix("_p") for a in first if isinstance(a, ast.Attribute)}
    return attributes | {a.value for a in first if isinstance(a, ast.Constant)}


def benchmarks_by_file() -> set[str]:
    runs = [case.run for case in benchmarks.registered().values()]
    return stems({getattr(run, "func", run).__module__ for run in runs})


# Rooms whose files are entries of one registry, tested row by row: the files that have a row.
TABLES: dict[str, Callable[[], set[str]]] = {
    "rules": rules_with_rows,  # tests/cases/rules.py
    "planning/policies": lambda: stems({row.policy.__module__ for row in ROWS}),  # tests/cases/policies.py
    "loops/reversals": lambda: stems({r.way.__module__ for r in reversals().values()}),  # loops/test_reversals.py
    "bench/cases": benchmarks_by_file,  # cli/test_bench.py
    "example_models": lambda: stems({make.__module__ for make, _ in SWEEP.values()}),  # test_example_models.py
}

# Files that run in processes of their own, and the tests that start these.
WITHOUT_TESTS = {
    "bench/torch_transformer.py": "cli/test_bench.py",
    "bench/worker.py": "cli/test_bench.py",
    "meters/resident_process.py": "meters/test_resident.py",
}


def names_what_it_tests(file: Path) -> bool:
    """Whether a test file is named after a file or a folder that stands in the same room, or after the room."""
    room, name = PACKAGE / file.relative_to(TESTS).parent, file.stem.removeprefix("test_")
    return (room / f"{name}.py").is_file() or (room.is_dir() and ((room / name).is_dir() or room.name == name))


def test_a_file_of_tests_is_named_after_what_it_tests():
    files = [file for file in TESTS.rglob("test_*.py") if file.relative_to(TESTS).parts[0] not in WITHOUT_ROOM]
    assert len(files) > 80
    assert [str(file.relative_to(TESTS)) for file in files if not names_what_it_tests(file)] == []


def test_the_check_sees():
    right = ["test_request.py", "graph/test_trace.py", "planning/test_policies.py", "rules/test_rules.py"]
    wrong = ["test_hopes.py", "graph/test_speed.py", "rooms/test_trace.py", "rooms/test_rooms.py", "graph/test_rules.py"]
    assert [names_what_it_tests(TESTS / file) for file in [*right, *wrong]] == [True] * len(right) + [False] * len(wrong)


def has_tests(file: Path) -> bool:
    """Whether a file of the package has tests of its name, or a row in the table of its room."""
    place = file.relative_to(PACKAGE)
    table = TABLES.get(place.parent.as_posix(), set)
    return (TESTS / place.parent / f"test_{file.name}").is_file() or file.stem in table()


def holds_functions(file: Path) -> bool:
    """What only declares (figures, fields, registrations) is tested through those who use it."""
    return any(isinstance(node, ast.FunctionDef | ast.Lambda) for node in ast.walk(ast.parse(file.read_text())))


def test_a_file_of_the_package_has_its_tests():
    """But those that are listed."""
    files = [file for file in PACKAGE.rglob("*.py") if file.name != "__init__.py" and holds_functions(file)]
    assert len(files) > 200
    without = {file.relative_to(PACKAGE).as_posix() for file in files if not has_tests(file)}
    assert without == {*WITHOUT_TESTS}
    assert all((TESTS / file).is_file() for file in WITHOUT_TESTS.values())


@pytest.mark.parametrize("room", TABLES)
def test_rows_are_of_files_that_are_there(room):
    rows = TABLES[room]()
    assert rows
    assert rows <= {file.stem for file in (PACKAGE / room).glob("*.py")}
