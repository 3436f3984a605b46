r"""LinBreg: linearized Bregman iterations, gradient descent on the dual variable, a proximal map to the weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from bregma.optim import checks
from bregma.optim.base import Group, ProximalOptimizer, aligned, batches, fast_path
from bregma.prox import Penalty, get


def linbreg(
    params: list[Tensor],
    grads: list[Tensor],
    duals: list[Tensor],
    buffers: list[Tensor],
    *,
    path: str,
    lr: float | Tensor,
    momentum: float,
    lam: float,
    delta: float,
    penalty: Penalty,
    maximize: bool,
) -> None:
    """One LinBreg step, in place; see :class:`LinBreg`. ``buffers`` is empty without momentum."""
    move = {"fused": _fused, "foreach": _foreach, "single": _single}[path]
    grads = aligned(grads, duals)
    for batch in batches(duals, grads, buffers) if buffers else batches(duals, grads):
        move(*batch, lr=lr, momentum=momentum, maximize=maximize)
    for p, dual in zip(params, duals, strict=True):
        penalty.mirror(p, dual, lam, delta)


def _single(
    duals: list[Tensor],
    grads: list[Tensor],
    buffers: list[Tensor] | None = None,
    *,
    lr: float | Tensor,
    momentum: float,
    maximize: bool,
) -> None:
    sign = -1.0 if maximize else 1.0
    for i, (dual, grad) in enumerate(zip(duals, grads, strict=True)):
        direction = buffers[i].lerp_(grad, 1 - momentum) if buffers else grad
        if isinstance(lr, Tensor):
            dual.sub_(sign * lr.reshape(()) * direction)
        else:
            dual.add_(direction, alpha=-sign * lr)


def _foreach(
    duals: list[Tensor],
    grads: list[Tensor],
    buffers: list[Tensor] | None = None,
    *,
    lr: float | Tensor,
    momentum: float,
    maximize: bool,
) -> None:
    if buffers:
        torch._foreach_lerp_(buffers, grads, 1 - momentum)
    torch._foreach_add_(duals, buffers or grads, alpha=float(lr) if maximize else -float(lr))


def _fused(
    duals: list[Tensor],
    grads: list[Tensor],
    buffers: list[Tensor] | None = None,
    *,
    lr: float | Tensor,
    momentum: float,
    maximize: bool,
) -> None:
    torch._fused_sgd_(
        duals,
        grads,
        buffers or [],
        weight_decay=0.0,
        momentum=momentum,
        lr=lr,
        dampening=momentum,
        nesterov=False,
        maximize=maximize,
        is_first_step=False,  # a first step would fill the buffer with the whole gradient, undamped
    )


class LinBreg(ProximalOptimizer):
    r"""Gradient descent with momentum on a dual variable, from which a proximal map makes sparse weights.

    .. math::
        \begin{aligned}
        &\rule{110mm}{0.4pt} \\
        &\textbf{input}: \text{lr } \tau, \text{momentum } \beta, \text{lam } \lambda, \delta,
            \text{penalty } J, \text{weights } \theta_0 \\
        &v_0 = \theta_0/\delta + \lambda\,\partial J(\theta_0), \quad m_0 = 0 \\
        &\textbf{for } t = 1, 2, \dots \\
        &\quad g_t = \nabla f(\theta_{t-1}) \\
        &\quad m_t = \beta m_{t-1} + (1-\beta)\, g_t \\
        &\quad v_t = v_{t-1} - \tau m_t \\
        &\quad \theta_t = \operatorname{prox}_{\delta\lambda J}(\delta v_t)
            \qquad \left(L^1:\ \theta_t = \delta\,\mathrm{sign}(v_t) \max(|v_t| - \lambda, 0)\right) \\
        &\rule{110mm}{0.4pt}
        \end{aligned}

    The momentum is damped, so it does not raise the effective step, and the learning rate stands outside the buffer,
    so a schedule acts at once (the paper has it inside, which is the same for a constant rate). With
    ``lam=0, delta=1`` this is ``torch.optim.SGD(lr=lr * (1 - momentum), momentum=momentum)``.

    A weight is exactly zero while its dual lies in the dead zone [-lam, lam]. The weights are a function of the dual:
    a weight edited by hand after the first step is overwritten by the next one, and a change of ``lam`` during
    training moves every active weight by ``delta`` times the change at the next step.

    Args:
        params: parameters or groups of them; :func:`bregma.param_groups` makes groups that keep biases dense.
        lr: step of the dual, >= 0, a number or a tensor of one element.
        momentum: decay of the gradient's running mean, in [0, 1). Default: 0.
        lam: weight of the penalty, >= 0. It competes with ``lr`` times the sum of raw gradients, not of normalised
            ones: a good value moves in proportion to ``lr`` and to the scale of the loss. Default: 0.01.
        delta: scale of the weights against the dual, > 0. Default: 1.
        penalty: a name that :func:`bregma.prox.get` knows. Default: "l1".
        init: ``"anchored"``, ``"shrink"`` or ``"sparse"``, as in :class:`bregma.AdaBreg`. Default: "anchored".
        init_density: share of weights left by ``init="sparse"``, in (0, 1]. Default: 0.1.
        seed: of the random share, an integer >= 0; default: torch's global generator.
        maximize: ascend instead of descend. Default: False.
        foreach: use multi-tensor operations. Default: None, which chooses the fastest path.
        fused: use torch's fused kernel. Default: None, which uses it on the CPU.

    Raises:
        TypeError: a parameter is complex or integer, an option has the wrong type; in ``step``, a sparse gradient.
        ValueError: an option is outside its range.

    State per parameter: ``dual`` (v) and, with momentum, ``momentum_buffer`` (m), float32 or wider. All but
    ``params`` can be given per group.

    References: L. Bungert, T. Roith, D. Tenbrinck, M. Burger, "A Bregman learning framework for sparse neural
    networks", JMLR 23, 2022, arXiv 2105.04319, Algorithms 1 and 2.

    Example:
        >>> layer = torch.nn.Linear(4, 2)
        >>> optimizer = LinBreg(layer.parameters(), lr=0.1, momentum=0.9, lam=0.01)
        >>> layer(torch.ones(1, 4)).sum().backward()
        >>> optimizer.step()
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor,
        momentum: float = 0.0,
        *,
        lam: float = 0.01,
        delta: float = 1.0,
        penalty: str = "l1",
        init: str = "anchored",
        init_density: float = 0.1,
        seed: int | None = None,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None:
        defaults: dict[str, Any] = {
            "lr": lr,
            "momentum": momentum,
            "lam": lam,
            "delta": delta,
            "penalty": penalty,
            "init": init,
            "init_density": init_density,
            "seed": seed,
            "maximize": maximize,
            "foreach": foreach,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def _check_options(self, group: Group) -> None:
        checks.number("momentum", group["momentum"], low=0.0, high=1.0)
        checks.number("delta", group["delta"], low=0.0, open_low=True)
        checks.start(group["init"], group["init_density"], group["seed"])

    def _init_group(
        self, group: Group, params: list[Tensor], grads: list[Tensor], duals: list[Tensor], buffers: list[Tensor]
    ) -> None:
        for p in group["params"]:
            if p.grad is None:
                continue
            params.append(p)
            grads.append(p.grad)
            duals.append(self._dual(p, group))
            if group["momentum"] != 0:
                buffers.append(self._buffer(p, "momentum_buffer"))

    def _update(self, group: Group) -> None:
        params: list[Tensor] = []
        grads: list[Tensor] = []
        duals: list[Tensor] = []
        buffers: list[Tensor] = []
        self._init_group(group, params, grads, duals, buffers)
        linbreg(
            params,
            grads,
            duals,
            buffers,
            path=fast_path(group, params, "_fused_sgd_"),
            lr=group["lr"],
            momentum=group["momentum"],
            lam=group["lam"],
            delta=group["delta"],
            penalty=get(group["penalty"]),
            maximize=group["maximize"],
        )
