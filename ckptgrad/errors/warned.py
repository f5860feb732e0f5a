"""What is said without stopping: classes of warnings, to be filtered as Python's are."""

from __future__ import annotations


class CheckpointWarning(UserWarning):
    """A plan takes a `jax.checkpoint` inside the user's function apart, and decides by itself what is kept.

    Said once for each function. `warnings.filterwarnings("ignore", category=ckptgrad.CheckpointWarning)` silences it.

    Example:
        >>> import warnings
        >>> import jax, jax.numpy as jnp, ckptgrad as cg
        >>> def loss(x):
        ...     return jnp.sum(jax.checkpoint(jnp.sin)(x))
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")
        ...     gradient = cg.grad(loss)(jnp.ones(3))
        >>> [w.category.__name__ for w in said]
        ['CheckpointWarning']
    """

    def __init__(self, function: str, source: object = None, policy: bool = False) -> None:
        self.function, self.source, self._policy = function, source, policy
        # What it is made of, so that a copy of it in another process says the same.
        super().__init__(function, None if source is None else str(source), policy)

    def __str__(self) -> str:
        at = f" at {self.source}" if self.source is not None else ""
        keeps = "; its policy can be given as saveable=" if self._policy else ""
        return (
            f"the jax.checkpoint{at} inside {self.function} is taken apart: the plan decides what is kept and what is "
            f"recomputed, within the budget{keeps}. Leave it out, or silence this by warnings.filterwarnings('ignore', "
            f"category=ckptgrad.CheckpointWarning)"
        )


class ShardingWarning(UserWarning):
    """A budget in bytes is for one device, and nothing says whether arguments lie over several: that they do not is taken.

    Said once for each function, where several devices are attached and `jax.jit` traces it.  `shardings=` says it; None
    stands there for what lies on one device.

    Example:
        >>> import warnings, ckptgrad as cg
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.warn(cg.ShardingWarning("loss", 8))
        >>> str(said[0].message)
        'a budget in bytes is for one device; while loss is traced by jax.jit nothing says how its arguments ...'
    """

    def __init__(self, function: str, devices: int) -> None:
        self.function, self.devices = function, devices
        super().__init__(function, devices)

    def __str__(self) -> str:
        return (
            f"a budget in bytes is for one device; while {self.function} is traced by jax.jit nothing says how its "
            f"arguments lie on the {self.devices} devices that there are, and they are taken to lie on one: pass shardings= "
            f"(NamedShardings, as for in_shardings of jax.jit, or None for what lies on one device), or call .compile(...) "
            f"on arrays"
        )
