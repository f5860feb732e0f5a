"""Which versions are installed, and where their results differ."""

from __future__ import annotations

import jax
import jaxlib

# What was measured with other versions is measured again.
VERSIONS = (jax.__version__, jaxlib.__version__)

# Outside its domain the derivative of acosh is nan since 0.12, where it is written as a product of two roots.
ACOSH_BY_FACTORS = jax.__version_info__ >= (0, 12)
