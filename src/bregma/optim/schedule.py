"""Schedules of lam, in the shape of ``torch.optim.lr_scheduler``: built on an optimiser, stepped after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from bregma.optim import checks


class LamScheduler:
    """Base of the schedules: sets ``lam`` of every group that has one; a lam of 0 stays 0.

    Changing lam moves every active weight of :class:`bregma.AdaBreg` and :class:`bregma.LinBreg` by ``delta`` times
    the change at their next step: the dual stays, only its dead zone grows or shrinks.

    Args:
        optimizer: one whose groups hold ``lam``.

    Attributes:
        base_lams: lam of each group when the schedule was built.
        last_step: how often :meth:`step` was called.

    Raises:
        TypeError: no optimiser.
        ValueError: no group has a lam > 0.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
        self.optimizer = optimizer
        self.base_lams = [float(group.get("lam", 0.0)) for group in optimizer.param_groups]
        if not any(self.base_lams):
            raise ValueError(
                f"optimizer must have a group with lam > 0, got {self.base_lams}; "
                "to go on from saved states, make the schedule before the optimizer loads its own"
            )
        self.last_step = 0
        self._set(self.factor())

    def factor(self) -> float:
        """Return what the base lams are multiplied by at ``last_step``."""
        raise NotImplementedError

    def step(self) -> None:
        """Set lam for the next step of the optimiser; to be called after each."""
        self.last_step += 1
        self._set(self.factor())

    def get_last_lam(self) -> list[float]:
        """Return the present lam of each group, as ``get_last_lr`` does for the learning rate."""
        return [float(group.get("lam", 0.0)) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return plain values; what cannot be saved, the optimiser and functions, is left out."""
        return {
            key: list(value) if isinstance(value, list) else value
            for key, value in self.__dict__.items()
            if key != "optimizer" and not callable(value)
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict`.

        Raises:
            ValueError: a state of another schedule, or of another number of groups.
        """
        if set(state_dict) != set(self.state_dict()):
            raise ValueError(f"state_dict must hold {', '.join(self.state_dict())}, got {', '.join(state_dict)}")
        if len(state_dict["base_lams"]) != len(self.base_lams):
            theirs = f"{len(self.base_lams)} groups, got one of {len(state_dict['base_lams'])}"
            raise ValueError(f"state_dict must be of {theirs}")
        self.__dict__.update(state_dict)
        self._set(self.factor())

    def _set(self, factor: float) -> None:
        for group, base in zip(self.optimizer.param_groups, self.base_lams, strict=False):  # later groups are not seen
            if base:
                group["lam"] = base * factor


class ConstantLam(LamScheduler):
    """Lam stays as it is: the schedule for code that expects one.

    Example:
        >>> import torch, bregma
        >>> optimizer = bregma.AdaBreg([torch.nn.Parameter(torch.ones(2))], lam=0.5)
        >>> schedule = ConstantLam(optimizer)
        >>> schedule.step()
        >>> schedule.get_last_lam()
        [0.5]
    """

    def factor(self) -> float:
        """Return 1."""
        return 1.0


class LambdaLam(LamScheduler):
    """Lam times a function of the step; as ``LambdaLR``, the function itself is not saved.

    Args:
        optimizer: see `LamScheduler`.
        factor: from the number of steps done to a factor >= 0.

    Example:
        >>> import torch, bregma
        >>> optimizer = bregma.AdaBreg([torch.nn.Parameter(torch.ones(2))], lam=0.5)
        >>> schedule = LambdaLam(optimizer, lambda step: 0.5**step)
        >>> schedule.step()
        >>> schedule.get_last_lam()
        [0.25]
    """

    def __init__(self, optimizer: Optimizer, factor: Callable[[int], float]) -> None:
        if not callable(factor):
            raise TypeError(f"factor must be a function of the step, got {type(factor).__name__}")
        self._factor = factor
        super().__init__(optimizer)

    def factor(self) -> float:
        """Return the function at the present step."""
        factor = float(self._factor(self.last_step))
        checks.number("factor", factor, low=0.0)
        return factor


class WarmUpLam(LamScheduler):
    """Lam rises in a straight line from 0 to its base over the first steps, then stays.

    Args:
        optimizer: see `LamScheduler`. Its dual must start at the weights (``init="shrink"``): an anchored dual is
            made with the small lam of the first step, so that the rest of lam eats into the weights all the same.
        steps: length of the rise, >= 1.

    Example:
        >>> import torch, bregma
        >>> optimizer = bregma.AdaBreg([torch.nn.Parameter(torch.ones(2))], lam=0.5, init="shrink")
        >>> schedule = WarmUpLam(optimizer, steps=2)
        >>> lams = [schedule.get_last_lam()[0]]
        >>> for _ in range(3):
        ...     schedule.step()
        ...     lams += schedule.get_last_lam()
        >>> lams
        [0.0, 0.25, 0.5, 0.5]
    """

    def __init__(self, optimizer: Optimizer, steps: int) -> None:
        steps = checks.count("steps", steps, low=1)
        self.steps = steps
        super().__init__(optimizer)

    def factor(self) -> float:
        """Return the share of the rise that is done."""
        return min(self.last_step / self.steps, 1.0)


class LamController(LamScheduler):
    """Raise lam while the weights are too dense, lower it while they are too sparse.

    Every few steps lam is multiplied (divided) by ``1 + gain * gap`` where gap is the distance between density and
    target. Each time the gap changes sign the gain shrinks by 5 %, which ends the ringing. The density follows with a
    lag and is met within some per cent; :class:`bregma.TargetDensity` meets it exactly and trains better. From a
    dense, anchored start the density cannot fall below the share of weights that keep their sign, whatever lam is:
    use ``init="shrink"`` or ``init="sparse"``.

    Args:
        optimizer: see `LamScheduler`; the density is that of the weights in groups with a lam > 0.
        density: target, in (0, 1].
        every: steps from one correction to the next. Default: 10.
        gain: strength of a correction, > 0. Default: 0.5.
        most: largest factor between lam and its base (and, inverted, the smallest). Default: 100.

    Reference: the multiplicative control of lam in arXiv 2605.07892.

    Example:
        >>> import torch, bregma
        >>> optimizer = bregma.AdaBreg([torch.nn.Parameter(torch.ones(2, 2))], lam=0.5, init="shrink")
        >>> schedule = LamController(optimizer, density=0.5, every=1)
        >>> schedule.step()  # density 1 is 0.5 too much
        >>> schedule.get_last_lam()
        [0.625]
    """

    def __init__(
        self, optimizer: Optimizer, density: float, *, every: int = 10, gain: float = 0.5, most: float = 100.0
    ) -> None:
        density = checks.share("density", density)
        every = checks.count("every", every, low=1)
        gain = checks.number("gain", gain, low=0.0, open_low=True)
        most = checks.number("most", most, low=1.0)
        self.density = density
        self.every = every
        self.gain = gain
        self.most = most
        self.scale = 1.0
        self.last_gap = 0.0
        super().__init__(optimizer)

    def factor(self) -> float:
        """Return the product of all corrections so far."""
        return self.scale

    def step(self) -> None:
        """Correct lam if it is time to."""
        if (self.last_step + 1) % self.every == 0:
            gap = self.measure() - self.density
            if gap * self.last_gap < 0:
                self.gain *= 0.95
            change = 1.0 + self.gain * abs(gap)
            self.scale = min(max(self.scale * (change if gap > 0 else 1.0 / change), 1.0 / self.most), self.most)
            self.last_gap = gap
        super().step()

    def measure(self) -> float:
        """Return the density of the weights under control."""
        groups = zip(self.optimizer.param_groups, self.base_lams, strict=False)  # later groups are not seen
        weights = [p for group, base in groups if base for p in group["params"]]
        return float(sum(int(torch.count_nonzero(p)) for p in weights) / sum(p.numel() for p in weights))
