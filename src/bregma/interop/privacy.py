r"""Differential privacy of the sums that clients send: bounded samples, Gaussian noise, and what it adds up to.

A message holds K sums, each with the bound of `bregma.admm.bounded` on what one sample adds. Divided by their bounds
they change together by at most sqrt(K) when a sample is added or left out, so noise of standard deviation

    multiplier * sqrt(K) * bound

on every entry of each makes the message a Gaussian mechanism of that multiplier. R rounds of it, each of which may
depend on what the ones before told, are one Gaussian mechanism of the multiplier over sqrt(R) (Dong et al. 2022, arXiv
1905.02383, Cor. 2), whose epsilon is exact (Balle and Wang 2018, arXiv 1805.06530, Eq. 6; computed by dp-accounting).
All samples take part in every round, so nothing is claimed for sampling.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bregma.admm.bounded import Bounded
from bregma.interop.libraries import library

_VARIANCE = ".variance"


@dataclass(frozen=True)
class Privacy:
    """What clients promise their samples: all they send is (epsilon, delta) differentially private.

    Two data sets are neighbours if one has one sample more. The promise holds against everyone who reads the messages,
    the server included, if it follows the plan (sends no weights made to overflow) and, with ``together`` above 1, sees
    sums only. Which clients take part is not hidden, and noise from an ordinary generator of floating-point numbers
    does not defend against attacks on their last bits (Mironov 2012).

    Args:
        epsilon: > 0, of all rounds; inf: no noise, and nothing is promised.
        delta: in (0, 1); much smaller than one over the number of samples.
        clip: > 0; what a sample may add to the sums of the readout and of the first round, in units of what a sample
            adds whose neurons all fire at the rate of the settings. A smaller number means less noise, and that more
            samples are scaled down. inf, for comparisons: nothing is scaled; only with ``epsilon=inf``.
        together: how many honest clients' messages are seen in their sum only, >= 1. Each adds noise of one over that
            many parts of the variance. 1 needs no trust in anyone. More is right only under secure aggregation that
            opens no sum of fewer of them: alone, a message with a part of the noise promises much less.

    Raises:
        ValueError: a number out of its range.

    Example:
        >>> Privacy(epsilon=4.0, delta=1e-5).together
        1
    """

    epsilon: float
    delta: float
    clip: float = 1.0
    together: int = 1

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ValueError(f"epsilon must be > 0, got {self.epsilon}")
        if not 0 < self.delta < 1:
            raise ValueError(f"delta must be in (0, 1), got {self.delta}")
        if not self.clip > 0 or (self.clip == math.inf and self.epsilon < math.inf):
            raise ValueError(f"clip must be > 0, and finite unless epsilon is inf, got {self.clip}")
        if self.together < 1:
            raise ValueError(f"together must be >= 1, got {self.together}")

    def multiplier(self, rounds: int) -> float:
        """The noise of each round, in units of what one sample changes, with which ``rounds`` spend ``epsilon``.

        Example:
            >>> Privacy(epsilon=float("inf"), delta=1e-5).multiplier(4)
            0.0
        """
        if self.epsilon == math.inf:
            return 0.0
        of_all = library("dp_accounting", "privacy").get_sigma_gaussian(self.epsilon, self.delta)
        return math.sqrt(rounds) * float(of_all)

    def spent(self, done: int, rounds: int) -> float:
        """The epsilon of the first ``done`` of ``rounds`` rounds, at ``delta``; 0 before the first.

        Raises:
            ValueError: ``done`` outside [0, rounds].
        """
        if not 0 <= done <= rounds:
            raise ValueError(f"done must be in [0, {rounds}], the rounds in all, got {done}")
        if not done:
            return 0.0
        if self.epsilon == math.inf:
            return math.inf
        sigma = self.multiplier(rounds) / math.sqrt(done)
        return float(library("dp_accounting", "privacy").get_epsilon_gaussian(sigma, self.delta))

    def noised(
        self, sums: Mapping[str, Bounded], rounds: int, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """What a client may send of its sums.

        Gram matrices get symmetric noise, the mean of a noise matrix and its transpose, and next to each of them stands
        the variance of that matrix, which adds up over clients and tells the server how large the noise of the sum is.

        Args:
            sums: by name.
            rounds: in all.
            generator: of the noise; by default seeded by the operating system, anew for every message.
        """
        if generator is None:
            generator = torch.Generator().manual_seed(secrets.randbits(63))
        multiplier, sent = self.multiplier(rounds), {}
        for name, part in sums.items():
            deviation = multiplier * math.sqrt(len(sums) / self.together) * part.bound if multiplier else 0.0
            noise = deviation * torch.randn(part.total.shape, generator=generator, dtype=torch.float64)
            if name.endswith("gram"):
                noise = (noise + noise.T) / 2
                sent[name + _VARIANCE] = torch.tensor(deviation**2, dtype=torch.float64)
            sent[name] = part.total + noise
        return sent


def definite(total: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sums of noised messages with Gram matrices that are positive definite again.

    Eigenvalues below the edge of the noise's own spectrum, ``sqrt(2 n variance)``, are raised to it: less than that
    cannot be told from nothing. Without noise nothing is changed.

    Args:
        total: what `Privacy.noised` gives, summed over clients.

    Example:
        >>> gram, variance = torch.tensor([[3.0, 0.0], [0.0, -1.0]]).double(), torch.tensor(0.25).double()
        >>> definite({"gram": gram, "gram.variance": variance})["gram"].diagonal()
        tensor([3., 1.], dtype=torch.float64)
    """
    found = {name: tensor for name, tensor in total.items() if not name.endswith(_VARIANCE)}
    for name, variance in total.items():
        gram = name.removesuffix(_VARIANCE)
        if gram != name and float(variance) > 0:
            values, vectors = torch.linalg.eigh(total[gram])
            edge = math.sqrt(2 * len(values) * float(variance))
            found[gram] = (vectors * values.clamp(min=edge)) @ vectors.T
    return found
