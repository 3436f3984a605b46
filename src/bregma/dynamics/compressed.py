"""Layers for inference on weights that are mostly zeros: spikes go from layer to layer as bits, no gradient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bregma.dynamics import memory
from bregma.dynamics.kernels import RESET_CODES, Array, as_bits, words_for
from bregma.dynamics.kernels_compressed import CHUNK, compressed_lif, compressed_linear, pack_frames
from bregma.dynamics.lif import Reset
from bregma.dynamics.ops import array
from bregma.dynamics.threads import over_rows


@dataclass(frozen=True)
class Connections:
    """The weights (n_out, n_in) that are not zero, by presynaptic neuron; see `bregma.dynamics.kernels_compressed`.

    Attributes:
        start: first chunk of each presynaptic neuron and, last, the number of chunks, (n_in + 1,).
        column: postsynaptic neuron of each entry; n_out where a chunk is filled up.
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

    @classmethod
    def from_entries(cls, position: Array, values: Array, n_in: int, n_out: int) -> Connections:
        """Make them from weights and their places, ascending, in the flat transpose (n_in, n_out)."""
        source, target = np.divmod(position.astype(np.int64), n_out)
        per_source = np.bincount(source, minlength=n_in)
        start = np.zeros(n_in + 1, np.int64)
        np.cumsum(-(-per_source // CHUNK), out=start[1:])
        rank = np.arange(len(source)) - (np.cumsum(per_source) - per_source)[source]
        place = CHUNK * start[source] + rank
        column = np.full(CHUNK * start[-1], n_out, np.uint16 if n_out < 2**16 else np.uint32)
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
        dtype, n = self.bias.dtype, len(self.bias)
        n_steps, batch = bits.shape[:2]
        # In one dtype always: every other one would be compiled anew.
        values = np.empty((0, 0, 0), self.inputs.values.dtype) if graded is None else graded
        out = _bits(n_steps, batch, n)
        nothing = Connections(np.empty(0, np.int64), self.inputs.column[:0], self.inputs.values[:0], 0, 0)
        shape = torch.empty(0, n, dtype=dtype) if self.shape is None else self.shape
        inputs = *self.inputs.arrays, array(self.bias), *(self.own or nothing).arrays, array(shape)
        neurons = array(self.decay), array(self.threshold), RESET_CODES[self.reset], self.strict
        membrane = np.zeros((batch, n), self.inputs.values.dtype)
        arrivals = np.zeros((batch, len(shape), n), membrane.dtype)
        state = membrane, arrivals, out
        drive = values.astype(membrane.dtype, copy=False), graded is not None, bits
        over_rows(lambda first, last: compressed_lif(*drive, *inputs, *neurons, *state, first, last), batch)
        return out


def bits_of(x: Tensor) -> tuple[Array, Array | None]:
    """Bits (T, B, words) of the non-zeros of frames (T, B, n), and the frames where some are neither zero nor one."""
    frames, bits = array(x), _bits(x.shape[0], x.shape[1], x.shape[2])
    rows, words, others = frames.reshape(-1, x.shape[2]), bits.reshape(-1, bits.shape[2]), []
    over_rows(lambda first, last: others.append(pack_frames(rows, words, first, last)), len(rows), 64)
    return bits, frames if any(others) else None


def linear_of_bits(bits: Array, weights: Connections, bias: Tensor) -> Tensor:
    """``spikes @ weight.T + bias`` (T, B, n_out) of spikes given as bits (T, B, words)."""
    out = torch.empty(*bits.shape[:2], weights.n_out, dtype=bias.dtype)
    rows = bits.reshape(-1, bits.shape[2]), *weights.arrays, array(bias), array(out).reshape(-1, weights.n_out)
    over_rows(lambda first, last: compressed_linear(*rows, first, last), len(rows[0]), 64)
    return out


def _bits(n_steps: int, batch: int, n: int) -> Array:
    return as_bits(array(memory.empty((n_steps, batch, words_for(n)), torch.int64)))
