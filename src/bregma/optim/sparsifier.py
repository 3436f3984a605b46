"""What every method that thins out a network shares: it rides on an optimiser and knows which weights stay."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bregma.nn.populations import Population
from bregma.optim import checks
from bregma.optim.arrangement import build
from bregma.optim.carry import Moves, carried
from bregma.optim.thinned import gradient_unit, keep_, metric_, weights_of, widest
from bregma.prox import thresholds

_LASTING = ("step_count", "freeze_step", "target", "mask")  # of the state of every method
_ridden: weakref.WeakSet[Optimizer] = weakref.WeakSet()  # a second rider would undo what the first one does


class Sparsifier:
    """Base of :class:`bregma.TargetDensity` and of the methods in :mod:`bregma.optim.baselines`.

    It hooks into ``optimizer.step``, so the training loop does not change: gradients of pruned weights are set to
    zero before the step, and the weights are thinned out after it. All scores, masks and duals of the network lie one
    after the other in flat tensors; ``_views`` cuts such a tensor into pieces of the weights' shapes.

    A subclass says what happens to the gradients in ``_before`` and to the weights in ``_after``, and names the
    tensors it keeps in ``_kept``.

    Args:
        optimizer: moves the weights. Thinned out are the parameters of two or more dimensions in those of its groups
            that do not say ``penalty="none"``; :func:`bregma.param_groups` makes such groups for any model. A ``lam``
            in a group is set to 0 at each step: the density replaces it.
        density: share of these weights that is left in the end, in (0, 1].
        total_steps: optimiser steps of the whole training.
        ramp_end: share of the steps after which the mask is frozen, in (0, 1]. None: for single weights what
            :func:`bregma.prox.thresholds.ramp_end` says, from 0.75 for the lowest densities to 0.9; 0.75 for the rest.
        every: steps from one mask to the next; the last one of the ramp is made exactly at its end.
        allocation: ``"global"``: the best scores anywhere in the network; ``"uniform"``: every tensor has the same
            density; ``"erk"``: small tensors stay denser, see :func:`bregma.prox.thresholds.allocate`;
            ``"global+erk"``: every tensor keeps the mean of what it has by ``"global"`` and by ``"erk"``.
        neuron_floor: inputs that each output of each weight tensor keeps at least.
        layer_floor: share of each weight tensor that is kept at least.
        structure: ``"weights"``, ``"neurons"``, ``"n:m"`` or populations; see :mod:`bregma.optim.structure` and
            :mod:`bregma.optim.neurons`.
        net: the network, for ``structure="neurons"``.
    """

    #: Names of the attributes that hold tensors or numbers to be saved, besides step and mask.
    _kept: tuple[str, ...] = ()

    def __init__(
        self,
        optimizer: Optimizer,
        density: float,
        total_steps: int,
        *,
        ramp_end: float | None,
        every: int,
        allocation: str,
        neuron_floor: int,
        layer_floor: float,
        structure: str | Sequence[Population] = "weights",
        net: nn.Module | None = None,
    ) -> None:
        self.weights = weights_of(optimizer)
        if optimizer in _ridden:
            raise ValueError("optimizer must have no other method that thins out its weights; make a new optimizer")
        density = checks.share("density", density)
        total_steps = checks.count("total_steps", total_steps, low=1)
        if ramp_end is None:
            ramp_end = thresholds.ramp_end(density) if structure == "weights" else 0.75
        ramp_end = checks.share("ramp_end", ramp_end)
        every = checks.count("every", every, low=1)
        neuron_floor = checks.count("neuron_floor", neuron_floor, low=0)
        layer_floor = checks.number("layer_floor", layer_floor, low=0.0)
        if allocation not in thresholds.ALLOCATIONS:
            raise ValueError(f"allocation must be one of {', '.join(thresholds.ALLOCATIONS)}, got {allocation!r}")
        if layer_floor > density:
            raise ValueError(f"layer_floor must be <= density = {density}, got {layer_floor}")
        self.optimizer = optimizer
        self.target = density
        self.total_steps = total_steps
        self.every = every
        self.neuron_floor = neuron_floor
        self._dtype = widest(self.weights)
        self.size = sum(w.numel() for w in self.weights)
        self.freeze_step = max(1, round(ramp_end * total_steps))
        self._arrangement: dict[str, Any] = {
            "structure": structure,
            "net": net,
            "allocation": allocation,
            "neuron_floor": neuron_floor,
            "layer_floor": layer_floor,
        }
        self.step_count = 0
        self.arrange()
        if self.structure.fewest > self.structure.keep(density):
            raise ValueError(
                f"density must be >= {self.structure.fewest / self.structure.units:.6f} for the floors "
                f"(neuron_floor {neuron_floor}, layer_floor {layer_floor}), got {density}"
            )
        self.mask = torch.ones(self.size, dtype=torch.bool, device=self.weights[0].device)
        _ridden.add(optimizer)
        optimizer.register_step_pre_hook(self._pre_step)
        optimizer.register_step_post_hook(self._post_step)

    def arrange(self) -> None:
        """Set up what stays or goes as a whole among the weights as they are now; once frozen, each for itself."""
        options = self._arrangement | ({"structure": "weights"} if self.frozen else {})
        self.structure = build(weights=self.weights, density=self.target, **options)

    # -- what a subclass defines ------------------------------------------------------------------------------------

    def _before(self) -> None:
        """Called before each step of the optimiser, with fresh gradients; ``step_count`` counts this step."""
        self.mask_gradients()

    def _after(self) -> None:
        """Called after each step of the optimiser."""
        raise NotImplementedError

    # -- what users see ---------------------------------------------------------------------------------------------

    @property
    def frozen(self) -> bool:
        """True once the mask is final and the density reached."""
        return self.step_count >= self.freeze_step

    @property
    def density(self) -> float:
        """Share of the units, single weights or whole neurons, that the mask lets through now."""
        return self.structure.kept(self.mask) / self.structure.units

    @property
    def masks(self) -> list[Tensor]:
        """The mask of each weight tensor, bool, true where the weight stays."""
        return self._views(self.mask)

    def scheduled_density(self) -> float:
        """Return the density the ramp asks for at the present step."""
        return thresholds.cubic_ramp(self.step_count / self.freeze_step, self.target)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs besides the optimiser's own: plain numbers and flat tensors."""
        state = {name: getattr(self, name) for name in (*_LASTING, *self._kept)}
        return {name: value.clone() if isinstance(value, Tensor) else value for name, value in state.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict`; training resumes bit for bit.

        Raises:
            ValueError: a state of another method, of a network of another size, or of another density or number of
                steps; nothing has changed then.
        """
        names = (*_LASTING, *self._kept)
        if set(state_dict) != set(names):
            raise ValueError(f"state_dict must hold {', '.join(names)}, got {', '.join(map(str, state_dict))}")
        for name, value in state_dict.items():
            self._check_kept(name, value)
        theirs, goal = state_dict["freeze_step"], state_dict["target"]
        if theirs != self.freeze_step or abs(goal - self.target) * self.size >= 0.5:
            ours = f"density {self.target:g} after {self.freeze_step} steps"
            raise ValueError(f"state_dict must be of {ours}, got one of density {goal:g} after {theirs} steps")
        for name, value in state_dict.items():
            setattr(self, name, value.to(self.mask.device, copy=True) if isinstance(value, Tensor) else value)

    def _check_kept(self, name: str, value: Any) -> None:
        """Raise unless a value of a state can take the place of the present one."""
        have = getattr(self, name)
        if isinstance(value, Tensor):  # what is None now is a flat tensor at other times
            shape, dtype = (have.shape, have.dtype) if isinstance(have, Tensor) else self._kind(name)
            fits = not isinstance(have, int | float) and value.shape == shape and value.dtype == dtype
            got = f"{value.dtype} of shape {tuple(value.shape)}"
        elif isinstance(have, int | float):
            fits, got = isinstance(value, int | float), repr(value)
        else:
            fits, got = value is None and name != "mask", repr(value)
        if not fits:
            raise ValueError(f"state_dict must be of this method on {self.size} weights, got {name} {got}")

    def _kind(self, name: str) -> tuple[tuple[int, ...], torch.dtype]:
        """Shape and dtype of a kept tensor that is not there now."""
        return (self.size,), self._dtype

    def __getstate__(self) -> Any:
        name = type(self).__name__
        raise TypeError(f"{name} hangs on its optimizer and cannot be copied or pickled; load its state into a new one")

    def carry_over(self, moves: Moves) -> None:
        """Go on with smaller weights, as many of which are to be left; see :func:`bregma.compact`.

        Raises:
            ValueError: whole neurons, or n of m, are still being chosen, and the choice would not be the same; or
                firing rates of the former network count.
        """
        rated = getattr(self, "rates", None) is not None
        if not self.frozen and (self._arrangement["structure"] != "weights" or rated):
            raise ValueError(f"net must not be compacted before step {self.freeze_step}, the end of the ramp")
        self.weights, kept = carried(self.weights, {name: getattr(self, name) for name in ("mask", *self._kept)}, moves)
        for name, value in kept.items():
            setattr(self, name, value)
        left = int(torch.count_nonzero(self.mask)) if self.frozen else self.structure.keep(self.target)
        self.size = self.mask.numel()
        self.target = min(1.0, left / self.size)
        self.arrange()

    # -- hooks ------------------------------------------------------------------------------------------------------

    def _pre_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        """Evaluate a closure at the sparse weights, before `_before` may put others in their place."""
        closure: Callable[[], Any] | None = kwargs.get("closure", args[1] if len(args) > 1 else None)
        changed = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
            changed = (args[:1], {"closure": lambda: loss})
        if self._skipped():
            return changed
        checks.gradients(type(self).__name__, self.weights)
        self.step_count += 1
        for group in self.optimizer.param_groups:
            if "lam" in group:
                group["lam"] = 0.0
        with torch.no_grad():
            self._before()
            self._anchor()
        return changed

    def _skipped(self) -> bool:
        """Whether this step moves nothing: a fused optimiser that a gradient scaler has told of infinite gradients."""
        found = getattr(self.optimizer, "found_inf", None)
        return found is not None and bool(found)

    def _post_step(self, *_: Any) -> None:
        if self._skipped():
            return
        with torch.no_grad():
            self._after()
            if self.frozen:
                if self.step_count == self.freeze_step:
                    self.structure.forget()
                self.structure.silence_(self.mask)

    def _anchor(self) -> None:
        """Let an optimiser that keeps a dual of its own (AdaBreg, LinBreg) step from the weights as they are now."""
        for group in self.optimizer.param_groups:
            for p in group["params"]:
                dual = self.optimizer.state.get(p, {}).get("dual")
                if dual is not None:
                    dual.copy_(p).div_(group["delta"])

    # -- tools ------------------------------------------------------------------------------------------------------

    def due(self) -> bool:
        """Return whether this step makes a new mask."""
        return self.step_count == self.freeze_step or (
            self.step_count < self.freeze_step and self.step_count % self.every == 0
        )

    def penalise(self, strength: float) -> None:
        """Until the mask is final, add the gradients of ``strength`` times the L1 norm of the weights, in place."""
        for w in self.weights if strength and self.step_count <= self.freeze_step else ():
            if w.grad is not None:
                w.grad.add_(w.sign(), alpha=strength * gradient_unit(self.optimizer, w))

    def mask_gradients(self) -> None:
        """Set the gradients of pruned weights to exactly zero, in place."""
        for w, kept in zip(self.weights, self.masks, strict=True):
            if w.grad is not None:
                keep_(w.grad, kept)

    def mask_weights(self) -> None:
        """Set pruned weights to exactly zero, in place."""
        for w, kept in zip(self.weights, self.masks, strict=True):
            keep_(w, kept)

    def metric(self, out: Tensor | None = None) -> Tensor:
        r"""Return :math:`\omega = \hat s^{1/4}` of each weight, s the second moment that Adam keeps; flat."""
        omega = torch.empty(self.size, dtype=self._dtype, device=self.mask.device) if out is None else out
        for w, part in zip(self.weights, self._views(omega), strict=True):
            metric_(part, self.optimizer, w)
        return omega

    def select(self, score: Tensor, density: float) -> Tensor:
        """Return the mask that leaves ``density`` of the units."""
        return self.structure.select(score, self.structure.keep(density))

    def _views(self, flat: Tensor) -> list[Tensor]:
        return self.structure.views(flat)

    def _gathered(self) -> Tensor:
        """Return the weights as they are now, one after the other."""
        return torch.cat([w.detach().flatten().to(self._dtype) for w in self.weights])
