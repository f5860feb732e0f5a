"""The cross-check: gradients, peaks and times side by side with `jax.grad` and `jax.checkpoint`.

Like the benchmark book, it calls JAX's own differentiation: that is what it compares with.
"""

from ckptgrad.results.finding import Finding
from ckptgrad.results.validation import Row, Validation
from ckptgrad.validation.reference import jax_grad_point, jax_grad_reading, reference_memory
from ckptgrad.validation.validate import validate

__all__ = ["Finding", "Row", "Validation", "jax_grad_point", "jax_grad_reading", "reference_memory", "validate"]
