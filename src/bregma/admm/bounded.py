r"""Sums over samples to which no sample adds more than a bound: what noise for differential privacy is measured by.

If one sample is added or left out, a sum ``sum_b w_b s_b`` changes by ``w_b s_b``, in the Frobenius norm by at most
``bound`` if the weight is ``w_b = min(1, bound / ||s_b||)``, which is a function of this sample and of the network
alone. What s_b is:

* readout: ``f f^T`` and ``f t^T`` with features f and targets t of the sample; norms ``||f||^2`` and ``||f|| ||t||``.
  Both have the smaller of their two weights, so that the least squares stays one of weighted samples;
* Gram matrix of a hidden layer: ``sum_t p_t p_t^T`` with the traces p of what it hears;
* cross matrix of a hidden layer: ``sum_t a_t d_t^T`` with filtered displacements d and the spikes a it hears;
* start: ``sum_t x_t`` of the spikes x of every input; and 1 for the sample.

The norm of a sum of outer products is found without it: ``||sum_t u_t v_t^T||^2 = sum_tt' (u_t . u_t') (v_t . v_t')``.
All sums are in float64: rounding to float32 would let one sample change the last digits of what others add.

The hidden layers' sums may have any scale, since only the direction of the result is used. There every sample is given
the norm 1, whatever its size (as in Bu et al. 2023, arXiv 2206.07136), or less if it is nothing but rounding, and
nothing is left to choose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bregma.admm.consistent import ConsistentADMM
from bregma.admm.readout import working_targets
from bregma.admm.statistics import Statistics
from bregma.admm.traces import trace

_LEAST = 1e-30  # norm of a sample that counts as zero
_CANCELLED = 1e-4  # share of a sample's parts that is left of them in their sum, below which rounding counts
_ENTRIES = 1 << 22  # of what is formed at once


@dataclass(frozen=True)
class Bounded:
    """A sum over samples.

    Args:
        total: in float64.
        bound: the Frobenius norm of what one sample adds at most; infinite if nothing was scaled.
    """

    total: Tensor
    bound: float


def rates(x: Tensor, clip: float, rate: float) -> dict[str, Bounded]:
    """Spikes of every input (n_0,) over all steps, and the number of samples ().

    Args:
        x: input spikes (T, B, n_0).
        clip: the bound of the spikes, in units of a sample that fires at ``rate`` everywhere; inf: none.
        rate: see above.

    Example:
        >>> found = rates(torch.ones(2, 3, 4), clip=1.0, rate=0.5)
        >>> found["spikes"].total, found["spikes"].bound, found["samples"].total
        (tensor([3., 3., 3., 3.], dtype=torch.float64), 2.0, tensor(3., dtype=torch.float64))
    """
    spikes = x.sum(0, dtype=torch.float64)
    bound = clip * rate * len(x) * math.sqrt(x.shape[2])
    weight = _weights(spikes.norm(dim=1), bound)
    return {"spikes": Bounded(weight @ spikes, bound), "samples": Bounded(weight.new_tensor(x.shape[1]), 1.0)}


@torch.no_grad()
def readout(solver: ConsistentADMM, x: Tensor, y: Tensor, clip: float) -> dict[str, Bounded]:
    """Gram matrix (n, n) and cross matrix (n, classes) of the readout.

    Args:
        solver: with weights.
        x: input spikes (T, B, n_0).
        y: coded labels (B, classes).
        clip: the bounds, in units of a sample whose neurons all fire at the rate of the settings, and of a target of
            norm 1; inf: none.
    """
    activity = solver.run(solver.begin(x))
    f = activity.features.double()
    targets = working_targets(solver.loss, activity.features @ solver.weights[-1].T, y).double()
    unit = solver.settings.rate * math.sqrt(f.shape[1]) * float(activity.kappa.sum())
    gram, cross = clip * unit**2, clip * unit
    size = f.norm(dim=1)
    weight = torch.minimum(_weights(size.square(), gram), _weights(size * targets.norm(dim=1), cross))
    sums = Statistics.of(f, targets, weight)
    return {"readout.gram": Bounded(sums.gram, gram), "readout.cross": Bounded(sums.cross, cross)}


@torch.no_grad()
def layers(solver: ConsistentADMM, x: Tensor, y: Tensor, clip: float) -> dict[str, Bounded]:
    """Cross matrices (m, n) of the dense hidden layers, and the Gram matrices (n, n) that are due.

    Args:
        solver: with weights, and a rule of which each sample's displacements depend on this sample alone.
        x: input spikes (T, B, n_0).
        y: coded labels (B, classes).
        clip: any finite number: every sample is given the norm 1; inf: nothing is scaled.
    """
    none = solver.layer_sums(solver.run(solver.begin(x[:, :0])), y[:0])
    activity = solver.run(solver.begin(x))
    sums: dict[str, Bounded] = {}
    nothing = reversed(list(enumerate(activity.membranes)))  # of a client without samples: zeros of the right shape
    for k, d in solver.displacements(activity, y) if len(y) else nothing:
        a, bound = activity.spikes[k], 1.0 if clip < math.inf else math.inf
        sums[f"layer.{k}.cross"] = Bounded(_scaled_sum(a, d, bound), bound)
        if len(none[k].gram):
            traces = trace(a, solver.settings.constants.decay)
            sums[f"layer.{k}.gram"] = Bounded(_scaled_sum(traces, traces, bound), bound)
    return sums


def _scaled_sum(u: Tensor, v: Tensor, bound: float) -> Tensor:
    """The sum over samples of ``sum_t u_t v_t^T`` (m, n), each scaled to the norm ``bound``; inf: as it is.

    A sample whose parts cancel has a norm that is nothing but rounding, by which it could be scaled up to any size; it
    is scaled as if more were left of it, and stays below the bound.
    """
    total = torch.zeros(u.shape[2], v.shape[2], dtype=torch.float64)
    at_once = max(1, _ENTRIES // max(1, len(u) * max(u.shape[2], v.shape[2])))
    for one, two in zip(u.split(at_once, 1), v.split(at_once, 1), strict=True):
        one, two = one.double(), two.double()
        if bound < math.inf:
            apart = (one.norm(dim=2) * two.norm(dim=2)).sum(0)  # the norm if no part of a sample cancelled another
            size = torch.maximum(outer_norms(one, two), _CANCELLED * apart)
            one = one * (bound / size.clamp(min=_LEAST))[:, None]
        total += one.flatten(0, 1).T @ two.flatten(0, 1)
    return total


def outer_norms(u: Tensor, v: Tensor) -> Tensor:
    """The Frobenius norm of ``sum_t u_tb v_tb^T`` for each sample b (B,), in float64.

    Args:
        u: (T, B, m).
        v: (T, B, n).

    Example:
        >>> outer_norms(torch.tensor([[[3.0]], [[1.0]]]), torch.tensor([[[1.0]], [[1.0]]]))
        tensor([4.], dtype=torch.float64)
    """
    at_once = max(1, _ENTRIES // max(1, len(u) ** 2))
    parts = [
        (_products(one) * _products(two)).sum((1, 2)).clamp(min=0).sqrt()
        for one, two in zip(u.split(at_once, 1), v.split(at_once, 1), strict=True)
    ]
    return torch.cat(parts)


def _products(rows: Tensor) -> Tensor:
    """``u_t . u_t'`` of each sample (B, T, T)."""
    rows = rows.transpose(0, 1).double()
    return rows @ rows.transpose(1, 2)


def _weights(size: Tensor, bound: float) -> Tensor:
    """``min(1, bound / size)``."""
    return torch.where(size > bound, bound / size, 1.0)
