"""What LinBreg, AdaBreg and ProxSGD share: options per group, checks, state that keeps its precision, fast paths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from bregma.optim import checks
from bregma.optim.dual import dual_dtype, initial_dual, sparsify_
from bregma.prox import get

Group = dict[str, Any]


class ProximalOptimizer(Optimizer):
    """An optimiser whose step ends in a proximal map. Private: use its subclasses.

    A subclass names its options in ``defaults``, checks its own in ``_check_options`` and moves one group in
    ``_update``.
    """

    _built = True  # but while the constructor adds its groups

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        self._built = False
        super().__init__(params, defaults)
        self._built = True
        for index in range(len(self.param_groups)):  # not before all groups have passed
            self._start(index)

    def _check_options(self, group: Group) -> None:
        """Raise if an option that only this optimiser has is wrong."""
        raise NotImplementedError

    def _update(self, group: Group) -> None:
        """Move the parameters of one group that have a gradient."""
        raise NotImplementedError

    def _check_group(self, group: Group) -> None:
        checks.learning_rate(group["lr"])
        checks.number("lam", group["lam"], low=0.0)
        get(group["penalty"])
        checks.switches(group["maximize"], group["foreach"], group["fused"])
        self._check_options(group)

    def add_param_group(self, param_group: Group) -> None:
        """Add a group of parameters; options it leaves out come from the constructor.

        With ``init="sparse"`` its weight tensors are made sparse here, at once, if the group has a penalty.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        group.update({key: checks.plain(value) for key, value in group.items() if key != "params"})
        try:
            self._check_group(group)
            checks.parameters(group["params"], group["penalty"])
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise
        if self._built:
            self._start(len(self.param_groups) - 1)

    def _start(self, index: int) -> None:
        """Make the weights of a group sparse if it says so."""
        group = self.param_groups[index]
        if group.get("init") == "sparse" and group["lam"] > 0 and group["penalty"] != "none":
            weights = [p for p in group["params"] if p.requires_grad and p.ndim >= 2]
            sparsify_(weights, group["init_density"], _generator(group["seed"], index + 1))

    def __setstate__(self, state: dict[str, Any]) -> None:
        defaults = state.get("defaults", self.__dict__.get("defaults", {}))
        for group in state["param_groups"]:
            for key, value in defaults.items():
                if key != "differentiable":  # torch adds this one to the defaults of any unpickled optimiser
                    group.setdefault(key, value)
            self._check_group(group)
        super().__setstate__(state)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; duals and moments keep the precision they were saved in, whatever the weights' dtype.

        Torch casts all state to the parameter's dtype, which would round a float32 dual to bfloat16. The loaded
        state shares no storage with ``state_dict``.

        Raises:
            ValueError: the state of parameters of other shapes; nothing has changed then.
        """
        saved: dict[str, Any] = {}

        def look(_: Optimizer, seen: dict[str, Any]) -> None:
            self._check_shapes(seen)
            saved.update(seen)

        before = self.register_load_state_dict_pre_hook(look)
        after = self.register_load_state_dict_post_hook(lambda _: self._restore(saved), prepend=True)
        try:
            super().load_state_dict(state_dict)
        finally:
            before.remove()
            after.remove()

    def _pairs(self, saved: dict[str, Any]) -> Iterator[tuple[Any, Tensor]]:
        """Saved names of parameters beside the parameters; as many as both have."""
        ids = [i for group in saved["param_groups"] for i in group["params"]]
        return zip(ids, [p for group in self.param_groups for p in group["params"]], strict=False)

    def _check_shapes(self, saved: dict[str, Any]) -> None:
        for i, p in self._pairs(saved):
            for key, value in saved["state"].get(i, {}).items():
                if key != "step" and value.shape != p.shape:
                    shapes = f"{tuple(value.shape)} for a parameter of shape {tuple(p.shape)}"
                    raise ValueError(f"state_dict must be of the same parameters, got {key} of shape {shapes}")

    def _restore(self, saved: dict[str, Any]) -> None:
        for i, p in self._pairs(saved):
            for key, value in saved["state"].get(i, {}).items():
                if key == "step":
                    self.state[p][key] = self.state[p][key].clone()
                else:
                    self.state[p][key] = torch.empty_like(p, dtype=dual_dtype(p)).copy_(value)

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step and return the closure's loss, or None without a closure.

        Args:
            closure: evaluates the model again, calls ``backward`` and returns the loss; run with gradients enabled.

        Raises:
            TypeError: a gradient is sparse; nothing has moved then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            for group in self.param_groups:
                checks.gradients(type(self).__name__, group["params"])
            for group in self.param_groups:
                self._update(group)
        return loss

    def _dual(self, p: Tensor, group: Group) -> Tensor:
        """Return the dual of ``p``, made from the weights as they are now if there is none yet."""
        state = self.state[p]
        if "dual" not in state:
            state["dual"] = initial_dual(
                p, lam=group["lam"], delta=group["delta"], penalty=get(group["penalty"]), init=group["init"]
            )
        return cast(Tensor, state["dual"])

    def _buffer(self, p: Tensor, key: str) -> Tensor:
        """Return the state tensor ``key`` of ``p``, zeros at first, laid out like ``p``."""
        state = self.state[p]
        if key not in state:
            state[key] = torch.zeros_like(p, dtype=dual_dtype(p), memory_format=torch.preserve_format)
        return cast(Tensor, state[key])


def _generator(seed: int | None, index: int) -> torch.Generator | None:
    """Return the generator of one group's sparse start: its own for a seed, otherwise torch's global one (None).

    The seed is mixed: torch's own stream of the same seed usually drew the weights, and a mask drawn from the very
    same numbers would keep the largest of them.
    """
    if seed is None:
        return None
    return torch.Generator().manual_seed((seed * 0x9E3779B1 + index * 0x85EBCA6B + 0x5BA25E) % 2**63)


def fast_path(group: Group, tensors: list[Tensor], fused_op: str) -> str:
    """Return which implementation moves these tensors: ``"fused"``, ``"foreach"`` or ``"single"``.

    Unless the group says otherwise: torch's fused kernel on the CPU (if this torch has it), one multi-tensor
    operation at a time on an accelerator. Under ``torch.compile`` always the plain loop, which the compiler fuses.
    """
    if torch.compiler.is_compiling():
        return "single"
    has_fused = hasattr(torch, fused_op)
    if group["fused"]:
        return "fused" if has_fused else "foreach"
    if group["foreach"]:
        return "foreach"
    if group["fused"] is not None or group["foreach"] is not None:
        return "single"
    on_cpu = all(t.is_cpu for t in tensors)
    if on_cpu:
        return "fused" if has_fused else "single"
    return "foreach"


def aligned(grads: list[Tensor], like: list[Tensor]) -> list[Tensor]:
    """Return the gradients in the dtype and memory layout of ``like``, copied only where they differ.

    The fused kernels walk raw memory, so a gradient with other strides would meet the wrong weights.
    """
    return [
        g if g.dtype == x.dtype and g.stride() == x.stride() else torch.empty_like(x).copy_(g)
        for g, x in zip(grads, like, strict=True)
    ]


def batches(first: list[Tensor], *rest: list[Tensor]) -> Iterator[tuple[list[Tensor], ...]]:
    """Split parallel lists into batches whose first tensors share device and dtype, as multi-tensor kernels need."""
    lists = (first, *rest)
    kinds = [(t.device, t.dtype) for t in first]
    for kind in dict.fromkeys(kinds):
        yield tuple([t for t, k in zip(tensors, kinds, strict=True) if k == kind] for tensors in lists)
