"""memory-profiler's own magics work beside ckptgrad's."""

import os
import subprocess
import sys

MODULE = """
import jax, jax.numpy as jnp, ckptgrad as cg

def loss(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return jnp.mean(x**2)

def train(ws, x):
    step = cg.value_and_grad(loss, budget="0.8x").compile(ws, x)
    return jax.block_until_ready(step(ws, x))
"""

SHELL = """
from pathlib import Path
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()

def run(code):
    shell.run_cell(code).raise_error()

run("%load_ext ckptgrad")
run("%load_ext memory_profiler")
run("import training, jax.numpy as jnp; ws, x = [jnp.eye(64)] * 4, jnp.ones((256, 64))")
run("%mprun -T lines.txt -f training.train training.train(ws, x)")
run("usage = %memit -o -r 1 training.train(ws, x)")
run("%ckptgrad plan training.loss(ws, x) --budget 0.8x --into plan")
assert 'budget="0.8x").compile(ws, x)' in Path("lines.txt").read_text()
assert shell.user_ns["usage"].mem_usage[0] > 0
assert shell.user_ns["plan"].peak_bytes > 0
"""


def test_mprun_and_memit(tmp_path):
    """In a separate process, because %memit forks."""
    (tmp_path / "training.py").write_text(MODULE)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "IPYTHONDIR": str(tmp_path)}
    command = [sys.executable, "-c", SHELL]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
