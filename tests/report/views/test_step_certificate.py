"""The table of a step."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

import ckptgrad as cg
from ckptgrad.results.plan import Plan
from tests.cases.steps import WS, X, loss
from tests.results.test_step_certificate import certificate


def test_each_argument_has_its_row():
    text = str(certificate())
    assert text.splitlines()[0] == "step: 860 B, of 1000 B"
    lines = {line.split("  ")[0].strip(): line.split() for line in text.splitlines()}
    assert lines["params"][1:5] == ["120", "B", "14%", "donated"]
    assert lines["temporaries"][1:3] == ["500", "B"]
    assert lines["all"][1:3] == ["860", "B"]


def test_a_device_of_several_and_a_target_that_is_not_here_are_said():
    elsewhere = dataclasses.replace(cg.target("cpu"), attached=False, device_kind="imagined")
    text = str(dataclasses.replace(certificate(), devices=4, target=elsewhere))
    assert text.startswith("step: 860 B a device, of 4, of 1000 B; compiled for imagined, which is not attached")


def test_plans_are_told():
    text = str(certificate(plans=(cg.plan(loss, WS, X),)))
    assert "gradient: 4 stages, 0 forwards repeated" in text
    assert "activations and the rest" in text


def test_it_shows_as_html():
    assert "<table" in certificate()._repr_html_() or "<pre" in certificate()._repr_html_()


def test_what_could_be_donated_is_said_with_what_that_saves():
    """A certified step that donates it takes as much less; one that can donate nothing more is told nothing."""

    def step(w, x):
        return w - jnp.mean(x), jnp.sum(x)

    arguments = jnp.ones(1024), jnp.ones(64)
    plain, donating = cg.certify(step, *arguments), cg.certify(step, *arguments, donate_argnums=0)
    assert "what would help: donate w (donate_argnames), over which results can be written: up to 4.0 KiB less" in " ".join(
        str(plain).split()
    )
    assert plain.certificate.to_dict()["donatable_bytes"] == {"w": 4096}
    # A donated result is found through a table of a few bytes.
    assert 4096 - 64 <= plain.peak_bytes - donating.peak_bytes <= 4096
    assert "what would help" not in str(donating)


def test_recomputation_inside_stages_is_told(monkeypatch):
    plan = cg.plan(loss, WS, X)
    monkeypatch.setattr(Plan, "recomputing_inside", 0)
    assert "recompute inside" not in str(certificate(plans=(plan,)))
    monkeypatch.setattr(Plan, "recomputing_inside", 3)
    assert "0 forwards repeated, 3 backwards recompute inside" in " ".join(str(certificate(plans=(plan,))).split())
