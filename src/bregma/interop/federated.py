"""Federated ADMM without a network between: what clients tell in each round, and what the server makes of their sums.

Nothing is averaged, so the result is that of one machine with all samples, whatever the shares of the clients look like
(Eq. (10) of arXiv 2505.05527, for the consistent solver). The rounds are, for N iterations:

    1             ``rates``    spikes of every input: the server scales random weights by them
    2, 4 .. 2 N   ``readout``  statistics of the readout; the server solves it
    3, 5 .. 2N+1  ``layers``   statistics of the hidden layers; the server moves them
    2 N + 2       ``refresh``  statistics of the readout for the final hidden layers
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bregma.admm import bounded
from bregma.admm.consistent import ConsistentADMM
from bregma.admm.consistent_settings import ConsistentSettings
from bregma.admm.statistics import Statistics
from bregma.interop.privacy import Privacy, definite

_STEPS, _SAMPLES = 50, 200  # of the stand-in for data that the server never sees


@dataclass(frozen=True)
class Plan:
    """What server and clients must agree on.

    Args:
        inputs: n_0.
        classes: size of the readout.
        hidden: neurons of each hidden layer.
        iterations: N.
        settings: of the solver.
        seed: of the first weights.
        dtype: of weights and computations; sums are float64.
        privacy: of the samples, see `bregma.interop.privacy`; None: the sums are sent as they are.

    Raises:
        ValueError: privacy with a rule that cuts by all samples of a client.

    Example:
        >>> plan = Plan(inputs=8, classes=2, hidden=(16,), iterations=3)
        >>> [plan.phase(round) for round in range(1, plan.rounds + 1)]
        ['rates', 'readout', 'layers', 'readout', 'layers', 'readout', 'layers', 'refresh']
    """

    inputs: int
    classes: int
    hidden: tuple[int, ...]
    iterations: int
    settings: ConsistentSettings = field(default_factory=ConsistentSettings)
    seed: int = 0
    dtype: torch.dtype = torch.float32
    privacy: Privacy | None = None

    def __post_init__(self) -> None:
        if self.privacy is not None and self.settings.rule.sampled:
            raise ValueError(
                "settings: with privacy the rule must be Window, got one whose cuts depend on all samples: "
                f"{self.settings.rule}"
            )

    @property
    def rounds(self) -> int:
        """Rounds of messages."""
        return 2 * self.iterations + 2

    def phase(self, server_round: int) -> str:
        """What a round is for."""
        if server_round == 1:
            return "rates"
        return "refresh" if server_round == self.rounds else ("layers" if server_round % 2 else "readout")

    def solver(self, weights: Sequence[Tensor] = (), iteration: int = 0) -> ConsistentADMM:
        """A solver, by default without weights.

        Args:
            weights: of all layers.
            iteration: how many were done. After the first one Gram matrices are formed when they are due only, for the
                server has some.
        """
        solver = ConsistentADMM(self.hidden, self.inputs, self.classes, self.settings, seed=self.seed, dtype=self.dtype)
        if weights:
            solver.resume(list(weights), iteration)
        if iteration:
            state = solver.state_dict()
            for part in state["statistics"]:
                part["count"].fill_(1.0)
            solver.load_state_dict(state)
        return solver

    def code(self, labels: Tensor) -> Tensor:
        """Labels 0, 1 ... as rows of zeros and a one (B, classes)."""
        return torch.nn.functional.one_hot(labels, self.classes).to(self.dtype)


def local_sums(
    plan: Plan,
    solver: ConsistentADMM,
    phase: str,
    x: Tensor,
    labels: Tensor,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """What a client tells in one phase: float64 sums over its samples by name.

    Args:
        plan: see `Plan`.
        solver: with the weights of the server, except for ``rates``.
        phase: see the module.
        x: input spikes (T, B, n_0).
        labels: (B,).
        generator: of the noise of a plan with privacy; seeded by the operating system by default.

    Raises:
        ValueError: a spike or a sum is not finite; nothing can bound what such a sample adds.
    """
    if not bool(x.isfinite().all()):
        raise ValueError("x must be finite, got NaN or infinity; leave these samples out")
    y = plan.code(labels)
    if plan.privacy is not None:
        sums = _noised_sums(plan, plan.privacy, solver, phase, x, y, generator)
    else:
        sums = _plain_sums(solver, phase, x, y)
    if not all(bool(tensor.isfinite().all()) for tensor in sums.values()):
        raise ValueError("x must hold spikes whose sums are finite, got some that overflow; leave these samples out")
    return sums


def _plain_sums(solver: ConsistentADMM, phase: str, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    samples = torch.tensor(x.shape[1], dtype=torch.float64)
    if phase == "rates":
        spikes = x.sum((0, 1), dtype=torch.float64)
        return {"spikes": spikes, "entries": samples * len(x), "samples": samples}
    activity = solver.run(solver.begin(x))
    if phase == "layers":
        parts = {f"layer.{k}": part for k, part in enumerate(solver.layer_sums(activity, y))}
    else:
        parts = {"readout": solver.readout_sums(activity, y)}
    sums = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.tensors().items()}
    return {**sums, "samples": samples}


def _noised_sums(
    plan: Plan,
    privacy: Privacy,
    solver: ConsistentADMM,
    phase: str,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator | None,
) -> dict[str, Tensor]:
    """The same with privacy; the number of samples is told in the first round only, noised like all else."""
    if phase == "rates":
        sent = privacy.noised(bounded.rates(x, privacy.clip, plan.settings.rate), plan.rounds, generator)
        return {**sent, "entries": sent["samples"] * len(x)}
    bounded_sums = bounded.layers if phase == "layers" else bounded.readout
    return privacy.noised(bounded_sums(solver, x, y, privacy.clip), plan.rounds, generator)


class Server:
    """Takes sums over all clients to a solver.

    Args:
        plan: as the clients have it.

    Attributes:
        solver: with the weights learnt so far.
        samples: how many there are in all; with privacy an estimate, made in the first round.

    Example:
        >>> plan = Plan(inputs=8, classes=2, hidden=(16,), iterations=2)
        >>> server, x, labels = Server(plan), (torch.rand(10, 6, 8) < 0.3).float(), torch.arange(6) % 2
        >>> for phase in map(plan.phase, range(1, plan.rounds + 1)):
        ...     client = plan.solver(server.solver.weights, server.solver.iteration)
        ...     server.take(phase, local_sums(plan, client, phase, x, labels))
        >>> server.solver.scores(x).shape, server.samples
        (torch.Size([6, 2]), 6)
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.solver = plan.solver()
        self.samples = 0
        self._noise = plan.privacy is not None and plan.privacy.epsilon < math.inf

    def expected(self, phase: str) -> dict[str, torch.Size]:
        """Names and shapes of what clients should send."""
        x = torch.zeros(1, 0, self.plan.inputs, dtype=self.plan.dtype)
        sums = local_sums(self.plan, self.solver, phase, x, torch.zeros(0, dtype=torch.long))
        return {name: tensor.shape for name, tensor in sums.items()}

    def take(self, phase: str, total: dict[str, Tensor]) -> None:
        """Go on by what the clients' sums add up to."""
        total = definite(total)
        self.samples = max(0, round(float(total.get("samples", torch.tensor(self.samples)))))
        if phase == "rates":
            self.solver.begin(self._stand_in(total))
        elif phase == "layers":
            self.solver.take_layers([_part(total, f"layer.{k}") for k in range(len(self.plan.hidden))])
        else:
            # Noise fades in running statistics, so they are kept where there is some.
            self.solver.take_readout(_part(total, "readout"), fresh=phase == "refresh" and not self._noise)

    def _stand_in(self, total: dict[str, Tensor]) -> Tensor:
        """Random spikes at the clients' mean rates, by which the first weights are scaled."""
        rates = total["spikes"] / total["entries"].clamp(min=1)
        generator = torch.Generator().manual_seed(self.plan.seed)
        drawn = torch.rand(_STEPS, _SAMPLES, self.plan.inputs, generator=generator, dtype=torch.float64)
        return (drawn < rates).to(self.plan.dtype)


def _part(total: dict[str, Tensor], name: str) -> Statistics:
    """With privacy there is no count, and a Gram matrix that is not due is not there at all."""
    cross, nothing = total[f"{name}.cross"], torch.zeros(0, 0, dtype=torch.float64)
    return Statistics(total.get(f"{name}.gram", nothing), cross, total.get(f"{name}.count", cross.new_ones(())))
