"""What devices send each other in a compiled program."""

from __future__ import annotations

import pytest

from ckptgrad.target.hlo.text import read_module
from ckptgrad.target.hlo.walk import total_seconds
from ckptgrad.target.links import Links
from tests.target.hlo.programs import one_line

# A byte per second, a tenth of it beyond four devices.
LINKS = Links(1.0, near=4, far_rate=0.1)


def no_time(instruction, inside):
    return 0.0


@pytest.mark.parametrize(
    ("line", "received"),
    [
        ("f32[8] all-gather(%0), replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}", 3 * 8),
        ("f32[2] all-reduce(%0), replica_groups={{0,1}}, to_apply=%add", 8),
        ("f32[1] reduce-scatter(%0), replica_groups=[4,2]<=[8], dimensions={0}", 4),
        ("f32[2] all-to-all(%0), replica_groups=[2,4]<=[8]", 6),
        ("f32[2] all-to-all(%0), replica_groups=[4,2]<=[2,4]T(1,0)", 10 * 4),  # 0 and 4: five devices apart
        ("f32[2] collective-permute(%0), source_target_pairs={{0,1},{1,2}}", 8),
        ("f32[2] collective-permute(%0), source_target_pairs={{0,1},{1,2},{7,0}}", 10 * 8),
        ("f32[4] all-gather(%0), replica_groups=mesh['a'=4,'b'=2] {'b'}, dimensions={0}", 8),
        ("f32[8] all-gather(%0), replica_groups=mesh['a'=4,'b'=2] {'a'}, dimensions={0}", 10 * 3 * 8),
        ("f32[4] all-gather(%0), replica_groups=mesh['a'=2,'b'=2], device_ids=([0,7,1,2]) {'b'}, dimensions={0}", 10 * 8),
        ("f32[2] all-reduce(%0), replica_groups={{0},{1}}, to_apply=%add", 0),  # each alone
        ("f32[2] sine(%0)", 0),
    ],
)
def test_each_receives(line, received):
    assert total_seconds(read_module(one_line(line, "f32[2]")), no_time, LINKS) == pytest.approx(received)


OVERLAPPED = """
%carried (p: f32[2], q: f32[8]) -> f32[8] {
  %p = f32[2] parameter(0)
  %q = f32[8] parameter(1)
  %g = f32[8] all-gather(%p), channel_id=5, replica_groups={{0,1,2,3}}, dimensions={0}
  ROOT %s = f32[8] sine(%q)
}

%begun (p: f32[2]) -> f32[8] {
  %p = f32[2] parameter(0)
  %g = f32[8] all-gather(%p), channel_id=5, replica_groups={{0,1,2,3}}, dimensions={0}
  ROOT %c = f32[8] custom-call(%g), custom_call_target="AsyncCollectiveStart"
}

%ended (p: f32[2]) -> f32[8] {
  %p = f32[2] parameter(0)
  %g = f32[8] all-gather(%p), channel_id=5, replica_groups={{0,1,2,3}}, dimensions={0}
  ROOT %c = f32[8] custom-call(%g), custom_call_target="AsyncCollectiveDone"
}

ENTRY %main (x: f32[2], y: f32[8]) -> f32[8] {
  %x = f32[2] parameter(0)
  %y = f32[8] parameter(1)
  LINES
}
"""
STARTED = "%s = (f32[2], f32[8]) all-gather-start(%x), channel_id=1, replica_groups={{0,1,2,3}}, dimensions={0}"
DONE = "ROOT %d = f32[8] all-gather-done(%s)"


def seconds(*lines: str, links: Links | None = LINKS) -> float:
    module = read_module(OVERLAPPED.replace("LINES", "\n  ".join(lines)))
    return total_seconds(module, lambda i, _: {"cosine": 10.0, "fusion": 10.0}.get(i.opcode, 0.0), links)


def test_what_is_sent_while_devices_compute_takes_only_what_it_lasts_longer():
    work = "%c = f32[8] cosine(%y)"
    assert seconds(STARTED, DONE) == 24
    assert seconds(STARTED, work, DONE) == 24
    assert seconds(work, STARTED, DONE) == 34
    assert seconds(STARTED, *(work.replace("%c", f"%c{k}") for k in range(3)), DONE) == 30
    assert seconds(STARTED, work, DONE, links=None) == 10


def test_collectives_wait_for_each_other():
    second = STARTED.replace("%s =", "%t =").replace("channel_id=1", "channel_id=2")
    assert seconds(STARTED, second, "%d = f32[8] all-gather-done(%s)", "ROOT %e = f32[8] all-gather-done(%t)") == 48


def test_a_collective_that_fusions_carry_on_is_sent_once():
    begun = "%b = f32[8] fusion(%x), kind=kCustom, calls=%begun"
    carried = "%f = f32[8] fusion(%x, %y), kind=kOutput, calls=%carried"
    ended = "ROOT %d = f32[8] fusion(%x), kind=kCustom, calls=%ended"
    # Each fusion computes for ten seconds.
    assert seconds(begun, carried, ended) == 30
    assert seconds(begun, ended) == 24


def test_a_fusion_that_sends_is_waited_for():
    assert seconds("ROOT %f = f32[8] fusion(%x, %y), kind=kOutput, calls=%carried") == 24 + 10
