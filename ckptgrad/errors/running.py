"""What is raised while something is compiled or run: devices, tiers, processes, packages that are missing."""

from __future__ import annotations

from ckptgrad.errors.base import CkptgradError


class NotAttachedError(CkptgradError, RuntimeError):
    """A call of what was planned or compiled for devices that are not attached to this process.

    Example:
        >>> import ckptgrad as cg
        >>> raise cg.errors.NotAttachedError("NVIDIA H100 80GB HBM3")
        Traceback (most recent call last):
        ...
        ckptgrad.errors.NotAttachedError: ...
    """

    def __init__(self, target: str) -> None:
        super().__init__(
            f"this is planned and compiled for {target}, which is not attached to this process: it can be asked for its "
            f"bytes, and run only there. To run it here, leave target= out"
        )


class StagedError(CkptgradError, TypeError):
    """A gradient with runtime="staged" where it cannot run: inside a transformation, or on several devices.

    Example:
        >>> import jax, ckptgrad as cg
        >>> jax.jit(cg.grad(lambda x: x**2, runtime="staged"))(1.0)
        Traceback (most recent call last):
        ...
        ckptgrad.errors.StagedError: ...
    """

    @classmethod
    def inside_a_transformation(cls) -> StagedError:
        """The error for values that are being traced."""
        return cls(
            "runtime='staged' runs the stages of a gradient one by one from Python, which cannot be inside jax.jit, "
            "jax.vmap or another transformation: call the gradient outside of it, jit what comes before and after, or use "
            "runtime='compiled'"
        )


class LedgerError(CkptgradError, RuntimeError):
    """A gradient that runs stage by stage would hold more bytes than is certified; it stops before it does.

    Example:
        >>> import ckptgrad as cg
        >>> raise cg.errors.LedgerError("96 bytes are held, and 64 more are needed, of 128 that are allowed")
        Traceback (most recent call last):
        ...
        ckptgrad.errors.LedgerError: 96 bytes are held, and 64 more are needed, of 128 that are allowed
    """


class TierError(CkptgradError, RuntimeError):
    """A tier cannot keep what is sent to it, or does not return what it kept; the gradient is not computed.

    Example:
        >>> import ckptgrad as cg
        >>> cg.grad(abs, runtime="staged", tiers=["tape:1GiB"])
        Traceback (most recent call last):
        ...
        ckptgrad.errors.TierError: 'tape:1GiB' is not a tier; ...
    """


class ProcessesError(CkptgradError, RuntimeError):
    """Processes that share a program do different things, or one of them cannot go on.

    Example:
        >>> import ckptgrad as cg
        >>> raise cg.errors.ProcessesError("process 0 plans within 1 GiB, process 1 within 2 GiB")
        Traceback (most recent call last):
        ...
        ckptgrad.errors.ProcessesError: process 0 plans within 1 GiB, process 1 within 2 GiB
    """


class MissingExtraError(CkptgradError):
    """A part of ckptgrad needs a package that is not installed.

    Example:
        >>> import ckptgrad as cg
        >>> raise cg.MissingExtraError("compiling for an H100", "XLA's GPU compiler", "gpu-target")
        Traceback (most recent call last):
        ...
        ckptgrad.errors.MissingExtraError: ... pip install 'ckptgrad[gpu-target]'
    """

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(f"{what} needs {package}, which is not installed: pip install 'ckptgrad[{extra}]'")
