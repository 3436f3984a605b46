"""The wiring of a NIR graph: nested graphs opened, loops told from layers, the rest put in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """One layer of a chain.

    Attributes:
        name: of the node.
        node: the node.
        weight: the ``Linear`` or ``Affine`` through which neurons hear themselves, or None.
        delay: the ``Delay`` before it, or None.
    """

    name: str
    node: Any
    weight: Any = None
    delay: Any = None

    @property
    def key(self) -> str:
        """Name of the module: without the ending of recurrent neurons, and without dots."""
        name = self.name.removesuffix(".lif") if self.weight is not None else self.name
        return name.replace(".", "_")


def chain_of(graph: Any, nir: Any) -> list[Step]:
    """The layers of a graph from its input to its output.

    Raises:
        ValueError: the graph is no chain.
    """
    nodes, edges = _opened(graph, nir)
    for edge in edges:
        for name in edge:
            if name not in nodes:
                raise ValueError(f"edge {edge[0]} -> {edge[1]}: there is no node {name}")
    loops = _loops(nodes, edges, nir)
    inside = {name for loop in loops.values() for name in loop}
    outside = [edge for edge in edges if not inside.intersection(edge)]
    name, end = _only(nodes, nir.Input), _only(nodes, nir.Output)
    steps = []
    while name != end:
        ahead = [target for source, target in outside if source == name]
        heard = [source for source, target in outside if target in ahead]
        if len(ahead) != 1 or len(heard) != 1:
            raise ValueError(
                f"{name}: bregma takes chains and neurons that hear themselves through Linear or Affine, "
                f"got a node that goes to {' and '.join(ahead) or 'none'} (which hears {' and '.join(heard) or 'none'})"
            )
        (name,) = ahead
        steps.append(Step(name, nodes[name], *(nodes[part] for part in loops.get(name, []))))
    lost = set(nodes) - inside - {step.name for step in steps} - {_only(nodes, nir.Input)}
    if lost:
        raise ValueError(f"{', '.join(sorted(lost))}: not on the way from input to output")
    return steps[:-1]


def _loops(nodes: dict[str, Any], edges: list[tuple[str, str]], nir: Any) -> dict[str, list[str]]:
    """Neurons that hear themselves, with the names of the nodes on the way back: weights, and a delay before them."""
    loops = {}
    into = {name: [source for source, target in edges if target == name] for name in nodes}
    out_of = {name: [target for source, target in edges if source == name] for name in nodes}
    for weight, node in nodes.items():
        if not isinstance(node, nir.Linear | nir.Affine) or len(into[weight]) != 1 or len(out_of[weight]) != 1:
            continue
        (neurons,), (source,) = out_of[weight], into[weight]
        way = [weight]
        if isinstance(nodes[source], nir.Delay) and len(into[source]) == len(out_of[source]) == 1:
            way, source = [weight, source], into[source][0]
        if source == neurons and isinstance(nodes[neurons], nir.LIF | nir.IF) and neurons not in loops:
            loops[neurons] = way
    return loops


def _only(nodes: dict[str, Any], kind: Any) -> str:
    found = [name for name, node in nodes.items() if isinstance(node, kind)]
    if len(found) != 1:
        raise ValueError(f"graph must have one {kind.__name__}, got {len(found)}")
    return found[0]


def _opened(graph: Any, nir: Any) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Nodes and edges of a graph with the nested ones in place, named ``outer.inner``."""
    nodes: dict[str, Any] = {}
    edges = list(dict.fromkeys((str(source), str(target)) for source, target in graph.edges))
    for name, node in graph.nodes.items():
        if not isinstance(node, nir.NIRGraph):
            nodes[name] = node
            continue
        inner, wires = _opened(node, nir)
        entry, leave = _only(inner, nir.Input), _only(inner, nir.Output)
        nodes |= {f"{name}.{key}": part for key, part in inner.items() if key not in (entry, leave)}
        first = [f"{name}.{target}" for source, target in wires if source == entry]
        last = [f"{name}.{source}" for source, target in wires if target == leave]
        edges = [
            (a, b)
            for source, target in edges
            for a in (last if source == name else [source])
            for b in (first if target == name else [target])
        ]
        edges += [(f"{name}.{a}", f"{name}.{b}") for a, b in wires if a != entry and b != leave]
    return nodes, edges
