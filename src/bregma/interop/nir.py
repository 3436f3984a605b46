r"""To and from the Neuromorphic Intermediate Representation, NIR (Pedersen et al. 2024, Nature Communications 15:8122).

NIR's neurons live in continuous time, ``tau dv/dt = v_leak - v + R I`` with ``v = v_reset`` when ``v > v_threshold``.
One step ``dt`` of the explicit Euler method, ``v[t] = (1 - dt/tau) v[t-1] + (dt/tau) R I[t]``, is the recurrence of
this package, ``z[t] = decay z[t-1] + I[t]``, with

    ``tau = dt / (1 - decay)``,  ``R = tau / dt``,  ``v_leak = v_reset = 0``,  ``v_threshold = threshold``,

the convention of snnTorch and Norse. Its inverse, ``decay = 1 - dt/tau``, is exact for a decay in float32; a decay in
float64 is rounded, so each node carries its decay in its metadata too, and that is used as long as it agrees with tau.
A decay of 1 has no tau: such layers become ``IF`` and ``I`` with ``R = 1/dt``.

======================== ====================================== ==================================================
bregma                   NIR                                    not held by NIR, kept as metadata
======================== ====================================== ==================================================
``Linear``               ``Affine``, or ``Linear`` without bias
``Conv2d``               ``Conv2d``
``AvgPool2d``            ``AvgPool2d``, ``SumPool2d``
batch normalisation      folded into the layer before it
``LIF``                  ``LIF``, ``IF``                        a reset other than to zero, ``strict=False``,
                                                                surrogate, ``detach_reset``
``RecurrentLIF``         the same, with a loop through
                         ``Linear``
``DelayedRecurrentLIF``  the same, with ``Delay`` before        a spread above zero
                         ``Linear``
``Readout``              ``LI``, ``I``                          how scores follow from the membrane
======================== ====================================== ==================================================

A loop takes one step, and a ``Delay`` adds ``delays * dt`` to it. All parameters have the full shape of their layer.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

from bregma.files import write_bytes
from bregma.interop.chain import Network, as_sequential
from bregma.interop.libraries import library
from bregma.interop.nir_read import read_graph
from bregma.interop.nir_write import write_graph
from bregma.nn import SpikingSequential


class LostInTranslation(UserWarning):
    """What a format cannot hold of a network."""


def to_nir(
    net: Network,
    path: str | Path | None = None,
    *,
    dt: float = 1e-4,
    frame_shape: tuple[int, ...] | None = None,
) -> Any:
    """A network as a NIR graph, and as a file if a path is given.

    Args:
        net: what `bregma.interop.chain.as_sequential` takes.
        path: file to write, usually ``*.nir``.
        dt: seconds of a time step. snnTorch reads every graph as one of 1e-4 s, so other values give it other decays.
        frame_shape: shape of a frame; needed unless the first layer is dense.

    Returns:
        A ``nir.NIRGraph``.

    Raises:
        ValueError: a layer that NIR cannot hold; the message names it and says why.
        TypeError: a network or layer of a kind that is not known here.
        ImportError: nir is not installed.

    Warns:
        LostInTranslation: what other readers of the graph will not see, since it is in the metadata only.

    Example:
        >>> import torch
        >>> from bregma.nn import LIF, Readout
        >>> net = SpikingSequential(torch.nn.Linear(4, 3), LIF(0.9, reset="zero"), torch.nn.Linear(3, 2), Readout(0.9))
        >>> graph = to_nir(net)
        >>> list(graph.nodes)
        ['input', '0', '1', '2', '3', 'output']
        >>> graph.nodes["1"].tau
        array([0.001, 0.001, 0.001])
    """
    nir = library("nir", "nir")
    if not 0 < dt < float("inf"):
        raise ValueError(f"dt must be a finite number > 0, got {dt}")
    graph, lost = write_graph(as_sequential(net), dt, frame_shape, nir)
    if lost:
        warnings.warn("NIR holds these as metadata only: " + "; ".join(lost), LostInTranslation, stacklevel=2)
    if path is not None:
        buffer = io.BytesIO()
        nir.write(buffer, graph)
        write_bytes(Path(path), buffer.getvalue())
    return graph


def from_nir(source: Any, *, dt: float | None = None) -> SpikingSequential:
    """A NIR graph as a network of this package.

    The graph must be one chain of layers; neurons may hear themselves through ``Linear`` or ``Affine``, a ``Delay``
    before it or not. ``LIF`` without metadata of ours is read as NIR defines it: strict threshold, reset to zero. A
    scale of the current, ``R dt / tau != 1``, goes into the threshold, which leaves the spikes as they are, or for
    ``LI`` into the layer before.

    Args:
        source: a ``nir.NIRGraph``, or the path of a file.
        dt: seconds of a time step; by default what the metadata of the graph say, else 1e-4.

    Returns:
        The network. Its modules have the names of the nodes, with ``_`` for a dot.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a NIR file, or a node or wiring that has no equal here; the message names it and says why.
        ImportError: nir is not installed.

    Example:
        >>> import torch
        >>> from bregma.nn import LIF
        >>> net = SpikingSequential(torch.nn.Linear(4, 3), LIF(0.9, reset="zero"))
        >>> x = torch.rand(5, 2, 4)
        >>> torch.equal(from_nir(to_nir(net))(x), net(x))
        True
    """
    nir = library("nir", "nir")
    if isinstance(source, nir.NIRGraph):
        return _built(source, dt, nir)
    graph = _read(Path(source), nir)
    try:
        return _built(graph, dt, nir)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def _built(graph: Any, dt: float | None, nir: Any) -> SpikingSequential:
    if dt is None:
        dt = float(graph.metadata.get("dt", 1e-4))
    if not 0 < dt < float("inf"):
        raise ValueError(f"dt must be a finite number > 0, got {dt}")
    layers = read_graph(graph, dt, nir)
    score = graph.metadata.get("score")
    return SpikingSequential(layers, score=None if score is None else str(score))  # type: ignore[arg-type]


def _read(path: Path, nir: Any) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; name a file in the format of NIR")
    try:
        graph = nir.read(path, type_check=False)
    except (OSError, KeyError, ValueError, TypeError, AssertionError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{path}: not a readable NIR file ({' '.join(str(error).split())})") from error
    if not isinstance(graph, nir.NIRGraph):
        raise ValueError(f"{path}: holds a single node, not a NIR graph")
    return graph
