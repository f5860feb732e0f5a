"""How values of a mapped body lie outside."""

from __future__ import annotations

from jax.sharding import PartitionSpec as P

from ckptgrad.chain.shard_maps.lying import Lying


def test_how_values_lie():
    stack = Lying(P(("a", "b"), None, "c"), None).stack
    assert stack.spec == P(None, ("a", "b"), None, "c")
    assert stack.entry is not None
    assert stack.entry.same(Lying(P(("a", "b"), None, "c")))
    assert Lying(P("a")).entry is None
    assert Lying(P("a"), 0).stack == Lying(P(None, "a"), 1)
    assert Lying(P()).entry == Lying(P())
    assert Lying(P("a", None)).same(Lying(P(("a",))))
    assert not Lying(P("a")).same(Lying(P("a"), 0))
    assert Lying(P(None, "a")).cuts_along(frozenset("a"))
    assert not Lying(P(None, "a")).cuts_along(frozenset("ab"))
