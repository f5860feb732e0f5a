"""What a stage may keep: from everything its backward reads to its input only, by the fewest bytes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import ad_checkpoint

import ckptgrad as cg
from ckptgrad.graph.traits import is_materialised, is_transcendental
from ckptgrad.stage.partition import partition
from ckptgrad.stage.save_options import LEVELS, is_saveable
from tests.cases.stages import ROOFLINE, STAGES, N, W, X, attention, kind_of, linear, plain, residual
from tests.support.compare import assert_same


def kept(kind):
    """(name, [(primitive, shape)] of the residuals, whether the incoming boundary is read) of each option."""
    j = kind.joint
    made = {v: op.name for op in j.operations for v in op.outputs}
    boundary = {j.inputs[k] for k in kind.boundary_in}
    return [
        (o.name, [(made[v], v.shape) for v in o.partition.residuals], bool(boundary & set(o.partition.reads)))
        for o in kind.options
    ]


EXACT = {
    # tanh's derivative reads its output alone: the product need not be kept.
    "residual": (residual, [
        ("all", [("tanh", X.shape)], True),
        ("input", [], True),
    ]),
    "linear": (linear, [("all", [], True)]),
    # The product itself is as large as the cosine, and no nearer to what the backward reads.
    "sine": (lambda w, x: jnp.sin(x @ w), [
        ("all", [("cos", X.shape)], True),
        ("input", [], True),
    ]),
    "doubled": (lambda w, x: x * 2.0 + w[0], [("all", [], False)]),
}  # fmt: skip


@pytest.mark.parametrize(("stage", "wanted"), EXACT.values(), ids=EXACT)
def test_what_small_stages_keep(stage, wanted):
    assert kept(kind_of(stage)) == wanted


def test_a_mask_is_kept_rather_than_drawn_again():
    """Dropout: to draw it takes tens of operations for a number, more than to multiply by few weights."""
    width = 64
    x, ws = jnp.zeros((256, width)), [jnp.zeros((width, width))] * 3

    def layer(w, x, key):
        return x + jnp.where(jax.random.bernoulli(key, 0.9, x.shape), jax.nn.relu(x @ w), 0)

    def loss(ws, x, key):
        for i, w in enumerate(ws):
            x = layer(w, x, jax.random.fold_in(key, i))
        return (x**2).sum()

    last = cg.plan(loss, ws, x, jax.random.key(0), costs="estimate", encodings=()).program.stages[-1].kind
    alone = [o.partition.residuals[0].aval.dtype for o in last.options if len(o.partition.residuals) == 1]
    assert alone == ["bool"]


def test_the_boundary_made_by_tanh_is_no_residual():
    """Its output is the next stage's input: held as a boundary, so that nothing else need be kept."""
    costs = cg.plan(lambda ws, x: plain(ws[2], plain(ws[1], plain(ws[0], x))).sum(), [W] * 3, X).costs
    option = next(o for o in costs.stages[1].options if o.name == "all")
    assert (option.residual_bytes, option.reads_input, option.reads_output) == (0, True, True)


def test_residual_bytes_of_a_residual_layer():
    costs = cg.plan(lambda ws, x: residual(ws[2], residual(ws[1], residual(ws[0], x))).sum(), [W] * 3, X).costs
    middle = costs.stages[1]
    assert [(o.name, o.residual_bytes) for o in middle.options] == [("all", N), ("input", 0)]
    assert all(o.reads_input and not o.reads_output for o in middle.options)
    assert (middle.boundary_bytes, middle.cotangent_bytes) == (N, N)
    tanh, nothing = middle.options
    assert tanh.backward_time < nothing.backward_time
    assert nothing.forward_time < tanh.forward_time  # keeping writes to memory


@pytest.mark.parametrize("costs", ["estimate", "measure"])
def test_a_forward_without_output_does_not_do_what_the_output_alone_needs(costs):
    """Of two products of equal size, one kept: the other one is not done."""
    x, (up, down) = jnp.ones((512, 64)), (jnp.ones((64, 1024)) / 64, jnp.ones((1024, 64)) / 1024)

    def loss(ws, x):
        for up, down in ws:
            x = x + jax.nn.relu(x @ up) @ down
        return x.sum()

    plan = cg.plan(loss, [(up, down)] * 3, x, costs=costs)
    middle = plan.costs.stages[1]
    for k, option in enumerate(middle.options):
        assert 0 <= option.output_time <= min(option.forward_time, middle.forward_time)
        assert middle.forward_seconds(k, output=False) == option.forward_time - option.output_time
    product = 2 * 512 * 64 * 1024 / ROOFLINE.rates.product_rate
    if costs == "estimate":
        assert all(o.output_time >= product for o in middle.options)
        nothing = middle.options[-1]
        assert (nothing.residual_bytes, nothing.time_alone) == (0, nothing.backward_time)


@pytest.mark.parametrize("stage", STAGES)
def test_options_go_from_most_kept_to_least(stage):
    options = kind_of(stage).options
    recomputed = [sum(map(ROOFLINE.again, o.partition.recomputed)) for o in options]
    assert recomputed == sorted(recomputed)
    assert len({o.partition.residuals for o in options}) >= len(options) - 1


def offloading(saved=(), offloaded=()):
    return jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=list(saved),
        names_which_can_be_offloaded=list(offloaded),
        offload_src="device",
        offload_dst="pinned_host",
    )


# What JAX's predicates may answer, and the operations of a stage whose results may be kept by it.
SAVEABLE = {
    "nothing": (jax.checkpoint_policies.nothing_saveable, set()),
    "everything": (jax.checkpoint_policies.everything_saveable, {"dot_general", "sin", "name", "cos"}),
    "no name": (offloading(), set()),
    "a saved name": (offloading(saved=["mid"]), {"name"}),
    "an offloaded name": (offloading(offloaded=["mid"]), {"name"}),
    "another name": (offloading(saved=["end"]), set()),
    "offloaded products": (jax.checkpoint_policies.offload_dot_with_no_batch_dims("device", "pinned_host"), {"dot_general"}),
    "JAX's words": (lambda p, *_, **__: ad_checkpoint.Saveable if p.name == "sin" else ad_checkpoint.Recompute, {"sin"}),
}


def named(w, x):
    return jnp.cos(ad_checkpoint.checkpoint_name(jnp.sin(x @ w), "mid"))


@pytest.mark.parametrize(("saveable", "wanted"), SAVEABLE.values(), ids=SAVEABLE)
def test_a_policys_answer_is_taken_as_it_is_meant(saveable, wanted):
    operations = cg.trace(named, W, X).operations
    assert {op.name for op in operations if is_saveable(op, saveable)} == wanted
    # And the same of a whole plan: nothing else is kept.
    program = cg.grad(lambda w, x: named(w, named(w, x)).sum(), saveable=saveable).plan(W, X).program
    boundaries = {v for stage in program.stages for v in stage.kind.joint.outputs}
    for kind in program.kinds:
        made = {v: op.name for op in kind.joint.operations for v in op.outputs}
        for option in kind.options:
            names = {made[v] for v in option.partition.residuals if v not in boundaries}
            assert names <= wanted


@pytest.mark.parametrize("answer", [None, np.bool_(False), 1, "save", ad_checkpoint.Offloadable])
def test_other_answers_of_a_policy_are_refused(answer):
    with pytest.raises(cg.GradientTypeError, match=r"dot_general it answered .* at .*\(named\)") as refused:
        cg.grad(lambda w: named(w, X).sum(), saveable=lambda *_, **__: answer).plan(W)
    assert isinstance(refused.value, TypeError)


@pytest.mark.parametrize("stage", STAGES)
def test_no_policy_of_jax_beats_the_front(stage):
    """Whatever `jax.checkpoint_policies` keep, some option keeps no more and does no more again."""
    kind = kind_of(stage)
    j = kind.joint
    options = [o.partition for o in kind.options]
    arriving = {j.inputs[i] for i in kind.boundary_in}

    def measure(part):
        kept = sum(v.nbytes for v in part.residuals) + sum(v.nbytes for v in part.reads if v in arriving)
        # Cheap work is fused into what reads it.
        dear = [op for op in part.recomputed if is_transcendental(op) or is_materialised(op)]
        return kept, sum(map(ROOFLINE.again, dear))

    for policy in ("everything_saveable", "dots_saveable", "dots_with_no_batch_dims_saveable", "nothing_saveable"):
        saveable = getattr(jax.checkpoint_policies, policy)
        keep = [v for op in j.forward_operations if is_saveable(op, saveable) for v in op.outputs]
        theirs = measure(partition(j, keep))
        assert any(all(a <= b * (1 + 1e-9) for a, b in zip(measure(o), theirs, strict=True)) for o in options), policy


@pytest.mark.parametrize("stage", STAGES)
def test_arguments_are_never_kept_and_the_backward_reaches_all_it_reads(stage):
    kind = kind_of(stage)
    j = kind.joint
    for option in kind.options:
        part = option.partition
        assert not set(part.residuals) & set(j.inputs)
        assert not set(part.residuals) & set(j.constants)
        known = {*part.residuals, *part.reads, *j.cotangents, *j.constants}
        for op in (*part.recomputed, *j.backward_operations):
            assert all(a in known for a in op.inputs if not hasattr(a, "value"))
            known.update(op.outputs)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("level", [name for name, _ in LEVELS])
def test_a_level_does_none_of_its_operations_again(stage, level):
    fixed = dict(LEVELS)[level]
    option = next((o for o in kind_of(stage).options if o.name == level), None)
    if option is not None and level != "all":
        assert not [op.name for op in option.partition.recomputed if fixed(op)]


def test_softmax_of_scores_is_recomputed_between_all_and_unbatched_products():
    found = {name: [shape for _, shape in residuals] for name, residuals, _ in kept(kind_of(attention))}
    scores = (2, 16, 16)
    assert found["all"].count(scores) >= 1
    assert scores not in found["unbatched products"]
    assert found["input"] == []


@pytest.mark.parametrize("stage", STAGES)
def test_every_option_gives_the_same_gradient(stage, x64):
    w, x = W.astype(float), X.astype(float)
    kind = kind_of(stage, w, x)
    wanted = jax.vjp(stage, w, x)[1](jnp.cos(x))
    by_shape = {g.shape: g for g in wanted}
    for option in kind.options:
        part = option.partition
        values = {v.shape: a for v, a in ((v, w if v.shape == w.shape else x) for v in part.joint.inputs)}
        inputs = [values[v.shape] for v in part.joint.inputs]
        outputs, residuals = part.run_forward(inputs)
        assert_same(outputs[0], stage(w, x), scale=4)
        reads = [values[v.shape] for v in part.reads]
        for v, g in zip(
            [part.joint.inputs[k] for k in kind.wrt], part.run_backward(residuals, reads, [jnp.cos(x)]), strict=True
        ):
            assert_same(jnp.zeros(v.shape) if g is None else g, by_shape[v.shape], scale=8)
