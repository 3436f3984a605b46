"""The parameters of `bregma.admm.ADMMClassifier` and their defaults; what they mean is said there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sklearn.base import BaseEstimator

from bregma.admm.checks import Layout
from bregma.admm.layers import Layer
from bregma.admm.losses import LossName
from bregma.admm.order import Order
from bregma.admm.settings import Multipliers, Penalties, ReadoutUpdate, SpikeUpdate
from bregma.admm.targets import Rule, RuleName
from bregma.admm.traces import ReadoutKind

SolverName = Literal["consistent", "paper"]
Init = Literal["uniform", "forward"]

#: What one solver looks at and the other refuses; of the rest both take all.
CONSISTENT_ONLY = ("batch_size", "rule", "readout", "step", "readout_ridge", "class_weight", "density")
PAPER_ONLY = ("warming", "rho", "sigma", "epsilon", "order", "spike_update", "relaxation", "multipliers",
              "readout_update", "penalties", "anderson", "init")  # fmt: skip


class EstimatorParameters(BaseEstimator):  # type: ignore[misc]
    """Keeps its arguments as they are, as scikit-learn wants it."""

    def __init__(
        self,
        hidden: Sequence[Layer] = (512,),
        *,
        solver: SolverName = "consistent",
        frame_shape: Sequence[int] | None = None,
        iterations: int | None = None,
        decay: float = 0.95,
        threshold: float = 1.0,
        loss: LossName = "squared_error",
        ridge: float | None = None,
        coding: tuple[float, float] = (0.0, 1.0),
        layout: Layout = "time-major",
        measure_every: int | None = None,
        verbose: bool = False,
        random_state: int = 0,
        batch_size: int | None = None,
        rule: RuleName | Rule = "window",
        readout: ReadoutKind = "last",
        step: float | None = None,
        readout_ridge: float = 0.01,
        class_weight: Mapping[Any, float] | str | None = None,
        density: float | None = None,
        warming: int = 300,
        rho: float = 1.0,
        sigma: float = 0.1,
        epsilon: float = 1e-3,
        order: Order = "random",
        spike_update: SpikeUpdate = "clip",
        relaxation: float = 1.0,
        multipliers: Multipliers = "readout",
        readout_update: ReadoutUpdate = "sweep",
        penalties: Penalties = "fixed",
        anderson: int = 0,
        init: Init = "uniform",
    ) -> None:
        self.hidden = hidden
        self.solver = solver
        self.frame_shape = frame_shape
        self.iterations = iterations
        self.decay = decay
        self.threshold = threshold
        self.loss = loss
        self.ridge = ridge
        self.coding = coding
        self.layout = layout
        self.measure_every = measure_every
        self.verbose = verbose
        self.random_state = random_state
        self.batch_size = batch_size
        self.rule = rule
        self.readout = readout
        self.step = step
        self.readout_ridge = readout_ridge
        self.class_weight = class_weight
        self.density = density
        self.warming = warming
        self.rho = rho
        self.sigma = sigma
        self.epsilon = epsilon
        self.order = order
        self.spike_update = spike_update
        self.relaxation = relaxation
        self.multipliers = multipliers
        self.readout_update = readout_update
        self.penalties = penalties
        self.anderson = anderson
        self.init = init
