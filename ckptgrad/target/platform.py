"""The kinds of device that programs are compiled for, and how programs for them differ.

A platform is plain data: what it asks for is done by `ckptgrad.execution` (isolation, forms) and
`ckptgrad.target.footprint` (copies of operands).
To add one: a file in `platforms/` that defines `PLATFORM`; the folder is searched.
"""

from __future__ import annotations

import enum
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from ckptgrad.target.hlo.text import Module
from ckptgrad.target.links import Links
from ckptgrad.target.rates import Rates

# From a compiled program to seconds, by the rates of its device and the links between devices; a scope may be left out.
SecondsReader: TypeAlias = Callable[[Module, Rates, Links | None, str], float]


class Isolation(enum.Enum):
    """How the forward or backward of a stage is kept whole inside a compiled program (`execution.isolated`)."""

    CALLS = "calls that are not inlined"
    BARRIERS = "optimization barriers around what runs again"
    WHOLE = "optimization barriers around each forward and backward"
    NONE = "not at all"


class Form(enum.Enum):
    """A form in which operations take less time or memory than as written.

    Of single operations (`execution.xla_forms`), and of what rules write (`rules.forms`).
    """

    CHANNELS_LAST = "convolutions with channels last"
    SHORTER_SIDE_FIRST = "gradients of weights with the shorter side first"
    AS_MATRICES = "gradients of products as those of two matrices, the contracted axes merged into one"
    BATCHED_AS_MATRICES = "the same of batched products"
    BY_OFFSETS = "gradients of maxima over small windows offset by offset, as elementwise work"
    BARRIERS_AS_CALLS = "optimization barriers as calls that are not inlined"
    GATHERED_FIRST = "what devices gather for a product whole before it"


@dataclass(frozen=True)
class Platform:
    """What programs for one kind of device have in common.

    Attributes:
        name: in words of this package.
        lowered_for: JAX's names of what it lowers programs for, the default first.
        device_platforms: what `jax.Device.platform` says of such devices.
        rates: those of a typical device, for estimates until `calibrate` has measured.
        links: those between typical devices; None: they are joined by the memory that they share.
        isolation: how stages are kept whole.
        calls_if_spread: over several devices stages are calls instead where a plan takes far more than predicted: the
            compiler moves what runs again past barriers there.
        sums_last: over several devices the compiler leaves sums of gradients over these to the end of a program, as one
            sum, and holds their terms, or what these are made of, until then, unless something waits for them.
        table_bytes: what a program over several devices takes for the table of where the elements of a tuple are, as long as
            it runs (`hlo.tables`); on one device they are within `excess`.
        open_if_stored: with barriers, the backward of a stage that has all its costly results stored stands open, as
            without a plan: its compiler fuses better than it would across a barrier.
        forms: those in which operations run.
        whole_blocks: barriers cost time: stages may be whole blocks, where plans of these are faster.
        near_memory: the compiler itself keeps what is made and read again near, where that fits into `Rates.cache` bytes.
        rounds_kept: products that a stage keeps are rounded to the precision they have: they are written alone then
            (`execution.xla_forms.rounding`).
        slices_first: products are slow that slice an operand from a stack as they read it, in the backward of a loop's step.
        overlaps: the products, the other arithmetic and the memory traffic of a fusion go on beside each other
            (`target.overlapped`); elsewhere they are taken to follow one another.
        copies_operands: products work on copies: of convolutions with channels last, of half precision in single.
        fuses_random: random bits are made in each fusion that reads them; elsewhere they are written to memory.
        adds_products: what is added to a total of its type right after a product is added by that product.
        starts_kernels: operations are kernels, each of which takes `Rates.launch` to start, outside of loops too.
        reshapes_in_place: a value and its reshape are one buffer.
        tile: the rows and columns of the tiles in which two axes of each array are laid out (`target.tiled`); None: of none.
        repeats_transcendentals: exp, tanh and the like are done again in each fusion that reads them, rather than stored.
        repeats_half: those of half precision too.
        open_stores_half: these are stored where stages are open to each other: fusions that cross their edges write them.
        probe_options: options of the compiler for programs that are compiled for their bytes and never run.
        kernel_cache_option: the option that names a file of compiled kernels, which such programs share, and all for devices
            that are not there; empty for none.
        kernel_cache_needs: other options, without which there is nothing to share.
        host_memory: arrays live in the memory of the process.
        host_rate: bytes per second between a device's memory and `pinned_host`, either way, if its compiler keeps what loops
            store there; None where it does not.
        quick_probes: compiling a stage takes a moment, short enough to do it while a program is traced.
        slow_probes: compiling a stage takes seconds, too long to ask about all options of all stages for the smallest plan.
        excess: the share by which the compiler takes more than predicted for a whole program, as far as measured.
        reserve: the share of a device's memory that JAX leaves to others by default.
        compilers: the distributions that a compiler may come in, besides jaxlib.
        options_without_device: options of the compiler for devices that are not there.
        compiled_seconds: how the seconds of a compiled program are read from its instructions; None: not at all.
    """

    name: str
    lowered_for: tuple[str, ...]
    device_platforms: tuple[str, ...]
    rates: Rates
    links: Links | None = None
    isolation: Isolation = Isolation.BARRIERS
    calls_if_spread: bool = False
    sums_last: bool = False
    table_bytes: int = 0
    open_if_stored: bool = False
    forms: frozenset[Form] = frozenset()
    whole_blocks: bool = False
    near_memory: bool = False
    rounds_kept: bool = False
    overlaps: bool = False
    slices_first: bool = False
    copies_operands: bool = False
    fuses_random: bool = False
    adds_products: bool = False
    starts_kernels: bool = False
    reshapes_in_place: bool = True
    tile: tuple[int, int] | None = None
    repeats_transcendentals: bool = True
    repeats_half: bool = True
    open_stores_half: bool = False
    probe_options: tuple[tuple[str, bool | int | str], ...] = ()
    kernel_cache_option: str = ""
    kernel_cache_needs: tuple[tuple[str, bool | int | str], ...] = ()
    host_memory: bool = False
    host_rate: float | None = None
    quick_probes: bool = False
    slow_probes: bool = False
    excess: float = 0.0
    reserve: float = 0.0
    compilers: tuple[str, ...] = ()
    options_without_device: tuple[tuple[str, bool | int | str], ...] = ()
    compiled_seconds: SecondsReader | None = None

    def repeats(self, dtype: Any) -> bool:
        """Whether transcendental functions of this type are done again in each fusion that reads them."""
        return self.repeats_transcendentals and (self.repeats_half or getattr(dtype, "itemsize", 4) != 2)


@cache
def platforms() -> dict[str, Platform]:
    """All platforms by the names that JAX and this package have for them."""
    folder = importlib.import_module("ckptgrad.target.platforms")
    by_name: dict[str, Platform] = {}
    for module in pkgutil.iter_modules(folder.__path__):
        platform: Platform = importlib.import_module(f"{folder.__name__}.{module.name}").PLATFORM
        for name in (platform.name, *platform.lowered_for, *platform.device_platforms):
            by_name[name] = platform
    return by_name


def platform_named(name: str) -> Platform:
    """The platform that JAX calls by this name.  One without a file gets the defaults, with a CPU's rates."""
    return platforms().get(name) or Platform(name, (name,), (name,), platforms()["cpu"].rates)
