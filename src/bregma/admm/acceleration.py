"""What section 6 of the paper suggests: penalties that adapt, and Anderson acceleration with a safeguard."""

from collections import deque
from dataclasses import replace

import torch
from torch import Tensor

from bregma.admm.problem import Constants
from bregma.admm.settings import Penalties

_GROWTH, _MOST = 1.01, 100.0
_GROWN = 500  # iterations after which it is the most: further powers would overflow
_EVERY, _FACTOR, _MOVE = 5, 2.0, 1.5


def adapt(
    penalties: Penalties, constants: Constants, start: Constants, iteration: int, rms: tuple[float, float]
) -> Constants:
    """The constants of the next iteration, see `Settings`.

    Multipliers are kept unscaled, so they need no change when rho does.

    Args:
        penalties: the rule.
        constants: those of this iteration.
        start: those of the first one.
        iteration: how many are done.
        rms: root mean square of the residuals of membranes and of spikes.

    Example:
        >>> adapt("balanced", Constants(sigma=0.1), Constants(), iteration=5, rms=(0.01, 0.3)).sigma
        0.15000000000000002
    """
    if penalties == "growing":
        scale = min(_GROWTH ** min(iteration, _GROWN), _MOST)
        return replace(constants, rho=start.rho * scale, sigma=start.sigma * scale)
    if penalties == "balanced" and iteration % _EVERY == 0:
        membranes, spikes = rms
        if spikes > _FACTOR * membranes:
            return replace(constants, sigma=constants.sigma * _MOVE)
        if membranes > _FACTOR * spikes:
            return replace(constants, sigma=constants.sigma / _MOVE)
    return constants


class Anderson:
    """Type-II Anderson acceleration of a fixed-point map on a collection of tensors.

    From iterates x and their images g the proposal is the affine combination of the images whose residuals ``g - x``
    cancel best (Walker and Ni 2011). Whether to accept it is the caller's decision.

    Args:
        memory: number of former pairs to combine.

    Example:
        >>> x, accelerate = {"x": torch.tensor([1.0])}, Anderson(memory=2)
        >>> for _ in range(3):
        ...     image = {"x": 0.5 * x["x"] + 1}  # an affine map: two pairs give its fixed point, 2
        ...     x = accelerate.propose(x, image) or image
        >>> x["x"]
        tensor([2.])
    """

    def __init__(self, memory: int) -> None:
        self._pairs: deque[tuple[dict[str, Tensor], dict[str, Tensor]]] = deque(maxlen=memory + 1)

    def propose(self, x: dict[str, Tensor], image: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """The next iterate from the last pair and those before; None while there is a single pair."""
        residual = {name: image[name] - x[name] for name in image}
        self._pairs.append(({name: value.clone() for name, value in image.items()}, residual))
        count = len(self._pairs)
        if count < 2:
            return None
        dots = torch.tensor(
            [[_dot(self._pairs[i][1], self._pairs[j][1]) for j in range(count)] for i in range(count)],
            dtype=torch.float64,
        )
        # min ||sum_i c_i r_i||^2 with sum c = 1: solve (R + small I) c = 1, then normalise.
        ridge = 1e-12 * dots.diagonal().max().clamp(min=1e-300)
        shares = torch.linalg.lstsq(dots + ridge * torch.eye(count, dtype=torch.float64), torch.ones(count, 1).double())
        weights = (shares.solution / shares.solution.sum()).flatten().tolist()
        return {
            name: sum((c * pair[0][name] for c, pair in zip(weights, self._pairs, strict=True)), torch.zeros(()))
            for name in image
        }

    def restart(self) -> None:
        """Forget all pairs but the last."""
        last = self._pairs.pop()
        self._pairs.clear()
        self._pairs.append(last)

    def state_dict(self) -> list[list[dict[str, Tensor]]]:
        """The pairs kept."""
        return [[dict(image), dict(residual)] for image, residual in self._pairs]

    def load_state_dict(self, state: list[list[dict[str, Tensor]]]) -> None:
        """Take over pairs kept by another."""
        self._pairs.clear()
        self._pairs.extend((image, residual) for image, residual in state)


def _dot(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return sum(float((a[name] * b[name]).sum(dtype=torch.float64)) for name in a)
