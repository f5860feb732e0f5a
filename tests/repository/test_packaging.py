"""What is loaded when, and which extras bring what is not installed with the package."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]

# Loaded on first use only: by a plan, a report, a command, a meter.
LATE = (
    "scipy.sparse",
    "numba",
    "rich",
    "typer",
    "optax",
    "matplotlib",
    "google.protobuf",
    "psutil",
    "IPython",
    "memory_profiler",
)


def names(requirements):
    return {re.split(r"[\[<>=!;~ ]", requirement)[0] for requirement in requirements}


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout


def test_importing_loads_jax_and_little_else():
    loaded = run("import sys, jax; before = {*sys.modules}; import ckptgrad; print(*{*sys.modules} - before)").split()
    assert "ckptgrad" in loaded
    assert not {*LATE} & {*loaded}


# What is run without a package, and the extra that its message must name.
WITHOUT = [
    ("optax", "train", "from ckptgrad.training.job import *; from ckptgrad.training.model import Shape;"
     "prepare(Job(Shape(1, 8, 1, 8), b'x' * 100, 1, 1, learning_rate=1e-3))"),
    ("matplotlib", "plot", "cg.plan(f, x).plot()"),
    ("google.protobuf", "buffers", "raise cg.CkptgradError(cg.timeline(f, x, observe='xla').readings['xla'].reason)"),
]  # fmt: skip


@pytest.mark.parametrize(("package", "extra", "use"), WITHOUT, ids=[extra for _, extra, _ in WITHOUT])
def test_a_missing_package_is_named_with_its_extra(package, extra, use):
    blocked = (
        f"import sys; sys.modules[{package!r}] = None; import jax.numpy as jnp, ckptgrad as cg; f, x = jnp.sum, jnp.ones(3)"
    )
    said = run(f"{blocked}\ntry:\n    {use}\nexcept cg.CkptgradError as error:\n    print(error)")
    assert f"ckptgrad[{extra}]" in said
    assert {package.removeprefix("google.")} <= names(EXTRAS[extra])


def test_all_brings_every_extra_that_users_want_but_the_large_compilers():
    (everything,) = EXTRAS["all"]
    large = {name for name in EXTRAS if name.endswith("-target")}
    assert {*re.findall(r"[\w-]+", everything)} - {"ckptgrad"} == EXTRAS.keys() - {"all", "peers", "test", "dev"} - large


def test_addresses_are_those_of_one_repository_that_has_the_packages_name():
    urls = PROJECT["urls"]
    assert urls["Source"].endswith(f"/{PROJECT['name']}")
    assert all(url.startswith(urls["Source"]) for url in urls.values())
    assert (ROOT / urls["Changelog"].rpartition("/")[2]).is_file()


def test_tools_that_judge_the_code_are_pinned():
    assert all(re.search(r"==\d", tool) for tool in EXTRAS["dev"] if not tool.startswith("ckptgrad"))
