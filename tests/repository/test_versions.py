"""Which versions are supported is said once, and what differs between them is known in one module."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

import ckptgrad

ROOT = Path(ckptgrad.__file__).parent
REPOSITORY = ROOT.parent
MODULES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT / "compat")


def _jax_names(tree: ast.AST) -> set[str]:
    """The names that a module gives to JAX and to parts of it."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {(a.asname or a.name).split(".")[0] for a in node.names if a.name.split(".")[0] in ("jax", "jaxlib")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("jax", "jaxlib"):
            names |= {a.asname or a.name for a in node.names}
    return names


def _root(node: ast.AST) -> str | None:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _compares_class_names(comparison: ast.Compare) -> bool:
    """Whether `type(x).__name__` is compared with a text: how a class is recognised that no public name leads to."""
    nodes = list(ast.walk(comparison))
    named = any(isinstance(n, ast.Attribute) and n.attr == "__name__" and isinstance(n.value, ast.Call) for n in nodes)
    return named and any(isinstance(n, ast.Constant) and isinstance(n.value, str) for n in nodes)


def knowledge_of_versions(source: str) -> list[str]:
    """What a module does that belongs in `compat`: versions, probing for JAX's names, private classes and imports."""
    tree = ast.parse(source)
    names, found = _jax_names(tree), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ("__version__", "__version_info__") and _root(node) in names:
            found.append(f"line {node.lineno}: the version of JAX")
        if isinstance(node, ast.Attribute) and node.attr == "_src" and _root(node) in names:
            found.append(f"line {node.lineno}: a private name")
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            if any(m.startswith(("jax._src", "jaxlib._")) for m in modules):
                found.append(f"line {node.lineno}: a private import")
        if names and isinstance(node, ast.Compare) and _compares_class_names(node):
            found.append(f"line {node.lineno}: a class by its name")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("hasattr", "getattr"):
            literal = len(node.args) > 1 and isinstance(node.args[1], ast.Constant)
            if literal and _root(node.args[0]) in names:
                found.append(f"line {node.lineno}: probing for a name of JAX's")
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_versions_are_known_in_one_module(module):
    assert knowledge_of_versions(module.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import jax\nif jax.__version__ > '0.11': pass",
        "import jaxlib as lib\nlib.__version__",
        "from jax._src import core",
        "import jax._src.core as core",
        "import jax\njax._src.core",
        "from jax import lax\nhasattr(lax, 'log2_p')",
        "import jax.numpy as jnp\ngetattr(jnp, 'new', None)",
        "import jax\ntype(effect).__name__ == 'NamedAxisEffect'",
        "import jax\n'ordered' in type(effect).__name__.lower()",
    ],
)
def test_the_check_sees(source):
    assert knowledge_of_versions(source)


def _project() -> dict:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def test_the_declared_range_is_the_range_that_is_tested():
    project = _project()
    pairs = re.findall(r'^  "(3\.\d+) (jax\S*) jaxlib\S*"$', (REPOSITORY / ".ci" / "run").read_text(), re.MULTILINE)
    (oldest, pinned), *_, (newest, latest) = pairs
    assert project["requires-python"] == f">={oldest}"
    declared = [c.rpartition(" ")[2] for c in project["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert declared == [f"3.{minor}" for minor in range(int(oldest[2:]), int(newest[2:]) + 1)]
    minimum = next(d for d in project["dependencies"] if d.startswith("jax>=")).removeprefix("jax>=")
    assert pinned.startswith(f"jax=={minimum}")
    assert latest == "jax", "the newest that there is"


def test_types_are_shipped():
    assert (ROOT / "py.typed").exists()
