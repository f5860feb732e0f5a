"""Chains to plan for: hypothesis strategies over uneven chains."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from ckptgrad.planning import ChainCosts, SaveOption, StageCost

SIZES = st.integers(0, 9)


@st.composite
def _stages(draw: st.DrawFn, options: int) -> StageCost:
    boundary_bytes, plain, seconds = draw(SIZES), draw(st.integers(1, 9)), st.integers(1, 9)
    option = st.builds(
        SaveOption,
        st.just("drawn"),
        SIZES,
        st.booleans(),
        st.booleans(),
        seconds,
        seconds,
        st.integers(0, 3),
        st.integers(0, 3),
        st.just(0) | st.integers(0, boundary_bytes),
    )
    choices = draw(st.lists(option, min_size=1, max_size=options))
    saved = [draw(st.just(0) | st.integers(0, min(o.forward_time, plain))) for o in choices]
    choices = tuple(replace(o, output_time=s) for o, s in zip(choices, saved, strict=True))
    return StageCost(choices, boundary_bytes, draw(SIZES), plain, draw(st.integers(0, 3)))


@st.composite
def chains(draw: st.DrawFn, longest: int = 7, options: int = 3) -> ChainCosts:
    """Uneven chains of small integers, so that plans need no rounding."""
    stages = draw(st.lists(_stages(options), min_size=1, max_size=longest).map(tuple))
    return ChainCosts(stages, draw(SIZES), draw(SIZES), draw(st.integers(0, 3)))
