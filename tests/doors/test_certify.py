"""The table of any function."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg

X = jnp.ones((32, 32))


def test_everything_that_the_device_holds_is_counted():
    step = cg.certify(lambda p, x: (p["w"] + x, jnp.sum(x)), {"w": X, "unused": X}, X)
    assert step.certificate.argument_bytes == 3 * X.nbytes
    assert step.peak_bytes == 3 * X.nbytes + step.temporary_bytes + step.certificate.memory.output_bytes
    assert [v.name for v in step.certificate.arguments] == ["p['unused']", "p['w']", "x"]
    assert [v.name for v in step.certificate.results] == ["results[0]", "results[1]"]
    assert step.certificate.of_arguments() == {"p": (2 * X.nbytes, 0), "x": (X.nbytes, 0)}


def test_donated_arguments_are_written_over():
    plain, donated = (cg.certify(lambda w, x: w + x, X, X, donate_argnames=names) for names in (None, "w"))
    assert donated.peak_bytes == plain.peak_bytes - X.nbytes
    assert plain.certificate.donatable() == {"w": X.nbytes}
    assert donated.certificate.donatable() == {}


def test_a_jitted_function_uses_its_own_donation_and_counts_what_it_does_not_read():
    step = cg.certify(jax.jit(lambda w, x, y: w + x, donate_argnums=0), X, X, X)
    assert step.certificate.of_arguments() == {"w": (X.nbytes, X.nbytes), "x": (X.nbytes, 0), "y": (X.nbytes, 0)}
    assert step.peak_bytes == 3 * X.nbytes


def test_it_runs_with_keywords_and_static_arguments():
    step = cg.certify(lambda x, *, by, name: x * by, X, by=2.0, name="twice", static_argnames="name")
    assert float(step(X, by=3.0, name="twice")[0, 0]) == 3.0
    with pytest.raises(cg.StaticArgumentError, match="name = 'twice'"):
        step(X, by=3.0, name="thrice")


def test_what_is_given_twice_is_there_once():
    call = cg.doors.step_call.step_call(lambda a, b, c: a, (X, X, X + 1), {}, cg.doors.step_call.JitOptions())
    assert cg.doors.certify.present_bytes(call, cg.target()) == 2 * X.nbytes


def test_a_tree_with_nothing_in_some_places_has_no_bytes_there():
    """As `equinox.partition` leaves it."""
    params = {"w": jnp.ones(256), "static": None, "unread": jnp.ones(2)}
    step = cg.certify(lambda p: {"sum": p["w"] + 1, "none": None}, params)
    assert [(value.name, value.bytes) for value in step.certificate.arguments] == [("p['unread']", 8), ("p['w']", 1024)]
    assert [value.bytes for value in step.certificate.results] == [1024]


def test_static_arguments_of_a_function_that_is_jitted_are_seen():
    by_number = jax.jit(lambda times, x: x * times, static_argnums=0)
    step = cg.certify(by_number, 3, jnp.ones(4))
    assert [value.name for value in step.certificate.arguments] == ["x"]
    assert step(3, jnp.ones(4)).tolist() == [3.0] * 4
    with pytest.raises(cg.StaticArgumentError):
        step(2, jnp.ones(4))
    by_name = jax.jit(lambda x, mode: x * 2 if mode == "twice" else x, static_argnames="mode", donate_argnames="x")
    for args, kwargs in (((jnp.ones(4),), {"mode": "twice"}), ((jnp.ones(4), "twice"), {})):
        assert cg.certify(by_name, *args, **kwargs).certificate.donatable() == {}
    with pytest.raises(cg.OptionError, match="cannot be told which"):
        cg.certify(jax.jit(lambda a, b, x: x * a + b, static_argnums=0), 3, 2, jnp.ones(4))
