r"""AdaBreg: Adam on the dual variable, a proximal map to the weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from bregma.optim import checks
from bregma.optim.base import Group, ProximalOptimizer, aligned, batches, fast_path
from bregma.prox import Penalty, get


def adabreg(
    params: list[Tensor],
    grads: list[Tensor],
    duals: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    path: str,
    lr: float | Tensor,
    beta1: float,
    beta2: float,
    eps: float,
    lam: float,
    delta: float,
    penalty: Penalty,
    maximize: bool,
) -> None:
    """One AdaBreg step, in place; see :class:`AdaBreg`. ``path`` is ``"fused"``, ``"foreach"`` or ``"single"``."""
    move = {"fused": _fused, "foreach": _foreach, "single": _single}[path]
    for batch in batches(duals, aligned(grads, duals), exp_avgs, exp_avg_sqs, steps):
        move(*batch, lr=lr, beta1=beta1, beta2=beta2, eps=eps, maximize=maximize)
    for p, dual in zip(params, duals, strict=True):
        penalty.mirror(p, dual, lam, delta)


def _single(
    duals: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float | Tensor,
    beta1: float,
    beta2: float,
    eps: float,
    maximize: bool,
) -> None:
    for dual, g, m, s, step in zip(duals, grads, exp_avgs, exp_avg_sqs, steps, strict=True):
        grad = -g if maximize else g
        step += 1
        # Reading the number would break the compiled graph; a tensor gives the same arithmetic.
        t = step if torch.compiler.is_compiling() else step.item()
        m.lerp_(grad, 1 - beta1)
        s.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        denom = (s.sqrt() / (1 - beta2**t) ** 0.5).add_(eps)
        step_size = lr / (1 - beta1**t)
        if isinstance(step_size, Tensor):
            dual.sub_(step_size.reshape(()) * m / denom)
        else:
            dual.addcdiv_(m, denom, value=-step_size)


def _foreach(
    duals: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float | Tensor,
    beta1: float,
    beta2: float,
    eps: float,
    maximize: bool,
) -> None:
    if maximize:
        grads = list(torch._foreach_neg(grads))
    torch._foreach_add_(steps, 1)
    counts = [step.item() for step in steps]
    torch._foreach_lerp_(exp_avgs, grads, 1 - beta1)
    torch._foreach_mul_(exp_avg_sqs, beta2)
    torch._foreach_addcmul_(exp_avg_sqs, grads, grads, 1 - beta2)
    denom = torch._foreach_sqrt(exp_avg_sqs)
    torch._foreach_div_(denom, [(1 - beta2**t) ** 0.5 for t in counts])
    torch._foreach_add_(denom, eps)
    torch._foreach_addcdiv_(duals, exp_avgs, denom, [-float(lr) / (1 - beta1**t) for t in counts])


def _fused(
    duals: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float | Tensor,
    beta1: float,
    beta2: float,
    eps: float,
    maximize: bool,
) -> None:
    torch._foreach_add_(steps, 1)
    torch._fused_adam_(
        duals,
        grads,
        exp_avgs,
        exp_avg_sqs,
        [],
        steps,
        lr=lr,
        beta1=beta1,
        beta2=beta2,
        weight_decay=0.0,
        eps=eps,
        amsgrad=False,
        maximize=maximize,
    )


class AdaBreg(ProximalOptimizer):
    r"""Adam on a dual variable, from which a proximal map makes sparse weights.

    .. math::
        \begin{aligned}
        &\rule{110mm}{0.4pt} \\
        &\textbf{input}: \text{lr } \tau,\ \beta_1, \beta_2, \epsilon, \text{lam } \lambda, \delta,
            \text{penalty } J, \text{weights } \theta_0 \\
        &v_0 = \theta_0/\delta + \lambda\,\partial J(\theta_0), \quad m_0 = 0, \quad s_0 = 0 \\
        &\textbf{for } t = 1, 2, \dots \\
        &\quad g_t = \nabla f(\theta_{t-1}) \\
        &\quad m_t = \beta_1 m_{t-1} + (1-\beta_1)\, g_t, \qquad s_t = \beta_2 s_{t-1} + (1-\beta_2)\, g_t^2 \\
        &\quad v_t = v_{t-1} - \frac{\tau}{1-\beta_1^t}\, m_t \Big/
            \left(\sqrt{s_t / (1-\beta_2^t)} + \epsilon\right) \\
        &\quad \theta_t = \operatorname{prox}_{\delta\lambda J}(\delta v_t)
            \qquad \left(L^1:\ \theta_t = \delta\,\mathrm{sign}(v_t) \max(|v_t| - \lambda, 0)\right) \\
        &\rule{110mm}{0.4pt}
        \end{aligned}

    A weight is exactly zero while its dual lies in the dead zone [-lam, lam], whose width depends neither on ``lr``
    nor on ``delta``. It takes about ``lam / lr`` steps of one sign to wake a weight up, and ``2 * lam / lr`` to change
    its sign. Weights outside the zone move as Adam with step ``delta * lr`` moves them, without shrinkage;
    ``lam=0, delta=1`` *is* Adam.

    The weights are a function of the dual: a weight edited by hand after the first step is overwritten by the next
    one. Likewise a change of ``lam`` during training moves every active weight by ``delta`` times the change at the
    next step.

    Args:
        params: parameters or groups of them; :func:`bregma.param_groups` makes groups that keep biases dense.
        lr: step of the dual, >= 0, a number or a tensor of one element (which may change under ``torch.compile``
            without compiling again). Default: 1e-3.
        betas: decays of the two moments, each in [0, 1). Default: (0.9, 0.999).
        eps: added to the denominator, >= 0. Default: 1e-8.
        lam: weight of the penalty, >= 0. Duals wander about ``lr * sqrt(steps)``; much smaller values of ``lam`` make
            few zeros, much larger ones no more. Default: 0.05, for ``lr=1e-3`` and some thousand steps.
        delta: scale of the weights against the dual, > 0. Default: 1.
        penalty: a name that :func:`bregma.prox.get` knows. Default: "l1".
        init: the dual at the first step, made from the weights as they are then: ``"anchored"`` (the weights do
            not change; sparsity comes as weights change sign), ``"shrink"`` (the dual is ``weights / delta``, so the
            first step shrinks the weights by ``delta * lam``), ``"sparse"`` (anchored, after
            :func:`bregma.optim.sparsify_` has left a random share of each weight tensor *when the optimiser is
            built*, so build it before you load a checkpoint; groups with ``lam=0`` and vectors stay dense).
            Default: "anchored".
        init_density: share of weights left by ``init="sparse"``, in (0, 1]. Default: 0.1.
        seed: of the random share, an integer >= 0; default: torch's global generator.
        maximize: ascend instead of descend. Default: False.
        foreach: use multi-tensor operations. Default: None, which chooses the fastest path.
        fused: use torch's fused kernel. Default: None, which uses it on the CPU.

    Raises:
        TypeError: a parameter is complex or integer, an option has the wrong type; in ``step``, a sparse gradient.
        ValueError: an option is outside its range.

    State per parameter: ``step``, ``exp_avg`` (m), ``exp_avg_sq`` (s), ``dual`` (v), float32 or wider. All but
    ``params`` can be given per group.

    References: L. Bungert, T. Roith, D. Tenbrinck, M. Burger, "A Bregman learning framework for sparse neural
    networks", JMLR 23, 2022, arXiv 2105.04319; D. Windhager, B. Moser, M. Lunglmayr, arXiv 2603.16462 (spiking
    networks).

    Example:
        >>> layer = torch.nn.Linear(4, 2)
        >>> optimizer = AdaBreg(layer.parameters(), lr=0.01, lam=0.1)
        >>> layer(torch.ones(1, 4)).sum().backward()
        >>> optimizer.step()
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        lam: float = 0.05,
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
            "betas": betas,
            "eps": eps,
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
        checks.betas(group["betas"])
        checks.number("eps", group["eps"], low=0.0)
        checks.number("delta", group["delta"], low=0.0, open_low=True)
        checks.start(group["init"], group["init_density"], group["seed"])

    def _init_group(
        self,
        group: Group,
        params: list[Tensor],
        grads: list[Tensor],
        duals: list[Tensor],
        exp_avgs: list[Tensor],
        exp_avg_sqs: list[Tensor],
        steps: list[Tensor],
    ) -> None:
        for p in group["params"]:
            if p.grad is None:
                continue
            state = self.state[p]
            if "step" not in state:  # the fused kernel of an accelerator wants the count beside the weights
                state["step"] = torch.zeros((), dtype=torch.float32, device=p.device if group["fused"] else "cpu")
            params.append(p)
            grads.append(p.grad)
            duals.append(self._dual(p, group))
            exp_avgs.append(self._buffer(p, "exp_avg"))
            exp_avg_sqs.append(self._buffer(p, "exp_avg_sq"))
            steps.append(state["step"])

    def _update(self, group: Group) -> None:
        params: list[Tensor] = []
        grads: list[Tensor] = []
        duals: list[Tensor] = []
        exp_avgs: list[Tensor] = []
        exp_avg_sqs: list[Tensor] = []
        steps: list[Tensor] = []
        self._init_group(group, params, grads, duals, exp_avgs, exp_avg_sqs, steps)
        beta1, beta2 = group["betas"]
        adabreg(
            params,
            grads,
            duals,
            exp_avgs,
            exp_avg_sqs,
            steps,
            path=fast_path(group, params, "_fused_adam_"),
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            eps=group["eps"],
            lam=group["lam"],
            delta=group["delta"],
            penalty=get(group["penalty"]),
            maximize=group["maximize"],
        )
