"""A step that is compiled and certified, ready to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ckptgrad.errors import OptionError
from ckptgrad.results.plan import Plan
from ckptgrad.results.step_certificate import StepCertificate
from ckptgrad.target.target import Target


@dataclass(frozen=True, repr=False, eq=False)
class CompiledStep:
    """A compiled step with its certificate; call it as the function that it is made from. It prints as its certificate.

    Attributes:
        executable: what `jax.jit(step).lower(...).compile()` is.
        certificate: what it takes of a device's memory, and what takes it.
        dynamic: from arguments to those that the executable takes.
        rounds: how many programs were compiled, this one included.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> step = cg.certify(lambda w, x: w - x, jnp.ones(256), jnp.ones(256), donate_argnums=0)
        >>> isinstance(step, cg.CompiledStep), step.peak_bytes  # w, x; the result is written over w
        (True, 2048)
    """

    executable: Any
    certificate: StepCertificate
    dynamic: Callable[[tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]
    rounds: int = 1

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.target.check_runs()
        args, kwargs = self.dynamic(args, kwargs)
        return self.executable(*args, **kwargs)

    @property
    def target(self) -> Target:
        """What it is compiled for."""
        return self.certificate.target

    @property
    def peak_bytes(self) -> int:
        """Certified bytes of all that a device holds for it, its arguments included."""
        return self.certificate.peak_bytes

    @property
    def temporary_bytes(self) -> int:
        """Certified bytes of temporaries."""
        return self.certificate.temporary_bytes

    @property
    def plans(self) -> tuple[Plan, ...]:
        """The plans of the calls inside whose budget is "fit", in the order in which they are traced."""
        return self.certificate.plans

    @property
    def plan(self) -> Plan:
        """The plan of the call inside whose budget is "fit".

        Raises:
            OptionError: there is none, or there are several.
        """
        if len(self.plans) != 1:
            raise OptionError(f"{self.certificate.function} holds {len(self.plans)} planned calls; see .plans")
        return self.plans[0]

    def __str__(self) -> str:
        programs = "1 program was" if self.rounds == 1 else f"{self.rounds} programs were"
        return f"{self.certificate}\n{programs} compiled" if self.plans else str(self.certificate)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return self.certificate._repr_html_()  # pyright: ignore[reportPrivateUsage] - it is shown as that
