"""A pipeline compiled to a straight line: the nodes are called, not a runner.

`compile_plan` resolves names to slots once; a call then only walks a list. Kedro's runner copies and stores what passes
between nodes; a plan hands on whatever the functions return, which is how they are traced into a graph
(`tracing.py`). The nodes are duck-typed, so nothing of Kedro is imported here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from flightdeck.core.errors import ConfigError, nearest, some

Column = Any  # an array of shape (n_rows,)


class PlanNode(Protocol):
    """What is read of a Kedro node. `inputs` would flatten dictionaries, hence the attributes behind it."""

    _inputs: Any  # a name, names, names by parameter, or None
    _outputs: Any

    @property
    def func(self) -> Callable[..., Any]:
        """The function that the node calls."""
        ...


class _Step(NamedTuple):
    """One call: where its arguments lie and where its results go."""

    function: Callable[..., Any]
    args: tuple[int, ...]
    kwargs: dict[str, int]
    single: int | None
    many: tuple[tuple[Any, int], ...]


class Plan:
    """A compiled pipeline. Calls share nothing: any number of threads may make them.

    Parameters
    ----------
    inputs
        Names of the columns that a call reads.
    outputs
        Names of the columns that a call returns, in this order.
    """

    def __init__(self, inputs: Sequence[str], outputs: Sequence[str], steps: Sequence[_Step], slots: Mapping[str, int]):
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self._steps = tuple(steps)
        self._n_slots = len(slots)
        self._reads = tuple((name, slots[name]) for name in inputs)
        self._returns = tuple((name, slots[name]) for name in outputs)

    def __call__(self, columns: Mapping[str, Column]) -> dict[str, Column]:
        """Return the outputs for `columns`, all of shape `(n_rows,)`; columns that no node reads are ignored.

        Raises
        ------
        KeyError
            If an input is missing. Whatever a node raises passes through.
        """
        values: list[Any] = [None] * self._n_slots
        for name, slot in self._reads:
            values[slot] = columns[name]
        for function, args, kwargs, single, many in self._steps:
            result = function(*[values[slot] for slot in args], **{name: values[slot] for name, slot in kwargs.items()})
            if single is not None:
                values[single] = result
            else:
                for key, slot in many:
                    values[slot] = result[key]
        return {name: values[slot] for name, slot in self._returns}


def compile_plan(nodes: Iterable[PlanNode], inputs: Iterable[str], outputs: Sequence[str]) -> Plan:
    """Compile the nodes that `outputs` need, and no others.

    Parameters
    ----------
    nodes
        Nodes in any order.
    inputs
        Names of the columns that a call may give; only those that are needed become inputs of the plan.
    outputs
        Names of the columns to return; an input may be one.

    Raises
    ------
    ConfigError
        If a needed column is neither an input nor made by a node, two nodes make the same column, or nodes wait for
        each other.
    """
    producers: dict[str, PlanNode] = {}
    for node in nodes:
        for name in _names(node._outputs):
            if name in producers:
                raise ConfigError(f"compiling a plan: {_label(node)} and {_label(producers[name])} both make {name!r}")
            producers[name] = node
    given = set(inputs)
    order, reads = _order(outputs, producers, given)
    slots: dict[str, int] = {}
    for name in (*reads, *(name for node in order for name in _names(node._outputs))):
        slots.setdefault(name, len(slots))
    return Plan(reads, outputs, [_step(node, slots) for node in order], slots)


def _order(
    outputs: Sequence[str], producers: Mapping[str, PlanNode], given: set[str]
) -> tuple[list[PlanNode], list[str]]:
    """Return the needed nodes, each after those that it waits for, and the needed inputs."""
    order: list[PlanNode] = []
    reads: dict[str, None] = {}
    done: set[int] = set()

    def visit(name: str, waiting: tuple[PlanNode, ...]) -> None:
        if name in given:
            reads[name] = None
            return
        if name not in producers:
            raise ConfigError(
                f"compiling a plan: nothing gives {name!r}{nearest(name, [*given, *producers])}, needed by "
                f"{_label(waiting[-1]) if waiting else 'the caller'}",
                next_step="add the node that makes it, or give it as an input",
            )
        node = producers[name]
        if any(node is other for other in waiting):
            raise ConfigError(f"compiling a plan: nodes wait for each other: {some(map(_label, waiting))}")
        if id(node) not in done:
            for needed in _names(node._inputs):
                visit(needed, (*waiting, node))
            done.add(id(node))
            order.append(node)

    for output in outputs:
        visit(output, ())
    return order, list(reads)


def _step(node: PlanNode, slots: Mapping[str, int]) -> _Step:
    taken, made = node._inputs, node._outputs
    kwargs = {key: slots[name] for key, name in taken.items()} if isinstance(taken, Mapping) else {}
    args = () if isinstance(taken, Mapping) else tuple(slots[name] for name in _names(taken))
    if isinstance(made, str):
        return _Step(node.func, args, kwargs, slots[made], ())
    if isinstance(made, Mapping):
        return _Step(node.func, args, kwargs, None, tuple((key, slots[name]) for key, name in made.items()))
    return _Step(node.func, args, kwargs, None, tuple((place, slots[name]) for place, name in enumerate(made or ())))


def _names(names: str | Sequence[str] | Mapping[str, str] | None) -> tuple[str, ...]:
    if names is None:
        return ()
    if isinstance(names, str):
        return (names,)
    return tuple(names.values()) if isinstance(names, Mapping) else tuple(names)


def _label(node: PlanNode) -> str:
    return getattr(node.func, "__qualname__", repr(node.func))
