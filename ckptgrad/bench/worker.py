"""The process of one case: `python -m ckptgrad.bench.worker CASE [--quick]`.

Writes one JSON object per line: first {"run": ...}, the environment; then {"running": text} and {"row": ...} as they come;
last {"failure": text}, empty if all went well.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any

from ckptgrad.bench.environment import environment
from ckptgrad.bench.registry import Bench, get_cases


def main(name: str, quick: bool) -> None:
    """Run a case, and write its messages to standard output."""
    # Whatever libraries print goes to standard error, so that standard output carries nothing but messages.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def send(**message: Any) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    send(run=environment())
    failure = ""
    try:
        (case,) = get_cases([name])
        for row in case.run(Bench(quick, lambda text: send(running=text))):
            send(row=row.to_dict())
    except Exception as error:  # whatever a case or a peer raises, the book continues with the next case
        traceback.print_exc()
        failure = f"{type(error).__name__}: {error}"
    send(failure=failure)


if __name__ == "__main__":
    main(sys.argv[1], "--quick" in sys.argv[2:])
