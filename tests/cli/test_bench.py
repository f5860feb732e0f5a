"""`ckptgrad bench`, as a user calls it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from ckptgrad.bench import registry, runner
from ckptgrad.bench.book import Book
from ckptgrad.bench.registry import registered
from ckptgrad.cli import app
from ckptgrad.cli import bench as command


def run(*words, code=0):
    result = CliRunner().invoke(app, ["bench", *map(str, words)])
    assert result.exit_code == code, result.output
    return result


def test_list_names_every_case():
    names = [line.split()[0] for line in run("--list").stdout.splitlines()]
    assert names == list(registered())


def test_without_arguments_it_lists_and_where_nobody_answers_runs_nothing():
    result = run()
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(registered())
    assert result.stderr == "ckptgrad: name cases, or 'all'\n"


@pytest.mark.parametrize(("answer", "ran"), [("", []), ("planner-gaps, nope", None), ("planner-gaps", ["planner-gaps"])])
def test_it_asks_on_a_terminal(monkeypatch, answer, ran):
    seen = []
    monkeypatch.setattr(command, "_can_answer", lambda: True)
    monkeypatch.setattr(command, "_run", lambda cases, *rest: seen.extend(case.name for case in cases))
    result = CliRunner().invoke(app, ["bench"], input=f"{answer}\n")
    assert result.exit_code == (2 if ran is None else 0)
    assert seen == (ran or [])


def test_an_unknown_case_gives_one_message():
    result = run("nope", code=2)
    assert result.stderr.count("\n") == 1
    assert "unknown case 'nope'" in result.stderr


def test_show_runs_nothing():
    assert "leave out --quick" in run("--show", "results.json", "--quick", code=2).stderr


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    file = tmp_path_factory.mktemp("bench") / "results.json"
    run("planner-gaps", "--quick", "--output", file)
    return file


def test_a_file_grows_case_by_case(results):
    before = Book.load(results).results["planner-gaps"]
    text = run("planner-times", "--quick", "--output", results, "--compare", results).stdout
    assert "planner-times: " in text
    assert "nothing differs" in text
    book = Book.load(results)
    assert sorted(book.results) == ["planner-gaps", "planner-times"]
    assert book.results["planner-gaps"] == before
    environment = book.results["planner-times"].run
    assert environment["machine"]["cores"] >= 1
    assert {"python", "jax", "ckptgrad", "equinox", "torch"} <= environment["versions"].keys()


def test_saved_results_are_shown(results):
    name = "planner-gaps"
    html = results.with_name("book.html")
    run("--show", results, name, "--html", html)
    assert "classical</td>" in html.read_text()
    assert "less possible" in run("--show", results, name).stdout
    assert "| classical | 5 | 0 |" in run("--show", results, "--markdown", name).stdout
    assert list(json.loads(run("--show", results, "--json", name).stdout)["cases"]) == [name]
    assert "no results of 'nope'" in run("--show", results, "nope", code=2).stderr


def test_an_interrupt_keeps_the_rows_so_far(tmp_path, monkeypatch):
    """The interrupt comes after the first row, and ends the case's process."""
    run_case = runner.run_case

    def interrupted(*args):
        for result in run_case(*args):
            yield result
            raise KeyboardInterrupt

    monkeypatch.setattr(command, "run_case", interrupted)
    assert "interrupted in 'steps'" in run("steps", "--quick", "--output", tmp_path / "results.json", code=130).stderr
    kept = Book.load(tmp_path / "results.json").results["steps"]
    assert (len(kept.rows), kept.failure) == (1, "interrupted")


def test_a_failing_case_is_reported_and_the_book_continues(monkeypatch):
    """The case is unknown to the worker, so it fails there."""
    broken = registry.Case("broken", "Breaks", "", registered()["steps"].run)
    monkeypatch.setattr(command, "get_cases", lambda names: [broken, registered()["planner-gaps"]])
    result = run("all", "--quick", code=1)
    assert "case 'broken' ended early: CaseError" in result.stderr
    assert "planner-gaps: " in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", registered())
def test_every_case_runs_at_its_quick_size(name, tmp_path):
    run(name, "--quick", "--output", tmp_path / "results.json", "--png", tmp_path)
    result = Book.load(tmp_path / "results.json").results[name]
    assert result.rows
    assert all(row.values.get("kept") is not False for row in result.rows)
