"""The table of a step."""

from __future__ import annotations

import dataclasses

import ckptgrad as cg
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
