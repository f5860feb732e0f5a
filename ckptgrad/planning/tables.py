"""The two recurrences behind the optimal policy, filled bottom-up over classes of segments.

Algorithm: reverse segment a..b within m bytes, its input either *pinned* (held elsewhere, free of charge) or *owned*
(charged inside m, freed when nobody needs it), and either *fresh* or a *restart* (forwarded before). Either keep one
of a's save options, and reverse a+1..b beside its residuals; or forward to j keeping nothing, reverse j..b as an owned
fresh segment, then a..j-1 as a restart. `fill_least` finds byte-exactly the least m of each segment, `fill_times` the
least seconds for each number of slots, each slot `slot` bytes, bytes rounded up.
Aliases: Rotor (Beaumont et al. 2019) with freeable inputs; with unit sizes the mixed checkpointing of Maddison (2024).
Regime: O(classes * length) splits; within a row only the slots that can still improve are visited.
Does not: look at schedules that are not nested. The same functions run interpreted, on lists and NumPy rows, and
compiled (`compiled.py`), where the loops at the end replace `relax` and `settle`.

Rows: `row = (owned * marks + restart) * classes + class`, with marks 2, or 1 if no stage charges restarts.
"""

from __future__ import annotations

import numpy as np


def option_needs(kinds, k, a, cotangent, result, owned, alone, extra):
    """Bytes for option k of stage a: during its forward, between forward and backward, during its backward."""
    own_input = kinds.input[a] * owned
    is_last = result > 0
    reads_output = kinds.option_reads_output[k]
    residual = kinds.option_residual[k]
    produced = kinds.output[a] if reads_output or not alone or is_last else 0
    forward = cotangent + own_input + residual + produced + kinds.option_forward[k] + extra
    between = residual
    if kinds.option_reads_input[k]:
        between += own_input
    if reads_output and not (alone and is_last):
        between += kinds.output[a]
    backward = (
        kinds.output_cotangent[a] + between + kinds.input_cotangent[a] + kinds.option_backward[k] + result
    )
    return forward, between, backward


def walk_heads(classes, s, heads):
    """Put into heads[x] the class of the first x stages of class s."""
    head = classes.head[s]
    for x in range(classes.length[s] - 1, 0, -1):
        heads[x] = head
        head = classes.head[head]


def fill_least(kinds, classes, marks, heads, least, seconds):
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
            for mark in range(marks):
                extra = kinds.restart[a] * mark
                best, best_seconds = -1, 0.0
                for k in range(kinds.option_start[a], kinds.option_start[a + 1]):
                    forward, between, backward = option_needs(
                        kinds, k, a, cotangent, result, owned, length == 1, extra
                    )
                    need, time = max(forward, backward), kinds.option_time[k]
                    if length > 1:
                        rest = (1 - kinds.option_reads_output[k]) * marks * count + classes.tail[s]
                        need, time = max(need, between + least[rest]), time + seconds[rest]
                    if best < 0 or need < best or (need == best and time < best_seconds):
                        best, best_seconds = need, time
                held = kinds.input[a] * owned
                sweep, swept = 0, 0.0
                right, kind = s, a
                for x in range(1, length):
                    before = kinds.input[kind] if x > 1 else extra
                    sweep = max(sweep, cotangent + held + before + kinds.output[kind] + kinds.transient[kind])
                    if sweep > best:
                        break
                    swept += kinds.forward_time[kind]
                    right = classes.tail[right]
                    kind = classes.first[right]
                    left = (owned * marks + marks - 1) * count + heads[x]
                    after = marks * count + right
                    need = max(sweep, held + least[after], result + least[left])
                    time = swept + seconds[after] + seconds[left]
                    if need < best or (need == best and time < best_seconds):
                        best, best_seconds = need, time
                row = (owned * marks + mark) * count + s
                least[row] = best
                seconds[row] = best_seconds


def fill_times(kinds, classes, marks, heads, least, seconds, slot, values, full, nothing, pending):
    """Fill each row of `values` with the least seconds for 0, 1, ... slots of memory.

    `values` and `pending` arrive infinite, `nothing` zero; `full[row]` becomes the slot from which a row is constant.
    A fresh row starts from its restart row, and adds what a restart cannot afford.
    """
    count = len(classes.first)
    slots = values.shape[1]
    for s in range(count):
        walk_heads(classes, s, heads)
        for owned in range(2):
            for mark in range(marks - 1, -1, -1):
                row = (owned * marks + mark) * count + s
                start = -(-least[row] // slot)
                full[row] = start
                if start >= slots:
                    continue
                pending[start] = seconds[row]
                penalty = 0
                if mark < marks - 1:
                    values[row, :] = values[row + count]
                    penalty = kinds.restart[classes.first[s]]
                if mark == marks - 1 or penalty:
                    extra = kinds.restart[classes.first[s]] * mark
                    relax_keeps(
                        kinds, classes, marks, s, owned, extra, penalty, slot, values, full, nothing, row, pending
                    )
                    relax_splits(
                        kinds, classes, marks, s, owned, extra, penalty, slot, values, full, heads, row, pending, least
                    )
                full[row] = settle(values[row], pending, start)


def relax_keeps(kinds, classes, marks, s, owned, extra, penalty, slot, values, full, nothing, row, pending):
    """Lower a row to what keeping each save option of its first stage takes; see `relax_splits`."""
    a, last = classes.first[s], classes.last[s]
    alone = classes.length[s] == 1
    slots = values.shape[1]
    cotangent, result = kinds.output_cotangent[last], kinds.result[last]
    for k in range(kinds.option_start[a], kinds.option_start[a + 1]):
        forward, between, backward = option_needs(kinds, k, a, cotangent, result, owned, alone, extra)
        low = -(-max(forward, backward) // slot)
        high = -(-max(forward + penalty, backward) // slot) if penalty else slots
        if low >= min(high, slots):
            continue
        if alone:
            pending[low] = min(pending[low], kinds.option_time[k])
            continue
        rest = (1 - kinds.option_reads_output[k]) * marks * len(classes.first) + classes.tail[s]
        down = -(-between // slot)
        low = max(low, down + first_finite(values[rest], full[rest]))
        if low < min(high, slots):
            ceiling = min(high, down + full[rest])
            relax(values[row], pending, values[rest], down, nothing, 0, kinds.option_time[k], low, ceiling)


def relax(best, pending, x, x_shift, y, y_shift, time, low, ceiling):
    """Lower best[m] to time + x[m - x_shift] + y[m - y_shift] from `low` on; constant from `ceiling` on.

    Where `best` is as low as that constant already, more memory cannot help: those slots are not visited.
    """
    slots = len(best)
    ceiling = min(max(low, ceiling), slots - 1)
    constant = time + x[ceiling - x_shift] + y[ceiling - y_shift]
    pending[ceiling] = min(pending[ceiling], constant)
    while low < ceiling:
        middle = (low + ceiling) // 2
        if best[middle] > constant:
            break
        ceiling = middle
    if low < ceiling:
        window = best[low:ceiling]
        sums = x[low - x_shift : ceiling - x_shift] + y[low - y_shift : ceiling - y_shift]
        sums += time
        np.minimum(window, sums, out=window)


def settle(best, pending, start):
    """Merge the pending constants into `best`, make it fall with memory; the slot from which it is constant."""
    np.minimum(best, pending, out=best)
    np.minimum.accumulate(best, out=best)
    pending[start:] = np.inf
    return int(np.count_nonzero(best > best[-1]))


def relax_in_loops(best, pending, x, x_shift, y, y_shift, time, low, ceiling):
    """`relax` for the compiler, which turns the loop into vector instructions without temporaries."""
    ceiling = min(max(low, ceiling), len(best) - 1)
    constant = time + x[ceiling - x_shift] + y[ceiling - y_shift]
    pending[ceiling] = min(pending[ceiling], constant)
    while low < ceiling:
        middle = (low + ceiling) // 2
        if best[middle] > constant:
            break
        ceiling = middle
    window = best[low:ceiling]
    xs = x[low - x_shift : ceiling - x_shift]
    ys = y[low - y_shift : ceiling - y_shift]
    cost = np.full(1, time, best.dtype)[0]
    for m in range(len(window)):
        window[m] = min(window[m], xs[m] + ys[m] + cost)


def settle_in_loops(best, pending, start):
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
