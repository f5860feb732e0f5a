"""Which versions are installed."""

from __future__ import annotations

from importlib.metadata import version

import jax
import jaxlib

from ckptgrad.compat.versions import VERSIONS, installed


def test_measurements_belong_to_versions_of_jax():
    assert (jax.__version__, jaxlib.__version__) == VERSIONS


def test_what_is_not_installed_is_left_out():
    assert installed(("no-such-distribution", "numpy", "jaxlib")) == (
        f"numpy {version('numpy')}",
        f"jaxlib {jaxlib.__version__}",
    )
    assert installed(()) == ()
