"""The two recurrences behind the optimal policy, filled bottom-up over classes of segments.

Algorithm: reverse segment a..b within m bytes, its input either *pinned* (held elsewhere, free of charge) or
*owned* (charged inside m, freed once it is not needed). Either keep one of a's save options, and reverse
a+1..b beside its residuals; or forward to j keeping nothing, reverse j..b as an owned segment, then a..j-1.
`fill_least` finds byte-exactly the least m of each segment, `fill_times` the least seconds for each number of
slots, each slot `slot` bytes, bytes rounded up.
Aliases: Rotor (Beaumont et al. 2019) with freeable inputs; with unit sizes the mixed checkpointing of
Maddison (2024).
Regime: O(classes * length) splits; within a row only the slots that can still improve are visited.
Does not: look at schedules that are not nested. The same functions run interpreted, on lists and NumPy rows,
and compiled (`numba_kernels`), where functions `..._in_loops` replace their namesakes.

Rows: `row = owned * classes + class`.
"""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from ckptgrad.planning.optimal.segments import Classes, Column, Kinds

ListClasses: TypeAlias = Classes[list[int]]
Row: TypeAlias = NDArray[np.floating[Any]]
Floats = TypeVar("Floats")


def option_needs(kinds: Kinds, k: int, a: int, cotangent: int, result: int, owned: int, alone: bool) -> tuple[int, int, int]:
    """Bytes for option k of stage a: during its forward, until its backward, during its backward.

    Args:
        kinds, k, a: where the columns of the option and of its stage stand.
        cotangent: bytes of the cotangent that the segment starts from.
        result: bytes of the chain's result if the segment ends the chain, else 0.
        owned: 1 if the segment's input is charged to it, else 0.
        alone: whether the segment has no other stage.
    """
    own_input = kinds.input[a] * owned
    forward = cotangent + own_input + (kinds.option_alone_forward[k] if alone else kinds.option_forward[k])
    between = kinds.option_between[k] + own_input * kinds.option_reads_input[k]
    backward = between + kinds.option_backward[k] + result
    return forward, between, backward


def walk_heads(classes: ListClasses, s: int, heads: list[int]) -> None:
    """Put into heads[x] the class of the first x stages of class s."""
    head = classes.head[s]
    for x in range(classes.length[s] - 1, 0, -1):
        heads[x] = head
        head = classes.head[head]


def fill_least(kinds: Kinds, classes: ListClasses, heads: list[int], least: list[int], seconds: list[float]) -> None:
    """Fill `least` with each row's least bytes and `seconds` with the time of one way to keep within them."""
    count = len(classes.first)
    for s in range(count):
        a = classes.first[s]
        length = classes.length[s]
        last = classes.last[s]
        cotangent = kinds.output_cotangent[last]
        result = kinds.result[last]
        walk_heads(classes, s, heads)
        for owned in range(2):
            best, best_seconds = -1, 0.0
            for k in range(kinds.option_start[a], kinds.option_start[a + 1]):
                forward, between, backward = option_needs(kinds, k, a, cotangent, result, owned, length == 1)
                need, time = max(forward, backward), kinds.option_alone_time[k]
                if length > 1:
                    rest = (1 - kinds.option_reads_output[k]) * count + classes.tail[s]
                    need, time = max(need, between + least[rest]), kinds.option_time[k] + seconds[rest]
                if best < 0 or need < best or (need == best and time < best_seconds):
                    best, best_seconds = need, time
            held = kinds.input[a] * owned
            sweep, swept = 0, 0.0
            right, kind = s, a
            for x in range(1, length):
                before = kinds.input[kind] if x > 1 else 0
                sweep = max(sweep, cotangent + held + before + kinds.sweep[kind])
                if sweep > best:
                    break
                swept += kinds.forward_time[kind]
                right = classes.tail[right]
                kind = classes.first[right]
                left = owned * count + heads[x]
                after = count + right
                need = max(sweep, held + least[after], result + least[left])
                time = swept + seconds[after] + seconds[left]
                if need < best or (need == best and time < best_seconds):
                    best, best_seconds = need, time
            row = owned * count + s
            least[row] = best
            seconds[row] = best_seconds


class Table(NamedTuple, Generic[Column, Floats]):
    """Least seconds for 0, 1, ... slots of `slot` bytes: `values[row, slots]`, constant from slot `full[row]` on.

    `least` and `seconds` are those of `fill_least`, the former in slots, rounded up. Scratch: `pending`
    constants of the row at hand, from their slot on (as `values`, infinite at first), `nothing` (zeros) and
    `heads`.
    """

    slot: int
    values: Row
    full: Column
    least: Column
    seconds: Floats
    pending: Row
    nothing: Row
    heads: Column


ListTable: TypeAlias = Table[list[int], list[float]]


def fill_times(kinds: Kinds, classes: ListClasses, table: ListTable) -> None:
    """Fill the table, one row after the other: what a row reads is filled before it."""
    count = len(classes.first)
    for s in range(count):
        walk_heads(classes, s, table.heads)
        for owned in range(2):
            row = owned * count + s
            start = table.least[row]
            table.full[row] = start
            if start >= table.values.shape[1]:
                continue
            table.pending[start] = table.seconds[row]
            relax_keeps(kinds, classes, table, s, owned, row)
            relax_splits(kinds, classes, table, s, owned, row)
            table.full[row] = settle(table.values[row], table.pending, start)


def relax_keeps(kinds: Kinds, classes: ListClasses, table: ListTable, s: int, owned: int, row: int) -> None:
    """Lower a row to the seconds of keeping an option of the first stage."""
    a, last = classes.first[s], classes.last[s]
    cotangent, result = kinds.output_cotangent[last], kinds.result[last]
    alone = classes.length[s] == 1
    slots, slot = table.values.shape[1], table.slot
    for k in range(kinds.option_start[a], kinds.option_start[a + 1]):
        forward, between, backward = option_needs(kinds, k, a, cotangent, result, owned, alone)
        low = -(-max(forward, backward) // slot)
        if alone:
            if low < slots:
                table.pending[low] = min(table.pending[low], kinds.option_alone_time[k])
            continue
        rest = (1 - kinds.option_reads_output[k]) * len(classes.first) + classes.tail[s]
        down = -(-between // slot)
        low = max(low, down + table.least[rest])
        if low < slots:
            relax(table, row, rest, down, -1, 0, kinds.option_time[k], low, down + table.full[rest])


def relax_splits(kinds: Kinds, classes: ListClasses, table: ListTable, s: int, owned: int, row: int) -> None:
    """Lower a row to the seconds of splitting."""
    count, length, last = len(classes.first), classes.length[s], classes.last[s]
    slots, slot = table.values.shape[1], table.slot
    right, kind = s, classes.first[s]
    held, cotangent, result = kinds.input[kind] * owned, kinds.output_cotangent[last], kinds.result[last]
    shift, kept = -(-held // slot), -(-result // slot)
    sweep, swept, least = 0, 0.0, 0
    for x in range(1, length):
        before = kinds.input[kind] if x > 1 else 0
        step = cotangent + held + before + kinds.sweep[kind]
        if step > sweep:
            sweep = step
            least = -(-sweep // slot)
        if least >= slots:
            break
        swept += kinds.forward_time[kind]
        right = classes.tail[right]
        kind = classes.first[right]
        left = owned * count + table.heads[x]
        after = count + right
        low = max(least, shift + table.least[after], kept + table.least[left])
        if low < slots:
            ceiling = max(shift + table.full[after], kept + table.full[left])
            relax(table, row, after, shift, left, kept, swept, low, ceiling)


def relax(
    table: ListTable, row: int, x: int, x_shift: int, y: int, y_shift: int, time: float, low: int, ceiling: int
) -> None:
    """Lower row[m] to time + x[m - x_shift] + y[m - y_shift] from `low` on; constant from `ceiling` on; y = -1 is zero.

    Where the row is as low as that constant already, more memory cannot help: those slots are not visited.
    """
    best, xs = table.values[row], table.values[x]
    ys = table.values[y] if y >= 0 else table.nothing
    ceiling = min(max(low, ceiling), len(best) - 1)
    constant = time + xs[ceiling - x_shift] + ys[ceiling - y_shift]
    table.pending[ceiling] = min(table.pending[ceiling], constant)
    while low < ceiling:
        middle = (low + ceiling) // 2
        if best[middle] > constant:
            break
        ceiling = middle
    if low < ceiling:
        xs, ys = xs[low - x_shift : ceiling - x_shift], ys[low - y_shift : ceiling - y_shift]
        lower(best[low:ceiling], xs, ys, time)


def lower(window: Row, xs: Row, ys: Row, time: float) -> None:
    """window = min(window, xs + ys + time)."""
    sums = xs + ys
    sums += time
    np.minimum(window, sums, out=window)


def lower_in_loops(window: Row, xs: Row, ys: Row, time: float) -> None:
    """`lower` for the compiler: no temporaries, and blocks that cannot improve are left untouched."""
    cost = np.full(1, time, window.dtype)[0]
    for start in range(0, len(window), 64):
        stop = min(start + 64, len(window))
        if window[start] <= xs[stop - 1] + ys[stop - 1] + cost:
            continue
        w, x, y = window[start:stop], xs[start:stop], ys[start:stop]
        for m in range(len(w)):
            w[m] = min(w[m], x[m] + y[m] + cost)


def settle(best: Row, pending: Row, start: int) -> int:
    """Merge the pending constants into `best`, which then falls; the slot from which it is constant."""
    np.minimum(best, pending, out=best)
    np.minimum.accumulate(best, out=best)
    pending[start:] = np.inf
    return int(np.count_nonzero(best > best[-1]))


def settle_in_loops(best: Row, pending: Row, start: int) -> int:
    """`settle` for the compiler."""
    lowest = best[start]
    full = start
    for m in range(start, len(best)):
        value = min(lowest, best[m], pending[m])
        if value < lowest:
            full = m
        best[m] = lowest = value
        pending[m] = np.inf
    return full
