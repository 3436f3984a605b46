"""What a sweep runs: methods, densities, seeds, learning rates, and the settings that follow for each run."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from bregma.runs.experiment import DENSITY_METHODS, STRUCTURED, Experiment, Method, recipe

#: ``adam`` is the dense network that the others are compared with.
SWEEP_METHODS: tuple[Method, ...] = (*DENSITY_METHODS, "adam")


class Point(NamedTuple):
    """A method at a density; 0 for the dense network."""

    method: Method
    density: float

    def __str__(self) -> str:
        """How folders are named."""
        return f"{self.method}-{self.density or 1:.12g}"


@dataclass(frozen=True)
class Plan:
    """What a sweep runs.

    Args:
        base: what all runs share; its seed is that of the first. Method, density and what follows from them (lr, lam,
            init) are those recommended for each run.
        methods: of `SWEEP_METHODS`.
        densities: each in (0, 1]; adam runs at none of them.
        seeds: runs of each method at each density, which differ by their seed.
        rates: learning rates. None: the recommended one; several: each method at each density takes the one with the
            best validation accuracy at a seed of its own, the one after the last.

    Raises:
        ValueError: a method that meets no density, a density or rate that is no setting of a run, one named twice,
            no seed.
    """

    base: Experiment
    methods: tuple[Method, ...]
    densities: tuple[float, ...]
    seeds: int
    rates: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for method in self.methods:
            if method not in SWEEP_METHODS:
                raise ValueError(f"method must be one or more of {', '.join(SWEEP_METHODS)}, got {method}")
        for density in self.densities:
            if not 0 < density <= 1:
                raise ValueError(f"density must be one or more numbers in (0, 1], got {density}")
        if not self.methods or (not self.densities and set(self.methods) != {"adam"}):
            raise ValueError("method and density must name at least one each, got none")
        for name, values in (("method", self.methods), ("density", self.densities), ("lr", self.rates)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name} must name each once, got {', '.join(map(str, values))}")
        if self.seeds < 1:
            raise ValueError(f"seeds must be >= 1, got {self.seeds}")
        for experiment in (*self.tuning(), self.experiment(self.points[0], self.seeds)):
            experiment.to_dict()  # made, and so checked

    @property
    def points(self) -> list[Point]:
        """Every method at every density, the densest first; adam once."""
        dense = [Point(method, 0.0) for method in self.methods if method == "adam"]
        falling = sorted(self.densities, reverse=True)
        return dense + [Point(method, density) for density in falling for method in self.methods if method != "adam"]

    @property
    def tuned(self) -> bool:
        """Whether learning rates are chosen."""
        return len(self.rates) > 1

    @property
    def total(self) -> int:
        """Runs in all."""
        return len(self.points) * (self.seeds + len(self.rates) * self.tuned)

    def experiment(self, point: Point, number: int, lr: float | None = None) -> Experiment:
        """One run: the first seed is number 0, that of tuning is number ``seeds``."""
        usual = recipe(self.base.data, point.method, density=point.density)
        own = {name: getattr(usual, name) for name in ("lr", "lam", "init")}
        own |= {name: getattr(usual, name) for name, takers in STRUCTURED.items() if point.method not in takers}
        if self.rates:
            own["lr"] = lr or self.rates[0]
        return dataclasses.replace(
            self.base, method=point.method, density=point.density, seed=self.base.seed + number, **own
        )

    def tuning(self) -> list[Experiment]:
        """The runs that decide the learning rates."""
        if not self.tuned:
            return []
        return [self.experiment(point, self.seeds, lr) for point in self.points for lr in self.rates]

    def runs(self, rate: Callable[[Point], float | None]) -> Iterator[tuple[str, Experiment]]:
        """Name of the folder and settings of each run, tuning first, then seed by seed.

        Args:
            rate: the learning rate chosen for a point, asked for once its tuning runs are done.
        """
        for experiment in self.tuning():
            yield tuning_name(Point(experiment.method, experiment.density), experiment.lr), experiment
        for number in range(self.seeds):
            for point in self.points:
                experiment = self.experiment(point, number, rate(point))
                yield f"{point}-seed{experiment.seed}", experiment


def tuning_name(point: Point, lr: float) -> str:
    """Folder of a run that helps to decide the learning rate of a point."""
    return f"tuning-{point}-lr{lr:.12g}"
