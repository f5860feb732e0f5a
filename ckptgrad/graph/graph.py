"""The computational graph of Goodfellow, Bengio and Courville, *Deep Learning*, section 6.5.

A `Graph` holds `Variable`s and the `Operation`s that compute them, in topological order.  It is
plain data: tracing lives in `trace`, evaluation in `evaluate`, differentiation in `autodiff`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast

from ckptgrad.graph.atoms import Array, Atom, Constant, Variable, aval_bytes, variables_of
from ckptgrad.graph.evaluate import evaluate
from ckptgrad.graph.printing import format_graph, graph_html
from ckptgrad.graph.source import SourceLine, user_line

__all__ = [
    "Atom", "Bindable", "Constant", "Graph", "KnownCost", "Operation", "Variable", "aval_bytes", "get_consumers",
    "get_inputs", "get_operation", "variables_of",
]  # fmt: skip


class Bindable(Protocol):
    """A primitive, or what stands in for one: all that an operation asks of it."""

    @property
    def name(self) -> str: ...
    @property
    def multiple_results(self) -> bool: ...
    def get_bind_params(self, params: dict[str, Any]) -> Any: ...
    def bind(self, *args: Any, **params: Any) -> Any: ...


class Inside(NamedTuple):
    """An array that an operation holds while it runs.

    Attributes:
        value: what it is; of a stack, one entry of it.
        maker: the operation that makes it; None for what is read.
        entries: those of the stack; 1: it is none.
        what: what it is, in words, where no operation makes it.
    """

    value: Variable
    maker: Operation | None
    entries: int = 1
    what: str = ""


@dataclass(frozen=True, slots=True)
class KnownCost:
    """What an operation costs where nothing has to be estimated.

    Attributes:
        seconds, bytes: how long it takes, and what it holds inside at its worst moment.
        course: those bytes over time, computed when asked for: pairs of seconds and the bytes held inside for as long.
        carried: the positions of results that are written over an operand of their type, where nothing else reads that.
        inside: the arrays that those bytes are, computed when asked for: an estimate.
    """

    seconds: float
    bytes: int
    course: Callable[[], Sequence[tuple[float, int]]] = tuple
    carried: tuple[int, ...] = ()
    inside: Callable[[], Sequence[Inside]] = tuple


class Operation:
    """One application of a JAX primitive.

    Attributes:
        primitive: the JAX primitive, or what stands in for one.
        inputs: the atoms it reads, in order.
        outputs: the variables it computes.
        params: the primitive's static parameters.

    Example:
        >>> import ckptgrad as cg
        >>> square = cg.trace(lambda x: x * x, 3.0)
        >>> (op,) = square.operations
        >>> op, float(op.bprop((3.0, 3.0), square.inputs[0], 1.0))
        (Operation(mul), 6.0)
    """

    __slots__ = ("context", "effects", "inputs", "known_cost", "outputs", "params", "primitive", "source_info")

    def __init__(
        self,
        primitive: Bindable,
        inputs: Sequence[Atom],
        outputs: Sequence[Variable],
        params: Mapping[str, Any],
        source_info: Any = None,
        context: Any = None,
        effects: frozenset[Any] = frozenset(),
        known_cost: KnownCost | None = None,
    ) -> None:
        self.primitive = primitive
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        # Shared, not copied, where it is a dict: operations that are one equation are known by it.
        self.params = cast("dict[str, Any]", params) if type(params) is dict else dict(params)
        self.source_info = source_info
        self.context = context
        self.effects = effects
        self.known_cost = known_cost

    @property
    def name(self) -> str:
        return self.primitive.name

    @property
    def source(self) -> SourceLine | None:
        """The user's line that made this operation, if known."""
        return user_line(self.source_info)

    def replace(self, inputs: Sequence[Atom], outputs: Sequence[Variable]) -> Operation:
        """The same operation on other variables."""
        return Operation(
            self.primitive, inputs, outputs, self.params, self.source_info, self.context, self.effects, self.known_cost
        )

    def with_params(self, **params: Any) -> Operation:
        """The same operation with some parameters replaced."""
        changed = {**self.params, **params}
        return Operation(
            self.primitive, self.inputs, self.outputs, changed, self.source_info, self.context, self.effects, self.known_cost
        )

    def bprop(self, inputs: Sequence[Array], X: Variable, G: Array | Sequence[Array]) -> Array | None:
        """The vector-Jacobian product towards one input (Goodfellow 6.5.6).

        Args:
            inputs: numbers (or tracers) for `self.inputs`, in order.
            X: the input variable to differentiate towards.
            G: the gradient on the output, or a sequence of them for several outputs.

        Returns:
            The gradient that this operation contributes to X, or None where it is zero.
        """
        from ckptgrad.autodiff.rule import apply_bprop  # a door to the engine, opened when called

        return apply_bprop(self, inputs, X, G)

    def __repr__(self) -> str:
        return f"Operation({self.name})"


class Graph:
    """Variables and operations from inputs to outputs.

    Attributes:
        inputs: the variables whose values come from outside, in order.
        constants: variables with values captured while tracing.
        operations: in topological order.
        outputs: the atoms returned, in order.
        stage_marks: for each region that the user marked as a stage, (start, end) as positions in
            `operations`, end exclusive.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> graph = cg.trace(lambda x: jnp.sin(x) * x, 1.0)
        >>> graph
        Graph(1 inputs, 2 operations, 1 outputs)
        >>> graph.counts["sin"], graph.edge_count
        (1, 3)
    """

    def __init__(
        self,
        inputs: Sequence[Variable],
        outputs: Sequence[Atom],
        operations: Sequence[Operation],
        constants: Mapping[Variable, Array] | None = None,
        stage_marks: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.operations = tuple(operations)
        self.constants = dict(constants or {})
        self.stage_marks = tuple(stage_marks)
        self._producers: dict[Variable, Operation] | None = None
        self._consumers: dict[Variable, list[Operation]] | None = None

    def get_operation(self, V: Variable) -> Operation | None:
        """The operation that computes V; None for inputs and constants."""
        if self._producers is None:
            self._producers = {v: op for op in self.operations for v in op.outputs}
        return self._producers.get(V)

    def get_inputs(self, V: Variable) -> list[Variable]:
        """The parents of V: the variables from which it is computed."""
        op = self.get_operation(V)
        return [] if op is None else [x for x in op.inputs if isinstance(x, Variable)]

    def get_consumers(self, V: Variable) -> list[Variable]:
        """The children of V: the variables computed directly from it."""
        return [out for op in self.consuming_operations(V) for out in op.outputs]

    def consuming_operations(self, V: Variable) -> list[Operation]:
        """The operations that read V, each once, in topological order."""
        if self._consumers is None:
            table: dict[Variable, list[Operation]] = {}
            for op in self.operations:
                for x in dict.fromkeys(op.inputs):
                    if isinstance(x, Variable):
                        table.setdefault(x, []).append(op)
            self._consumers = table
        return self._consumers.get(V, [])

    @property
    def variables(self) -> list[Variable]:
        """All variables: inputs, constants, then results in topological order."""
        results = [v for op in self.operations for v in op.outputs]
        return [*self.inputs, *self.constants, *results]

    @property
    def edge_count(self) -> int:
        """The number of (input variable, operation) edges, a variable read twice counted twice."""
        return sum(isinstance(x, Variable) for op in self.operations for x in op.inputs)

    @property
    def counts(self) -> Counter[str]:
        """How many operations of each primitive there are."""
        return Counter(op.name for op in self.operations)

    def grad(self, wrt: Variable | int | Sequence[Variable | int] | None = None) -> Graph:
        """The graph of the gradient of this graph's scalar output, symbol to symbol (Goodfellow 6.5.5).

        It can be printed, evaluated, compiled (`jax.jit(graph)`), counted and differentiated again.
        Each computation stands in it once, and only those that the gradient needs.

        Args:
            wrt: variables of this graph (inputs or results of operations) or positions of inputs;
                None for all float and complex inputs.

        Returns:
            A Graph with the inputs of this one and a gradient for each target.

        Raises:
            GradientTypeError: the output is not a scalar, or a target is not a variable of the graph.

        Example:
            >>> import ckptgrad as cg
            >>> cube = cg.trace(lambda x: x * x * x, 2.0)
            >>> [float(g) for g in cube.grad().grad()(2.0)]
            [12.0]
        """
        from ckptgrad.autodiff.symbolic import gradient_graph

        return gradient_graph(self, wrt)

    def __call__(self, *args: Array) -> list[Array]:
        """Evaluate with numbers (or tracers) for `inputs`; a list for `outputs`."""
        return evaluate(self, args)

    def __str__(self) -> str:
        return format_graph(self)

    def _repr_html_(self) -> str:
        return graph_html(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What IPython shows where there is no HTML."""
        printer.text("..." if cycle else str(self))

    def __repr__(self) -> str:
        return f"Graph({len(self.inputs)} inputs, {len(self.operations)} operations, {len(self.outputs)} outputs)"


def get_operation(V: Variable, G: Graph) -> Operation | None:
    """The operation of graph G that computes V (Goodfellow 6.5.6); None for inputs and constants.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> G = cg.trace(lambda x: jnp.sin(x) * x, 1.0)
        >>> cg.get_operation(G.outputs[0], G)
        Operation(mul)
    """
    return G.get_operation(V)


def get_inputs(V: Variable, G: Graph) -> list[Variable]:
    """The parents of V in G (Goodfellow 6.5.6): what it is computed from.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> G = cg.trace(lambda x, y: jnp.sin(x) * y, 1.0, 2.0)
        >>> [v in G.inputs for v in cg.get_inputs(G.outputs[0], G)]
        [False, True]
    """
    return G.get_inputs(V)


def get_consumers(V: Variable, G: Graph) -> list[Variable]:
    """The children of V in G (Goodfellow 6.5.6): what is computed directly from it.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> G = cg.trace(lambda x: jnp.sin(x) * x, 1.0)
        >>> [cg.get_operation(v, G).name for v in cg.get_consumers(G.inputs[0], G)]
        ['sin', 'mul']
    """
    return G.get_consumers(V)
