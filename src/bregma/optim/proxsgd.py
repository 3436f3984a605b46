r"""ProxSGD: stochastic proximal gradient descent, the classical way to minimise a loss plus a penalty."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from bregma.optim import checks
from bregma.optim.base import Group, ProximalOptimizer, aligned, batches, fast_path
from bregma.optim.dual import dual_dtype
from bregma.prox import Penalty, get


def proxsgd(
    params: list[Tensor],
    grads: list[Tensor],
    buffers: list[Tensor],
    *,
    path: str,
    lr: float | Tensor,
    momentum: float,
    lam: float,
    penalty: Penalty,
    maximize: bool,
) -> None:
    """One ProxSGD step, in place; see :class:`ProxSGD`. ``buffers`` is empty without momentum."""
    move = {"fused": _fused, "foreach": _foreach, "single": _single}[path]
    points = [p if _is_workable(p) else torch.empty_like(p, dtype=dual_dtype(p)).copy_(p) for p in params]
    grads = aligned(grads, points)
    for batch in batches(points, grads, buffers) if buffers else batches(points, grads):
        move(*batch, lr=lr, momentum=momentum, maximize=maximize)
    threshold = lam * (lr if torch.compiler.is_compiling() else float(lr))
    for p, point in zip(params, points, strict=True):
        penalty.mirror(p, point, threshold, 1.0)


def _is_workable(p: Tensor) -> bool:
    """Whether kernels that walk raw memory can move the weights themselves: wide enough, and with no gaps."""
    dense = p.is_contiguous() or p.stride() == torch.empty_like(p, device="meta").stride()
    return p.dtype == dual_dtype(p) and dense


def _single(
    points: list[Tensor],
    grads: list[Tensor],
    buffers: list[Tensor] | None = None,
    *,
    lr: float | Tensor,
    momentum: float,
    maximize: bool,
) -> None:
    sign = -1.0 if maximize else 1.0
    for i, (point, grad) in enumerate(zip(points, grads, strict=True)):
        direction = buffers[i].mul_(momentum).add_(grad, alpha=sign) if buffers else sign * grad
        if isinstance(lr, Tensor):
            point.sub_(lr.reshape(()) * direction)
        else:
            point.add_(direction, alpha=-lr)


def _foreach(
    points: list[Tensor],
    grads: list[Tensor],
    buffers: list[Tensor] | None = None,
    *,
    lr: float | Tensor,
    momentum: float,
    maximize: bool,
) -> None:
    if maximize:
        grads = list(torch._foreach_neg(grads))
    if buffers:
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, grads)
    torch._foreach_add_(points, buffers or grads, alpha=-float(lr))


def _fused(
    points: list[Tensor],
    grads: list[Tensor],
    buffers: list[Tensor] | None = None,
    *,
    lr: float | Tensor,
    momentum: float,
    maximize: bool,
) -> None:
    torch._fused_sgd_(
        points,
        grads,
        buffers or [],
        weight_decay=0.0,
        momentum=momentum,
        lr=lr,
        dampening=0.0,
        nesterov=False,
        maximize=maximize,
        is_first_step=False,
    )


class ProxSGD(ProximalOptimizer):
    r"""Stochastic gradient descent followed by the proximal map of the penalty.

    .. math::
        \begin{aligned}
        &\rule{110mm}{0.4pt} \\
        &\textbf{input}: \text{lr } \tau, \text{momentum } \beta, \text{lam } \lambda, \text{penalty } J,
            \text{weights } \theta_0 \\
        &m_0 = 0 \\
        &\textbf{for } t = 1, 2, \dots \\
        &\quad m_t = \beta m_{t-1} + \nabla f(\theta_{t-1}) \\
        &\quad \theta_t = \operatorname{prox}_{\tau\lambda J}(\theta_{t-1} - \tau m_t) \\
        &\rule{110mm}{0.4pt}
        \end{aligned}

    The threshold is ``lr * lam``, so ``lam`` is the weight of the penalty in ``loss + lam * J`` and not comparable
    with that of :class:`bregma.AdaBreg` and :class:`bregma.LinBreg`: every step shrinks every weight. With ``lam=0``
    it is ``torch.optim.SGD``, momentum included.

    Args:
        params: parameters or groups of them; :func:`bregma.param_groups` makes groups that keep biases dense.
        lr: step size, >= 0, a number or a tensor of one element.
        momentum: as in ``torch.optim.SGD`` (undamped), in [0, 1). Default: 0.
        lam: weight of the penalty, >= 0. Default: 1e-4.
        penalty: a name that :func:`bregma.prox.get` knows. Default: "l1".
        maximize: ascend instead of descend. Default: False.
        foreach: use multi-tensor operations. Default: None, which chooses the fastest path.
        fused: use torch's fused kernel. Default: None, which uses it on the CPU.

    Raises:
        TypeError: a parameter is complex or integer, an option has the wrong type; in ``step``, a sparse gradient.
        ValueError: an option is outside its range.

    State per parameter: ``momentum_buffer`` with momentum, float32 or wider. There is no dual variable, hence no
    ``delta`` and no ``init``. All but ``params`` can be given per group.

    References: N. Parikh, S. Boyd, "Proximal Algorithms", Section 4.2, 2014; the baseline of arXiv 2105.04319.

    Example:
        >>> layer = torch.nn.Linear(4, 2)
        >>> optimizer = ProxSGD(layer.parameters(), lr=0.1, lam=1e-3)
        >>> layer(torch.ones(1, 4)).sum().backward()
        >>> optimizer.step()
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor,
        momentum: float = 0.0,
        *,
        lam: float = 1e-4,
        penalty: str = "l1",
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None:
        defaults: dict[str, Any] = {
            "lr": lr,
            "momentum": momentum,
            "lam": lam,
            "penalty": penalty,
            "maximize": maximize,
            "foreach": foreach,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def _check_options(self, group: Group) -> None:
        checks.number("momentum", group["momentum"], low=0.0, high=1.0)

    def _init_group(self, group: Group, params: list[Tensor], grads: list[Tensor], buffers: list[Tensor]) -> None:
        for p in group["params"]:
            if p.grad is None:
                continue
            params.append(p)
            grads.append(p.grad)
            if group["momentum"] != 0:
                buffers.append(self._buffer(p, "momentum_buffer"))

    def _update(self, group: Group) -> None:
        params: list[Tensor] = []
        grads: list[Tensor] = []
        buffers: list[Tensor] = []
        self._init_group(group, params, grads, buffers)
        proxsgd(
            params,
            grads,
            buffers,
            path=fast_path(group, params, "_fused_sgd_"),
            lr=group["lr"],
            momentum=group["momentum"],
            lam=group["lam"],
            penalty=get(group["penalty"]),
            maximize=group["maximize"],
        )
