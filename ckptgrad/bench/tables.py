"""Results as tables, for a terminal and in Markdown: one column per value, with the unit that its name carries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ckptgrad.bench.book import Book, Result
from ckptgrad.bench.rows import Row, Value

# What columns that several cases have say, by the names of their values.
MEANINGS = {
    "budget_bytes": "what the plan is given",
    "predicted_bytes": "the peak beyond the arguments that the plan expects",
    "certified_bytes": "the peak beyond the arguments that XLA's buffer assignment has",
    "temporaries_bytes": "what of this is no output",
    "kept": "whether the certified bytes are within the budget",
    "difference": "the largest of the gradients from jax.grad's, relative to the largest entry",
    "bits": "whether all bits of the gradients equal those of jax.grad's",
    "plans_compiled": "how many programs were compiled until one fitted",
}
UNITS = {"bytes": "MiB", "seconds": "s", "ratio": "ratio", "share": "%", "states": "states"}
MIB = 2**20


def unit_of(name: str) -> str:
    """The unit in which a value's name ends; "" for a count or a word."""
    end = name.rpartition("_")[2]
    return end if end in UNITS else ""


def heading(name: str) -> str:
    """A column's heading: the value's name and unit.

    Example:
        >>> heading("certified_bytes"), heading("time_ratio"), heading("forward_steps"), heading("seconds")
        ('certified, MiB', 'time, ratio', 'forward steps', 's')
    """
    unit = unit_of(name)
    what = name.removesuffix(unit).strip("_").replace("_", " ")
    return ", ".join(part for part in (what, UNITS.get(unit, "")) if part)


def cell(name: str, value: Value) -> str:
    """A value as text, in its unit.

    Example:
        >>> cell("certified_bytes", 3 * 2**20), cell("off_share", 0.012), cell("kept", True), cell("steps", 4096)
        ('3.0', '1.2', 'yes', '4,096')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "NO"
    match unit_of(name):
        case "bytes":
            size = value / MIB
            return f"{size:,.1f}" if abs(size) >= 1 or not size else f"{size:.3f}"
        case "ratio":
            return f"{value:.2f}"
        case "share":
            return f"{100 * value:.1f}"
        case "states":
            return f"{value:,.0f}"
        case "seconds":
            return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def columns(rows: Sequence[Row]) -> list[str]:
    """The names of all values, in an order in which each follows its predecessor in its row."""
    names: list[str] = []
    for row in rows:
        place = 0
        for name in row.values:
            if name not in names:
                names.insert(place, name)
            place = names.index(name) + 1
    return names


def cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """The headings, and the cells of each row: its run, its values, and its note if any row has one."""
    names, noted = columns(rows), any(row.note or row.skipped for row in rows)
    texts = []
    for row in rows:
        values = [cell(name, row.values[name]) if name in row.values else "" for name in names]
        texts.append([row.run, *values, *[f"left out: {row.skipped}" if row.skipped else row.note] * noted])
    return ["", *map(heading, names), *["note"] * noted], texts


def legend(rows: Sequence[Row]) -> str:
    """What the columns say that several cases have; "" where there are none of these."""
    known = [name for name in columns(rows) if name in MEANINGS]
    return "; ".join(f"{heading(name).partition(',')[0]}: {MEANINGS[name]}" for name in known)


def table(result: Result) -> Table:
    """A case's results, the rows of each group under the group's name."""
    headings, texts = cells(result.rows)
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for k, name in enumerate(headings):
        drawn.add_column(name, justify="left" if k == 0 or name == "note" else "right", no_wrap=k == 0)
    group = ""
    for row, line in zip(result.rows, texts, strict=True):
        if row.group != group:
            group = row.group
            drawn.add_row(Text(group, style="italic"))
        drawn.add_row(Text(f"  {line[0]}" if group else line[0]), *map(Text, line[1:]))
    return drawn


def section(result: Result) -> RenderableType:
    """A case's results for a terminal, under its title."""
    title = Text(f"{result.name}: {result.title}", style="bold")
    return Group(title, table(result), Text(legend(result.rows)), Text(footer(result)), "")


PREFACE = """Everything that `ckptgrad bench` compares, as measured. Bytes come from XLA's buffer assignment unless a column
says otherwise, and are the same in every run. Times are medians, interleaved in one process, on a shared machine. Programs
for other chips come first; they were compiled here and not run."""
# The names of cases that are compiled for other chips begin like this; their sections come first.
FIRST = ("devices-", "scale-", "targets-")


def page(book: Book, pictures: Sequence[Path] = ()) -> str:
    """A book in Markdown, accelerators first, with those pictures of its cases that lie beside it."""
    drawn = {path.stem: path.name for path in pictures}
    parts = ["# The benchmark book", PREFACE, environments(book)]
    for name, result in sorted(book.results.items(), key=lambda item: not item[0].startswith(FIRST)):
        parts.append(markdown(result))
        if name in drawn:
            parts.append(f"![{result.title}]({drawn[name]})")
    return "\n\n".join(parts) + "\n"


def markdown(result: Result) -> str:
    """A case's results in Markdown."""
    headings, texts = cells(result.rows)
    grouped = any(row.group for row in result.rows)
    if grouped:
        headings, texts = ["", *headings], [[row.group, *line] for row, line in zip(result.rows, texts, strict=True)]
    rule = ["---" if k <= grouped or name == "note" else "---:" for k, name in enumerate(headings)]
    lines = ["| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in (headings, rule, *texts)]
    parts = f"## {result.name}: {result.title}", result.about, "\n".join(lines), footer(result)
    return "\n\n".join(part.strip() for part in parts if part)


def footer(result: Result) -> str:
    """One line: how long the case took, when, and at which commit."""
    commit, date = result.run.get("commit"), result.run.get("date", "").partition("T")[0]
    parts = [f"ended early ({result.failure})"] if result.failure else []
    parts += ["quick size: the figures mean nothing"] if result.quick else []
    parts += [f"took {result.seconds:,.0f} s", date]
    parts += [f"commit {commit[:10]}{'+ changes' * commit.endswith('+')}"] if commit else []
    return "; ".join(part for part in parts if part)


def environments(book: Book) -> str:
    """The machines and versions that the results were measured with, each once."""
    return "\n".join(dict.fromkeys(_environment(result.run) for result in book.results.values()))


def _environment(run: dict[str, Any]) -> str:
    machine, versions = run.get("machine"), run.get("versions", {})
    parts = [f"{name} {version}" for name, version in versions.items() if version]
    if machine:
        memory = f"{machine['memory_bytes'] / MIB / 1024:.0f} GiB"
        parts[:0] = [machine["processor"], f"{machine['cores']} cores", memory, machine["system"]]
        parts += [] if machine["platform"] == "cpu" else [f"{machine['devices']} x {machine['device']}"]
    return ", ".join(parts) or "machine unknown"


def comparison(book: Book, earlier: Book, bytes_share: float = 0.01, time_share: float = 0.1) -> RenderableType:
    """Where bytes and counts differ from an earlier book's by more than `bytes_share`, times by more than `time_share`."""
    drawn = Table(box=None, pad_edge=False, header_style="bold", title="against the earlier results", title_justify="left")
    for name, justify in (("case", "left"), ("run", "left"), ("value", "left"), ("earlier", "right"), ("now", "right")):
        drawn.add_column(name, justify=justify)  # type: ignore[arg-type]
    drawn.add_column("change", justify="right")
    for name in filter(earlier.results.__contains__, book.results):
        before = {(row.group, row.run): row for row in earlier.results[name].rows}
        for row in book.results[name].rows:
            old = before.get((row.group, row.run), Row(row.run))
            for value_name in filter(old.values.__contains__, row.values):
                now, then = row.values[value_name], old.values[value_name]
                limit = time_share if unit_of(value_name) in ("seconds", "ratio") else bytes_share
                if isinstance(now, str) or isinstance(then, str) or now == then or abs(now - then) <= limit * abs(then):
                    continue
                change = f"{now / then - 1:+.0%}" if then else ""
                what = f"{row.group}, {row.run}" if row.group else row.run
                drawn.add_row(name, what, heading(value_name), cell(value_name, then), cell(value_name, now), change)
    if not drawn.row_count:
        return Text(f"against the earlier results: nothing differs by more than {bytes_share:.0%} (times: {time_share:.0%})")
    return drawn
