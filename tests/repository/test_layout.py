"""Tests stand where the package has what they test."""

from __future__ import annotations

from pathlib import Path

import ckptgrad

PACKAGE = Path(ckptgrad.__file__).parent
TESTS = Path(__file__).parents[1]

# Folders of tests that mirror no room, and what their tests are about.
WITHOUT_ROOM = {
    "end_to_end": "what a user sees of several rooms together",
    "repository": "the package and its documents as they are distributed",
    "notebooks": "the notebooks of the repository, one by one",
    "fuzz": "the search for wrong gradients, a program of its own",
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
