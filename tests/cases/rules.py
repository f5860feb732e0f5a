"""The table of rules under test; `tests/rules/` holds what each row buys.

`args` are shapes, filled with random numbers from `domain`, or arrays, taken as they are.
"""

from __future__ import annotations

from ckptgrad.rules.coverage import public_primitives
from tests.cases import Case
from tests.cases.elementwise import ARITHMETIC, COMPLEX, NEWER, SPECIAL, TRANSCENDENTAL
from tests.cases.linear_algebra import LINEAR_ALGEBRA, REDUCERS
from tests.cases.products import CONVOLUTIONS, FOURIER, PRODUCTS
from tests.cases.reductions import CUMULATIVE, REDUCTIONS, WINDOWS
from tests.cases.shapes import PASSING, SHAPES, SORTING, index_rows
from tests.cases.sparse import SPARSE

CASES: list[Case] = [
    *FOURIER,
    *ARITHMETIC,
    *(case for case in NEWER if set(case.primitives) <= set(public_primitives())),
    *TRANSCENDENTAL,
    *SPECIAL,
    *COMPLEX,
    *PRODUCTS,
    *CONVOLUTIONS,
    *REDUCTIONS,
    *SHAPES,
    *index_rows(),
    *WINDOWS,
    *CUMULATIVE,
    *SORTING,
    *PASSING,
    *LINEAR_ALGEBRA,
    *REDUCERS,
    *SPARSE,
]
