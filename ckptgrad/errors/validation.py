"""What `validate` raises."""

from __future__ import annotations

from ckptgrad.errors.base import CkptgradError


class ValidationError(CkptgradError, AssertionError):
    """A gradient or a peak differs from its reference by more than allowed.

    `validation` is the whole table.

    Example:
        >>> import jax, jax.numpy as jnp, ckptgrad as cg
        >>> @jax.custom_vjp
        ... def square(x):
        ...     return x * x
        >>> square.defvjp(lambda x: (x * x, x), lambda x, ct: (x * ct,))  # for 2 x
        >>> try:
        ...     table = cg.validate(lambda x: jnp.sum(square(x)), jnp.ones(5), locate=True, meters="none")
        ... except cg.ValidationError as error:
        ...     error.validation.findings[0].function
        'square'
    """

    def __init__(self, message: str, validation: object = None) -> None:
        self.validation = validation
        super().__init__(message)
