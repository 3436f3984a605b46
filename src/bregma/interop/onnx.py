"""One time step of a network as an ONNX graph, for runtimes that know no neurons.

The graph takes a frame and the state of each layer of neurons, and returns the output of the last layer and the new
states, all float32, for any number of samples. The caller feeds the states back; zeros are rest. Names of inputs are
``frame`` and ``state/LAYER``, of outputs ``output`` and ``next/LAYER``.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bregma import dynamics
from bregma.files import write_bytes
from bregma.interop.chain import Network, as_sequential, input_shape
from bregma.interop.libraries import library
from bregma.nn import LIF, DelayedRecurrentLIF, Readout, SpikingSequential
from bregma.nn.sequential import over_time


class TimeStep(nn.Module):
    """One time step of a chain of layers: (frame, states) -> (output, new states).

    Args:
        chain: the layers; their score is left to the caller.
        frame: one frame (B, ...), for the shapes.

    Attributes:
        names: of the layers that have a state.

    Example:
        >>> step = TimeStep(SpikingSequential(nn.Linear(4, 3), LIF()), torch.zeros(1, 4))
        >>> output, membrane = step(torch.ones(2, 4), *step.rest(2))
        >>> output.shape, membrane.shape
        (torch.Size([2, 3]), torch.Size([2, 3]))
    """

    def __init__(self, chain: SpikingSequential, frame: Tensor) -> None:
        super().__init__()
        self.chain = chain
        self.names = [name for name, module in chain.named_children() if isinstance(module, LIF | Readout)]
        self._shapes: list[tuple[int, ...]] = []
        with torch.no_grad():
            x = frame[None]
            for module in chain:
                if isinstance(module, DelayedRecurrentLIF):
                    self._shapes.append((1 + module.most_slots, 0, x[0, 0].numel()))
                elif isinstance(module, LIF | Readout):
                    self._shapes.append((0, x[0, 0].numel()))
                x = over_time(module, x)

    def rest(self, batch: int) -> list[Tensor]:
        """The states before the first step, for a number of samples."""
        return [torch.zeros([batch if size == 0 else size for size in shape]) for shape in self._shapes]

    def forward(self, frame: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Output and new states."""
        x, left, following = frame[None], list(states), []
        for module in self.chain:
            if isinstance(module, LIF | Readout):
                output, state = module(x.flatten(2), left.pop(0))
                x = output.view(x.shape)
                following.append(state)
            else:
                x = over_time(module, x)
        return x[0], *following


def to_onnx(net: Network, path: str | Path, *, frame_shape: tuple[int, ...] | None = None) -> TimeStep:
    """Write one time step of a network as an ONNX file.

    Args:
        net: what `bregma.interop.chain.as_sequential` takes; it is exported in evaluation.
        path: file to write, ``*.onnx``.
        frame_shape: shape of a frame; needed unless the first layer is dense.

    Returns:
        The step that was written, a torch module that tells the order of the states and gives those at rest.

    Raises:
        ValueError: the frame shape is needed, or does not fit.
        ImportError: onnx or onnxscript is not installed.
    """
    library("onnx", "onnx")
    library("onnxscript", "onnx")
    chain = copy.deepcopy(as_sequential(net)).float().eval()
    shape = input_shape(chain, frame_shape)
    with dynamics.use_backend("torch"):
        try:
            step = TimeStep(chain, torch.zeros(1, *shape))
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"frame_shape must fit the network, got {shape}: {reason}") from error
        write_bytes(Path(path), _exported(step, torch.zeros(2, *shape)))
    return step


def _exported(step: TimeStep, frame: Tensor) -> bytes:
    states = step.rest(len(frame))
    batch = torch.export.Dim("batch", min=1)
    dynamic = ({0: batch}, tuple({state.dim() - 2: batch} for state in states))
    program: Any
    with warnings.catch_warnings(), _errors_alone("torch.onnx"), torch.no_grad():
        warnings.simplefilter("ignore")  # torch and onnxscript deprecate parts of each other
        program = torch.onnx.export(
            step,
            (frame, *states),
            input_names=["frame", *(f"state/{name}" for name in step.names)],
            output_names=["output", *(f"next/{name}" for name in step.names)],
            dynamic_shapes=dynamic,
            dynamo=True,
            verbose=False,
        )
    buffer = io.BytesIO()
    program.save(buffer)
    return buffer.getvalue()


@contextlib.contextmanager
def _errors_alone(logger: str) -> Iterator[None]:
    """Without the lines that torch logs of operators of a library that nobody asked for (torchvision)."""
    log = logging.getLogger(logger)
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
