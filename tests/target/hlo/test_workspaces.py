"""The scratch of libraries' kernels."""

from __future__ import annotations

from ckptgrad.target.hlo.workspaces import largest_workspace

PROGRAM = """
HloModule jit_f, is_scheduled=true

ENTRY %main.1 (a: f32[8,8]) -> f32[8,8] {
  %a = f32[8,8]{1,0} parameter(0)
  %small = (f32[8,8]{1,0}, s8[1024]{0}) custom-call(%a, %a), custom_call_target="__cublas$gemm"
  %b = f32[8,8]{1,0} get-tuple-element(%small), index=0
  %large = (f32[8,8]{1,0}, s8[4194304]{0}) custom-call(%b, %a), custom_call_target="__cublas$gemm"
  ROOT %c = f32[8,8]{1,0} get-tuple-element(%large), index=0
}
"""


def test_the_largest_one_is_found():
    assert largest_workspace(PROGRAM) == 4194304


def test_a_program_without_libraries_has_none():
    assert largest_workspace(PROGRAM.replace("custom-call", "call")) is None
