"""Layers for inference on weights that are mostly zeros: spikes go from layer to layer as bits, no gradient."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bregma.dynamics import memory
from bregma.dynamics.kernels import RESET_CODES, Array, as_bits, words_for
from bregma.dynamics.kernels_compressed import CHUNK, compressed_lif, pack_frames
from bregma.dynamics.kernels_events import count_events
from bregma.dynamics.kernels_lanes import lanes_lif
from bregma.dynamics.lif import Reset
from bregma.dynamics.ops import array
from bregma.dynamics.threads import over_rows


@dataclass(frozen=True)
class Connections:
    """The weights (n_out, n_in) that are not zero, by presynaptic neuron; see `bregma.dynamics.kernels_compressed`.

    Attributes:
        start: first chunk of each presynaptic neuron and, last, the number of chunks, (n_in + 1,).
        column: postsynaptic neuron of each entry; n_out or more where a chunk is filled up.
        values: the weights.
        n_out: number of postsynaptic neurons.
        count: number of weights that are not zero.
    """

    start: Array
    column: Array
    values: Array
    n_out: int
    count: int

    @property
    def n_in(self) -> int:
        """Number of presynaptic neurons."""
        return len(self.start) - 1

    @property
    def arrays(self) -> tuple[Array, Array, Array]:
        """As the kernels take them."""
        return self.start, self.column, self.values

    @cached_property
    def by_target(self) -> tuple[Array, Array, Array]:
        """By postsynaptic neuron, without chunks: first entry of each, presynaptic neurons, weights."""
        if self.n_out == 0:  # no connections
            return self.arrays
        position, values = self.entries()
        source, target = np.divmod(position, self.n_out)
        order = np.argsort(target, kind="stable")
        start = np.searchsorted(target[order], np.arange(self.n_out + 1))
        return start, source[order].astype(np.uint16 if self.n_in <= 2**16 else np.uint32), values[order]

    @classmethod
    def from_entries(cls, position: Array, values: Array, n_in: int, n_out: int) -> Connections:
        """Make them from weights and their places, ascending, in the flat transpose (n_in, n_out)."""
        source, target = np.divmod(position.astype(np.int64), n_out)
        per_source = np.bincount(source, minlength=n_in)
        start = np.zeros(n_in + 1, np.int64)
        np.cumsum(-(-per_source // CHUNK), out=start[1:])
        rank = np.arange(len(source)) - (np.cumsum(per_source) - per_source)[source]
        place = CHUNK * start[source] + rank
        column = n_out + np.arange(CHUNK * start[-1]) % CHUNK  # not one column: each addition would wait for the last
        column = column.astype(np.uint16 if n_out + CHUNK <= 2**16 else np.uint32)
        padded = np.zeros(len(column), values.dtype)
        column[place], padded[place] = target, values
        return cls(start, column, padded, n_out, len(values))

    @classmethod
    def from_weight(cls, weight: Tensor) -> Connections:
        """Compress a dense weight (n_out, n_in), float32 or float64."""
        flat = array(weight.t()).ravel()
        position = np.flatnonzero(flat)
        return cls.from_entries(position, flat[position], weight.shape[1], weight.shape[0])

    def entries(self) -> tuple[Array, Array]:
        """Places and weights, the inverse of `from_entries`."""
        source = np.repeat(np.arange(self.n_in), CHUNK * np.diff(self.start))
        real = self.column < self.n_out
        return (source * self.n_out + self.column)[real], self.values[real]

    def dense(self) -> Tensor:
        """The weight (n_out, n_in)."""
        flat = np.zeros(self.n_in * self.n_out, self.values.dtype)
        position, values = self.entries()
        flat[position] = values
        return torch.from_numpy(flat).view(self.n_in, self.n_out).t()


@dataclass(frozen=True)
class Population:
    """Neurons and what they hear; all tensors (n,) unless said otherwise, in one dtype.

    Attributes:
        inputs: connections from the layer before.
        bias: constant current.
        own: connections from the layer itself, or None.
        shape: kernel of the axonal delays (slots, n), or None; see `bregma.dynamics.delays.delay_kernel`.
        decay: see `bregma.dynamics.lif`.
        threshold: see `bregma.dynamics.lif`.
        reset: see `bregma.dynamics.lif`.
        strict: see `bregma.dynamics.lif`.
    """

    inputs: Connections
    bias: Tensor
    own: Connections | None
    shape: Tensor | None
    decay: Tensor
    threshold: Tensor
    reset: Reset
    strict: bool

    def run(self, bits: Array, graded: Array | None = None) -> Array:
        """Run from rest.

        Args:
            bits: input spikes (T, B, words), from `bits_of` or another layer.
            graded: the input's values (T, B, n_in) where some are neither zero nor one.

        Returns:
            Bits of the spikes (T, B, words), unsigned.
        """
        return self._run(bits, graded, torch.empty(0, 0, 0, dtype=self.bias.dtype))

    def membranes(self, bits: Array) -> Tensor:
        """Run from rest as `run` does, for the membranes (T, B, n)."""
        trace = memory.empty((*bits.shape[:2], len(self.bias)), self.bias.dtype)
        self._run(bits, None, trace)
        return trace

    def _run(self, bits: Array, graded: Array | None, trace: Tensor) -> Array:
        n_steps, batch, _ = bits.shape
        out = _bits(n_steps, batch, len(self.bias))
        constants = array(self.decay), array(self.threshold), RESET_CODES[self.reset], self.strict
        values = self.inputs.values
        nothing = Connections(np.empty(0, np.int64), self.inputs.column[:0], values[:0], 0, 0)
        own = self.own or nothing
        if graded is None and self.shape is None and _lanes_pay(bits, len(self.bias), self.inputs, own):
            connections = *self.inputs.by_target, array(self.bias), *own.by_target
            lanes = bits, *connections, *constants, out, array(trace)
            over_rows(lambda first, last: lanes_lif(*lanes, first, last), words_for(batch))
            return out
        # Values in one dtype always: every other one would be compiled anew.
        x = values[:0].reshape(0, 0, 0) if graded is None else graded.astype(values.dtype, copy=False)
        shape = torch.empty(0, 0, dtype=self.bias.dtype) if self.shape is None else self.shape
        source = x, graded is not None, bits
        connections = *self.inputs.arrays, array(self.bias), *own.arrays
        rows = *source, *connections, array(shape), *constants, out, array(trace), values.dtype.type(1)
        over_rows(lambda first, last: compressed_lif(*rows, first, last), batch)
        return out


def _lanes_pay(bits: Array, n: int, *connections: Connections) -> bool:
    """Whether `kernels_lanes` are expected to be faster for ``n`` neurons that fire about as often as their input.

    Costs are nanoseconds per step, measured on one core of an AMD EPYC with AVX-512.
    """
    n_steps, batch, words = bits.shape
    weights, n_in = sum(each.count for each in connections), connections[0].n_in
    additions = count_events(bits.reshape(-1, words)) / n_steps * weights / n_in
    row_by_row = (60 + 0.15 * n) * batch + 0.7 * additions
    side_by_side = (1.2 * weights + 16 * n + 100 * (words + words_for(n))) * words_for(batch)
    return bool(side_by_side < row_by_row)


def bits_of(x: Tensor) -> tuple[Array, Array | None]:
    """Bits (T, B, words) of the non-zeros of frames (T, B, n), and the frames where some are neither zero nor one."""
    frames, bits = array(x), _bits(x.shape[0], x.shape[1], x.shape[2])
    rows, words, others = frames.reshape(-1, x.shape[2]), bits.reshape(-1, bits.shape[2]), []
    over_rows(lambda first, last: others.append(pack_frames(rows, words, first, last)), len(rows), 64)
    return bits, frames if any(others) else None


def _bits(n_steps: int, batch: int, n: int) -> Array:
    return as_bits(array(memory.empty((n_steps, batch, words_for(n)), torch.int64)))
