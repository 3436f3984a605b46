"""The weights of an optimiser that can be thinned out, and what is done to them entry by entry."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from bregma.optim import checks
from bregma.prox import kernels, maps


def weights_of(optimizer: Optimizer) -> list[Tensor]:
    """Return its parameters of two or more dimensions in groups that do not say ``penalty="none"``.

    Raises:
        TypeError: it is no optimizer, or a weight is complex.
        ValueError: there are none, or they are on several devices.
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
    found: list[Tensor] = [
        p
        for group in optimizer.param_groups
        if group.get("penalty") != "none"
        for p in group["params"]
        if p.ndim >= 2 and p.numel() and p.requires_grad
    ]
    if not found:
        raise ValueError("optimizer must hold weights of two or more dimensions in a group with a penalty, got none")
    checks.parameters(found, "none")
    if len({w.device for w in found}) > 1:
        raise ValueError(f"weights must be on one device, got {', '.join(sorted({str(w.device) for w in found}))}")
    return found


def keep_(values: Tensor, kept: Tensor) -> None:
    """Set to zero what is not kept, whatever it was."""
    if kernels.fits(values):
        kernels.keep(kernels.array(values), kernels.array(kept))
    else:
        values.copy_(torch.where(kept, values, 0.0))


def widest(weights: list[Tensor]) -> torch.dtype:
    """Return the widest dtype of the weights, float32 at least."""
    wide = torch.float32
    for w in weights:
        wide = torch.promote_types(wide, w.dtype)
    return wide


def metric_(omega: Tensor, optimizer: Optimizer, w: Tensor) -> None:
    r"""Write :math:`\hat s^{1/4}` of one weight tensor into omega, s the second moment by which Adam divides.

    Raises:
        ValueError: the optimizer keeps no second moment.
    """
    state = optimizer.state.get(w, {})
    if not state:  # as long as the weight had no gradient
        omega.zero_()
        return
    moment = state.get("max_exp_avg_sq", state.get("exp_avg_sq"))  # the first with amsgrad
    if moment is None:
        raise ValueError(f"metric must be 'none' for {type(optimizer).__name__}, which keeps no second moment")
    beta2 = float(_group_of(optimizer, w)["betas"][1])
    maps.fourth_root(moment, 1 / (1 - beta2 ** float(state["step"])), omega)


def gradient_unit(optimizer: Optimizer, w: Tensor) -> float:
    """Return what a gradient of 1 of the loss is in ``w.grad``: negative if the optimiser ascends, else 1.

    Times the scale that a gradient scaler leaves to a fused optimiser to take out.
    """
    scale = getattr(optimizer, "grad_scale", None)
    sign = -1.0 if _group_of(optimizer, w).get("maximize") else 1.0
    return sign if scale is None else sign * float(scale)


def _group_of(optimizer: Optimizer, w: Tensor) -> dict[str, Any]:
    group: dict[str, Any] = next(g for g in optimizer.param_groups if any(p is w for p in g["params"]))
    return group
