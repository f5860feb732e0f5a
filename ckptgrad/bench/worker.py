"""The process of one case: `python -m ckptgrad.bench.worker CASE [--quick]`.

Writes one JSON object a line: first {"run": ...}, where it is; {"doing": text} and {"row": ...} as it goes on; last
{"failure": text}, empty if all went well.
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
    """Run a case."""
    # What libraries print goes where errors go; the lines below keep standard output to themselves.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(**message: Any) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    tell(run=environment())
    failure = ""
    try:
        (case,) = get_cases([name])
        for row in case.run(Bench(quick, lambda text: tell(doing=text))):
            tell(row=row.to_dict())
    except Exception as error:  # whatever a case or a peer raises: the book goes on with the next case
        traceback.print_exc()
        failure = f"{type(error).__name__}: {error}"
    tell(failure=failure)


if __name__ == "__main__":
    main(sys.argv[1], "--quick" in sys.argv[2:])
