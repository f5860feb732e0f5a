"""What takes a device's memory, from what XLA says and what is known of arguments and results."""

from __future__ import annotations

import pytest

import ckptgrad as cg
from ckptgrad.results.step_certificate import StepCertificate, StepValue
from ckptgrad.target.allocated import Memory

ARGUMENTS = (
    StepValue("params['w']", "params", 100, "float32[25]", donated=True),
    StepValue("params['b']", "params", 20, "float32[5]", donated=True),
    StepValue("state", "state", 100, "float32[25]"),
    StepValue("batch", "batch", 40, "float32[10]"),
)
RESULTS = tuple(StepValue(f"results[{k}]", str(k), 100, kind) for k, kind in enumerate(["float32[25]"] * 2 + ["float32[5]"]))


def certificate(**changes):
    given = {"memory": Memory(500, 220, 260, 120), "limit": 1000, "arguments": ARGUMENTS, "results": RESULTS}
    return StepCertificate("step", cg.target("cpu"), 1, **{**given, **changes})


def test_the_peak_is_everything():
    found = certificate()
    assert found.argument_bytes == 260
    assert found.output_bytes == 100
    assert found.peak_bytes == 260 + 500 + 100 == sum(held for name, held, _ in found.rows() if not name.startswith(" "))


def test_arguments_that_are_padded_count_as_they_lie():
    found = certificate(memory=Memory(500, 220, 300, 120))
    assert found.peak_bytes == 900
    assert ("arguments, padding", 40, "how this target lays them out") in list(found.rows())


def test_arguments_that_are_not_read_count():
    assert certificate(memory=Memory(500, 220, 200, 120)).argument_bytes == 260


def test_results_take_donated_arguments_first():
    assert certificate().donatable() == {"state": 100}
    assert certificate(results=RESULTS[:1]).donatable() == {}


@pytest.mark.parametrize(("workspace", "rest"), [(None, None), (200, 300), (900, 0)])
def test_workspaces_are_a_part_of_temporaries(workspace, rest):
    rows = {name: held for name, held, _ in certificate(workspace_bytes=workspace).rows()}
    assert rows.get(" activations and the rest") == rest
    assert rows.get(" workspaces") == (None if workspace is None else min(500, workspace))


def test_it_is_plain_data():
    data = certificate().to_dict()
    assert data["peak_bytes"] == 860
    assert data["arguments"][0] == {"name": "params['w']", "bytes": 100, "type": "float32[25]", "donated": True}
    assert data["gradient_bytes"] is None
