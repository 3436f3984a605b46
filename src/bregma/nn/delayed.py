"""Recurrent spiking layer with learned axonal delays.

Train with a spread that shrinks, keep the delays in their range after each step, round them for inference:

>>> layer = DelayedRecurrentLIF(4, max_delay=20)
>>> optimizer = torch.optim.Adam(layer.parameters(), lr=5e-2)
>>> for epoch in range(3):
...     layer.set_spread(dynamics.spread_at(epoch / 3))
...     spikes, _ = layer(torch.rand(5, 2, 4))
...     spikes.sum().backward()
...     optimizer.step()
...     layer.clamp_delays_()
>>> layer.round_delays_()  # in place; keep a copy to train on
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from bregma import dynamics
from bregma.dynamics import ATan, Reset, Surrogate
from bregma.dynamics.checks import check_number
from bregma.nn.layers import RecurrentLIF


class DelayedRecurrentLIF(RecurrentLIF):
    """LIF neurons that hear each other after a delay of the neuron that fired; equations in `bregma.dynamics.delays`.

    Args:
        size: number of neurons n.
        decay: see `LIF`.
        threshold: see `LIF`.
        max_delay: longest delay in time steps, kept by `clamp_delays_`; neuromorphic chips have such a limit.
        spread: half-width of the interpolation beyond one step, >= 0, to start with.
        learn_spread: each neuron learns its share of the spread, ``2 * spread * sigmoid(p_spread)``.
        dropout: share of the neurons, in [0, 1), that do not hear the layer while training; drawn anew for each sample
            in each call and alike for all its steps. The others hear it louder by ``1 / (1 - dropout)``.
        reset: see `LIF`.
        strict: see `LIF`.
        detach_reset: see `LIF`.
        surrogate: see `LIF`.

    Attributes:
        recurrent: `torch.nn.Linear` (n, n) without bias, orthogonal at the start.
        delays: parameter (n,), the delay of each presynaptic neuron in steps beyond the one of `RecurrentLIF`;
            ``|N(0, max_delay / 5)|`` at the start. It takes a learning rate of its own, 10 to 100 times the
            one of the weights (DelRec).
        spread: buffer (), saved with the weights, so that a checkpoint is run with the spread it was trained with.
        p_spread: parameter (n,), zeros at the start, or None.

    Shape:
        current (T, B, n), state (1 + k, B, n) or None -> spikes (T, B, n), state (1 + k, B, n). The state holds the
        membrane and what is under way along the axons; k follows the longest delay.

    Raises:
        ValueError: as `RecurrentLIF`, a negative max_delay or spread, or a dropout outside [0, 1).

    Example:
        >>> spikes, state = DelayedRecurrentLIF(4, max_delay=20)(torch.rand(5, 2, 4))
        >>> spikes.shape
        torch.Size([5, 2, 4])
    """

    spread: Tensor
    p_spread: nn.Parameter | None

    def __init__(
        self,
        size: int,
        decay: float | Tensor = 0.9,
        threshold: float | Tensor = 1.0,
        *,
        max_delay: int = 60,
        spread: float = 10.0,
        learn_spread: bool = False,
        dropout: float = 0.0,
        reset: Reset = "subtract",
        strict: bool = True,
        detach_reset: bool = False,
        surrogate: Surrogate = ATan(),  # noqa: B008  (frozen, no state)
    ) -> None:
        check_number("max_delay", max_delay, "a finite number >= 0", 0 <= max_delay < math.inf)
        check_number("spread", spread, "a finite number >= 0", 0 <= spread < math.inf)
        check_number("dropout", dropout, "in [0, 1)", 0 <= dropout < 1)
        super().__init__(
            size, decay, threshold, reset=reset, strict=strict, detach_reset=detach_reset, surrogate=surrogate
        )
        self.max_delay = max_delay
        self.dropout = dropout
        self.delays = nn.Parameter(torch.empty(size).normal_(std=max_delay / 5).abs_())
        self.register_buffer("spread", torch.tensor(float(spread)))
        self.register_parameter("p_spread", nn.Parameter(torch.zeros(size)) if learn_spread else None)
        # A compiled graph cannot look at the delays, so it keeps as many steps as they could ever need.
        self.most_slots = 1
        self._make_room(spread)
        self.clamp_delays_()

    def forward(self, current: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Spikes of the layer and the state to go on from."""
        gate = None
        if self.training and self.dropout:
            gate = nn.functional.dropout(torch.ones_like(current[0]), self.dropout)
        return dynamics.delayed_recurrent_lif(
            current,
            self.recurrent.weight,
            self.delays,
            self.neuron_spread(),
            self.decay,
            self.threshold,
            state,
            reset=self.reset,
            strict=self.strict,
            detach_reset=self.detach_reset,
            surrogate=self.surrogate,
            slots=self.most_slots if torch.compiler.is_compiling() or current.is_meta else None,
            gate=gate,
        )

    def neuron_spread(self) -> Tensor:
        """Spread of each neuron (n,) if it is learned, of all () if not."""
        return self.spread if self.p_spread is None else 2 * self.spread * torch.sigmoid(self.p_spread)

    def set_spread(self, spread: float) -> None:
        """Set the spread, as `bregma.dynamics.spread_at` says for a stage of the training; in place.

        Raises:
            ValueError: a spread that is negative or not finite.
        """
        check_number("spread", spread, "a finite number >= 0", 0 <= spread < math.inf)
        self.spread.fill_(spread)
        self._make_room(spread)

    def _make_room(self, spread: float) -> None:
        widest = spread if self.p_spread is None else 2 * spread
        self.most_slots = max(self.most_slots, math.ceil(self.max_delay + 1 + widest))

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        if not self.spread.is_meta:
            self._make_room(self.spread.item())

    @torch.no_grad()
    def clamp_delays_(self) -> None:
        """Bring the delays back into [0, max_delay]; to be called after each step of an optimiser."""
        self.delays.clamp_(0, self.max_delay)

    @torch.no_grad()
    def round_delays_(self) -> None:
        """Make the layer one for inference: whole delays in [0, max_delay] and no spread; in place."""
        self.delays.round_().clamp_(0, math.floor(self.max_delay))
        self.spread.zero_()

    def extra_repr(self) -> str:
        """What `print` shows of the layer."""
        learned = ", learn_spread=True" if self.p_spread is not None else ""
        spread = "" if self.spread.is_meta else f", spread={self.spread.item():g}"
        return f"{super().extra_repr()}, max_delay={self.max_delay:g}{spread}{learned}"
