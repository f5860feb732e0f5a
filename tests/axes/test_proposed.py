import jax
import jax.numpy as jnp
import pytest

from ckptgrad.axes.chunked import chunkable
from ckptgrad.axes.cut import Partial
from ckptgrad.axes.proposed import proposals
from ckptgrad.example_models import gelu_stack, mixer, resnet, transformer, unet
from ckptgrad.graph.trace import trace
from ckptgrad.graph.traits import is_product


def test_examples_then_tokens_then_what_weights_share():
    graph = trace(lambda w, x: jax.nn.relu(x @ w), jnp.ones((3, 4)), jnp.ones((5, 2, 3)))
    w, x = graph.inputs
    assert proposals(graph)[:2] == [{x: 0}, {x: 1}]
    assert {w: 1} in proposals(graph)


def test_an_axis_that_cuts_two_inputs_is_proposed_once():
    graph = trace(lambda x, y: x * y, jnp.ones((5, 1)), jnp.ones((5, 1)))
    assert proposals(graph) == [{graph.inputs[0]: 0}]


def test_nothing_to_propose():
    assert proposals(trace(lambda x: jnp.sort(x), jnp.ones(4))) == []


MODELS = {
    "transformer": lambda: transformer(blocks=1, width=8, context=4, batch=3),
    "layers": lambda: gelu_stack(layers=2, width=4, hidden=8, batch=3),
    "images with group norm": lambda: resnet(counts=(1, 1, 1, 1), width=8, size=16, batch=3),
    "patches": lambda: mixer(layers=1, width=8, patches=4, batch=3),
    "U-Net": lambda: unet(batch=3),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_are_chunkable_over_examples(name):
    fun, args = MODELS[name]()
    graph = trace(fun, *args)
    found = chunkable(graph, proposals(graph)[0])
    assert found is not None
    assert found.size == 3
    assert list(found.outputs.values()) == [Partial()]
    assert any(map(is_product, found.inside))
    assert not any(map(is_product, (*found.before, *found.after)))
    sizes = [len(found.for_chunk(n).operations) for n in (1, 2, 3)]
    assert len(set(sizes)) == 1


def attend(q, k, v):
    """Causal attention, of (batch, heads, tokens, width)."""
    scores = jnp.einsum("bhqd,bhkd->bhqk", q, k)
    mask = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    return jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(jnp.where(mask, scores, -jnp.inf)), v)


def test_attention_over_examples_and_heads_and_queries_with_their_rows_of_the_mask():
    x = jnp.ones((2, 4, 3, 8))
    graph = trace(attend, x, x, x)
    q, k, v = graph.inputs

    def cut(start):
        found = chunkable(graph, start)
        return found and [found.sliced.get(u) for u in (q, k, v)]

    assert cut({q: 0}) == [0, 0, 0]
    assert cut({q: 1}) == [1, 1, 1]
    assert cut({q: 2}) == [2, None, None]
    assert cut({k: 2}) is None  # a softmax over it
    assert cut({v: 3}) == [None, None, 3]
