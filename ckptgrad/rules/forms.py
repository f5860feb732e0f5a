"""In which of its forms a gradient is written: rules that have several ask here which the target wants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ckptgrad.target.platform import Form

# Where no target is known, those of a CPU.
_FORMS: ContextVar[frozenset[Form]] = ContextVar("forms", default=frozenset(Form))


@contextmanager
def gradients_in(forms: frozenset[Form]) -> Iterator[None]:
    """Gradients are written in these forms meanwhile (`Platform.forms`); where one is not among them, as JAX writes them."""
    token = _FORMS.set(forms)
    try:
        yield
    finally:
        _FORMS.reset(token)


def is_wanted(form: Form) -> bool:
    """Whether gradients are to be written in this form."""
    return form in _FORMS.get()
