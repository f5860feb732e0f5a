"""The bracketing of Jacobian products against all bracketings."""

from __future__ import annotations

from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from ckptgrad.jacobian.bracketing import Bracket, best_bracket


def all_costs(sizes, costs, i, j):
    """The multiplications of every way to the Jacobian of stages i to j, one elimination at a time."""
    later = [0, *costs]

    def through(a, b):
        return sum(later[a + 1 : b + 2])

    found = {sizes[i] * through(i, j), sizes[j + 1] * through(i, j)}
    for k in range(i, j):
        lefts, rights = all_costs(sizes, costs, k + 1, j), all_costs(sizes, costs, i, k)
        found |= {a + b + sizes[i] * sizes[k + 1] * sizes[j + 1] for a in lefts for b in rights}
        found |= {b + sizes[i] * through(k + 1, j) for b in rights}
        found |= {a + sizes[j + 1] * through(i, k) for a in lefts}
    return found


@st.composite
def chains(draw):
    n = draw(st.integers(1, 5))
    sizes = draw(st.lists(st.integers(1, 9), min_size=n + 1, max_size=n + 1))
    return sizes, draw(st.lists(st.integers(0, 60), min_size=n, max_size=n))


def counted(bracket: Bracket, sizes, costs) -> int:
    """The multiplications of a bracket, counted by walking it."""
    inner = [b for b in (bracket.left, bracket.right) if b is not None]
    own = sum(counted(b, sizes, costs) for b in inner)
    if bracket.way == "product":
        return own + sizes[bracket.first] * sizes[bracket.left.first] * sizes[bracket.last + 1]
    if bracket.way == "forward":
        start = bracket.first if bracket.right is None else bracket.right.last + 1
        return own + sizes[bracket.first] * sum(costs[start : bracket.last + 1])
    stop = bracket.last if bracket.left is None else bracket.left.first - 1
    return own + sizes[bracket.last + 1] * sum(costs[bracket.first : stop + 1])


@given(chains())
def test_no_bracketing_takes_fewer_multiplications(chain):
    sizes, costs = chain
    best = best_bracket(sizes, costs)
    assert best.multiplications == min(all_costs(sizes, costs, 0, len(costs) - 1))
    assert best.multiplications == counted(best, sizes, costs)


def test_a_scalar_output_is_reverse_mode_and_a_scalar_input_forward_mode():
    assert best_bracket([50, 40, 30, 1], [9, 9, 9]).way == "reverse"
    assert best_bracket([1, 40, 30, 50], [9, 9, 9]).way == "forward"


def test_a_narrow_middle_is_multiplied_over():
    """A thousand to two to a thousand: reverse to the middle, forward from it, one dense product."""
    best = best_bracket([1000, 2, 1000], [10**6, 10**6])
    assert str(best) == "((J1 > I) (I < J0))"
    assert best.multiplications == 2 * 10**6 + 2 * 10**6 + 1000 * 2 * 1000


@cache
def matrix_chain(dims):
    """The textbook's matrix chain, as a bound for free products of given matrices."""
    if len(dims) == 2:
        return 0
    pieces = range(1, len(dims) - 1)
    return min(matrix_chain(dims[: k + 1]) + matrix_chain(dims[k:]) + dims[0] * dims[k] * dims[-1] for k in pieces)


@given(st.lists(st.integers(1, 9), min_size=2, max_size=6))
def test_with_free_stages_no_worse_than_the_matrix_chain(dims):
    assert best_bracket(dims, [0] * (len(dims) - 1)).multiplications <= matrix_chain(tuple(dims))
