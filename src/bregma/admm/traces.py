r"""The dynamics in trace form, and the products the consistent solver needs of it.

With the causal filter ``(F a)_t = sum_{s <= t} decay^(t-s) a_s`` and the delay of one step S, Eq. (1) of arXiv
2505.05527 is, without a recursion,

    z_l = W_l F a_{l-1} - threshold S F a_l,      z_{L,t} = W_L (F a_{L-1})_t .

Its transpose ``F^T`` runs backward in time. Products of filtered spikes never need the filtered spikes themselves:
``sum_t d_t (F a)_t^T = sum_t (F^T d)_t a_t^T`` goes over the spikes alone, and so does the Gram matrix of the traces,
``sum_t a_t (F^T F a)_t^T``.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from bregma.admm import kernels_consistent as kernels
from bregma.admm.problem import Constants
from bregma.admm.products import correlate
from bregma.admm.targets import Cuts, Rule
from bregma.dynamics import memory
from bregma.dynamics.events import recall, remember
from bregma.dynamics.kernels import RESET_CODES, as_bits
from bregma.dynamics.ops import array
from bregma.dynamics.products import Train, weight_gradient
from bregma.dynamics.threads import over_rows

ReadoutKind = Literal["last", "mean"]
_ROWS = 4096  # of a product that are summed in the dtype of the spikes before they are added in float64
_SUBTRACT = [RESET_CODES["subtract"], 1, 0, 0]  # flags of the fused layer; its surrogate is not used


def trace(a: Tensor, decay: float) -> Tensor:
    """``F a`` (T, B, n).

    Example:
        >>> trace(torch.tensor([[[1.0]], [[0.0]], [[1.0]]]), 0.5).flatten()
        tensor([1.0000, 0.5000, 1.2500])
    """
    if a.device.type != "cpu":
        return _scan(a, decay)
    out = memory.empty(tuple(a.shape), a.dtype)
    arrays = array(a), decay, array(out)
    over_rows(lambda first, last: kernels.forward_filter(*arrays, first, last), a.shape[1])
    return out


def reverse_trace(d: Tensor, decay: float) -> Tensor:
    """``F^T d`` (T, B, n).

    Example:
        >>> reverse_trace(torch.tensor([[[1.0]], [[0.0]], [[1.0]]]), 0.5).flatten()
        tensor([1.2500, 0.5000, 1.0000])
    """
    if d.device.type != "cpu":
        return _scan(d.flip(0), decay).flip(0)
    out = memory.empty(tuple(d.shape), d.dtype)
    arrays = array(d), decay, array(out)
    over_rows(lambda first, last: kernels.reverse_filter(*arrays, first, last), d.shape[1])
    return out


def _scan(x: Tensor, decay: float) -> Tensor:
    out, last = [], torch.zeros_like(x[0])
    for now in x.unbind(0):
        last = now + decay * last
        out.append(last)
    return torch.stack(out)


def readout_kernel(kind: ReadoutKind, steps: int, decay: float, like: Tensor) -> Tensor:
    """``kappa`` (T,): what a spike at each step adds to the readout, whose membranes leak like all others.

    Args:
        kind: ``"last"`` membrane, ``decay^(T-t)``, or the ``"mean"`` over all steps.
        steps: T.
        decay: of the membranes.
        like: tensor whose dtype and device it should have.

    Example:
        >>> readout_kernel("mean", 2, 0.5, torch.zeros(()))
        tensor([0.7500, 0.5000])
    """
    if kind not in get_args(ReadoutKind):
        raise ValueError(f"readout must be one of {', '.join(get_args(ReadoutKind))}, got {kind!r}")
    powers = decay ** torch.arange(steps - 1, -1, -1, dtype=torch.float64)
    kappa = powers if kind == "last" else powers.flip(0).cumsum(0).flip(0) / steps
    return kappa.to(like)


def read(a: Tensor, kappa: Tensor) -> Tensor:
    """The readout's features ``f = sum_t kappa_t a_t`` (B, n)."""
    return (kappa @ a.reshape(len(a), -1)).view(a.shape[1:])


def membranes(current: Tensor, constants: Constants, recurrent: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The true dynamics: membranes z and spikes a (T, B, n) of a layer that hears ``current`` (T, B, n).

    Args:
        current: ``W a`` from outside.
        constants: decay and threshold.
        recurrent: weights (n, n) of what the layer hears of its own last spikes.

    Example:
        >>> z, a = membranes(torch.full((4, 1, 1), 0.6), Constants(decay=1.0))
        >>> z.flatten(), a.flatten()
        (tensor([0.6000, 1.2000, 0.8000, 1.4000]), tensor([0., 1., 0., 1.]))
    """
    if current.device.type == "cpu":
        n = current.shape[-1]
        decay, threshold = (current.new_full((n,), value) for value in (constants.decay, constants.threshold))
        a, _, bits, z = torch.ops.bregma.lif(current, recurrent, decay, threshold, None, _SUBTRACT, [1.0, 1.0], True)
        remember(a, bits[1:])
        return z, a
    zs, spikes = [], []
    z = a = torch.zeros_like(current[0])
    for now in current.unbind(0):
        heard = now if recurrent is None else now + a @ recurrent.T
        z = constants.decay * z + heard - constants.threshold * a
        a = (z > constants.threshold).to(z.dtype)
        zs.append(z)
        spikes.append(a)
    return torch.stack(zs), torch.stack(spikes)


def pack(a: Tensor) -> Tensor:
    """``a``, contiguous, carrying its bits if it is made of zeros and ones: packed once for all products with it."""
    a = a.contiguous()
    if a.device.type == "cpu" and a.numel() and recall(a) is None:
        bits, graded = torch.ops.bregma.pack(a)
        if not bool(graded):
            remember(a, bits)
    return a


def spike_sums(d: Tensor, a: Tensor) -> Tensor:
    """``sum_t,b d_tb a_tb^T`` (m, n) of d (T, B, m) and spikes a (T, B, n), in float64.

    Example:
        >>> spike_sums(torch.ones(2, 1, 1), torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]]))
        tensor([[2., 1.]], dtype=torch.float64)
    """
    rows, spikes = d.flatten(0, 1), a.flatten(0, 1)
    bits = recall(a) if a.device.type == "cpu" else None
    if bits is None:
        return correlate(rows, spikes)
    words = as_bits(array(bits.flatten(0, 1)))
    total = torch.zeros(d.shape[-1], a.shape[-1], dtype=torch.float64)
    for first in range(0, len(rows), _ROWS):
        part = slice(first, first + _ROWS)
        total += weight_gradient(Train(words[part], a.shape[-1], spikes[part]), rows[part])
    return total


def trace_gram(a: Tensor, decay: float) -> Tensor:
    """``sum_t,b (F a)_tb (F a)_tb^T`` (n, n) in float64, over the spikes alone.

    Example:
        >>> trace_gram(torch.tensor([[[1.0]], [[0.0]]]), 0.5)
        tensor([[1.2500]], dtype=torch.float64)
    """
    half = spike_sums(reverse_trace(trace(a, decay), decay), a)
    return (half + half.T) / 2


def reverse_displacement(rule: Rule, g: Tensor, kappa: Tensor, z: Tensor, constants: Constants, cuts: Cuts) -> Tensor:
    """``F^T`` of where the membranes should move (T, B, n).

    Args:
        rule: see `bregma.admm.targets`.
        g: gains (T, B, n), or (1, B, n) for all steps.
        kappa: factors of g (T,).
        z: membranes (T, B, n).
        constants: decay and threshold.
        cuts: of the rule.
    """
    if z.device.type != "cpu":
        move = rule.displacement(kappa[:, None, None] * g, z, constants.threshold, cuts)
        return reverse_trace(move, constants.decay)
    out = memory.empty(tuple(z.shape), z.dtype)
    work = rule.fused(array(g), array(kappa), array(z), constants.threshold, constants.decay, cuts, array(out))
    over_rows(work, z.shape[1])
    return out
