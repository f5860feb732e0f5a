"""Planning: costs in bytes and seconds in, a schedule of forwards, backwards and frees out.

A leaf: knows numbers only, never arrays or functions. `costs` is the input, `schedule` the output,
`policies/` the ways from one to the other, `ledger` the model of memory that they share, `referee` the judge of
them all, which shares no code with them.
"""

from ckptgrad.planning.costs import ChainCosts, SaveOption, StageCost
from ckptgrad.planning.optimal.dynamic_programming import minimum_peak
from ckptgrad.planning.policy import Policy, PolicyError, get_policy, policy, registered
from ckptgrad.planning.referee import Simulation, simulate
from ckptgrad.planning.schedule import Action, Backward, Fetch, Forward, Free, Offload, Schedule

__all__ = [
    "Action",
    "Backward",
    "ChainCosts",
    "Fetch",
    "Forward",
    "Free",
    "Offload",
    "Policy",
    "PolicyError",
    "SaveOption",
    "Schedule",
    "Simulation",
    "StageCost",
    "get_policy",
    "minimum_peak",
    "policy",
    "registered",
    "simulate",
]
