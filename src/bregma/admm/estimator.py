"""`ADMMClassifier`: the solver with the habits of scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from bregma.admm import checkpoint as checkpoints
from bregma.admm.checks import Layout, as_codes, as_frames, require_memory
from bregma.admm.fitting import Data, History, run
from bregma.admm.forward import forward
from bregma.admm.losses import LossName
from bregma.admm.network import Hidden, Network
from bregma.admm.order import Order
from bregma.admm.problem import Constants
from bregma.admm.settings import Multipliers, Penalties, ReadoutUpdate, Settings, SpikeUpdate
from bregma.admm.solver import ADMM
from bregma.admm.start import forward_start, random_start

Init = Literal["uniform", "forward"]


class ADMMClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A spiking network trained without gradients by ADMM, arXiv 2505.05527.

    Its accuracy is that of the true network: a forward pass with hard spikes through the learnt weights. On few samples
    training accuracy is no evidence of learning: random hidden weights with a fitted readout reach 100 % on the paper's
    200 recordings. Look at unseen data.

    Args:
        hidden: neurons of each hidden layer, or a `Convolution`.
        frame_shape: (channels, height, width) that the inputs flatten, if the first layer is a convolution.
        iterations: of Algorithm 2.
        warming: iterations before the multiplier moves.
        rho: weight of the dynamics.
        sigma: weight of the agreement between spikes and membranes.
        decay: what is left of a membrane after one step.
        threshold: firing threshold.
        epsilon: see `Constants`.
        ridge: regularisation of the weights, relative to the number of samples times steps.
        order: ``"random"``, ``"paper"`` or ``"red-black"``, see `Settings`.
        loss: ``"squared_error"``, ``"squared_hinge"`` or ``"cross_entropy"``.
        spike_update: ``"clip"`` or ``"exact"``, see `Settings`, as for the next five.
        relaxation: of the spikes.
        multipliers: ``"readout"`` or ``"all"``.
        readout_update: ``"sweep"`` or ``"exact"``.
        penalties: ``"fixed"``, ``"balanced"`` or ``"growing"``.
        anderson: memory.
        init: membranes and spikes start ``"uniform"`` in [0, 1), or as the true ``"forward"`` pass of random weights.
        coding: what the readout of a squared error should be for the other classes and for the class of a sample.
        layout: axes of X: ``"time-major"`` (T, B, n), or ``"batch-major"`` (B, T, n) as scikit-learn's
            cross-validation needs.
        measure_every: iterations between two entries of ``history_``.
        verbose: show a progress bar.
        random_state: seed of the start and of random orders.

    Attributes:
        classes_: the labels, sorted.
        weights_: W of each layer (n, inputs), the readout's last.
        n_iter_: iterations done.
        history_: measurements: ``iteration``, those of `ADMM.measure`, ``train_accuracy``, ``validation_accuracy``.
        n_features_in_: inputs.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> y = np.array(["left", "right"] * 10)
        >>> X = rng.random((20, 12, 10)) < np.where(y[:, None, None] == "left", 0.1, 0.3) * np.ones((20, 1, 10))
        >>> model = ADMMClassifier(hidden=(16,), iterations=30, warming=10, layout="batch-major").fit(X, y)
        >>> model.predict(X).shape, model.n_iter_
        ((20,), 30)
    """

    def __init__(
        self,
        hidden: Hidden = (512,),
        *,
        frame_shape: Sequence[int] | None = None,
        iterations: int = 1000,
        warming: int = 300,
        rho: float = 1.0,
        sigma: float = 0.1,
        decay: float = 0.95,
        threshold: float = 1.0,
        epsilon: float = 1e-3,
        ridge: float = 1e-6,
        order: Order = "random",
        loss: LossName = "squared_error",
        spike_update: SpikeUpdate = "clip",
        relaxation: float = 1.0,
        multipliers: Multipliers = "readout",
        readout_update: ReadoutUpdate = "sweep",
        penalties: Penalties = "fixed",
        anderson: int = 0,
        init: Init = "uniform",
        coding: tuple[float, float] = (0.0, 1.0),
        layout: Layout = "time-major",
        measure_every: int = 10,
        verbose: bool = False,
        random_state: int = 0,
    ) -> None:
        self.hidden = hidden
        self.frame_shape = frame_shape
        self.iterations = iterations
        self.warming = warming
        self.rho = rho
        self.sigma = sigma
        self.decay = decay
        self.threshold = threshold
        self.epsilon = epsilon
        self.ridge = ridge
        self.order = order
        self.loss = loss
        self.spike_update = spike_update
        self.relaxation = relaxation
        self.multipliers = multipliers
        self.readout_update = readout_update
        self.penalties = penalties
        self.anderson = anderson
        self.init = init
        self.coding = coding
        self.layout = layout
        self.measure_every = measure_every
        self.verbose = verbose
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        validation: tuple[Any, Any] | None = None,
        checkpoint: str | Path | None = None,
        checkpoint_every: int = 100,
    ) -> ADMMClassifier:
        """Train from the start, or from a checkpoint.

        Args:
            X: spikes, in the layout of the estimator; an array or tensor of any dtype.
            y: labels of any dtype (B,).
            validation: frames and labels to measure true accuracy on; nothing is chosen by them.
            checkpoint: file that the run is saved to. If it exists, the run goes on from it, and its result equals
                that of an uninterrupted one bit by bit.
            checkpoint_every: iterations between two saves.

        Returns:
            The estimator.

        Raises:
            ValueError: a parameter, shape or label that is not allowed; a checkpoint of another run.
            MemoryError: membranes and spikes would not fit.
        """
        self._train = train = self._prepare(X, y, classes=np.unique(np.asarray(y)))
        data = {"train": train}
        if validation is not None:
            frames = self._frames(validation[0])
            data["validation"] = frames, as_codes(validation[1], frames.shape[1], self.classes_)
        self._solver = solver = self._new_solver(*train)
        self.history_: History = []
        save = None
        if checkpoint is not None:
            path, of = Path(checkpoint), checkpoints.identity(self.get_params(), self.classes_.tolist(), *train)
            if path.exists():
                self.history_ = checkpoints.load(path, of, solver)
            save = partial(checkpoints.save, path, of, solver, self.history_)
        run(
            solver,
            self.history_,
            data,
            iterations=self.iterations,
            measure_every=self.measure_every,
            save=save,
            save_every=checkpoint_every,
            verbose=self.verbose,
        )
        self._finish()
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> ADMMClassifier:
        """One more iteration.

        On the data of the call before, it goes on with their membranes and spikes. On other data, these start as the
        true forward pass of the weights learnt so far.

        Args:
            X: spikes, as for `fit`.
            y: labels (B,).
            classes: all labels that will ever come; needed if the first ``y`` lacks one of them.

        Returns:
            The estimator.

        Raises:
            ValueError: as `fit`.
            MemoryError: as `fit`.
        """
        first = not hasattr(self, "weights_")
        known = np.unique(np.asarray(y if classes is None else classes)) if first else self.classes_
        train = self._prepare(X, y, classes=known)
        if first:
            self.history_ = []
            self._solver = self._new_solver(*train)
        elif not self._holds(train):
            self._solver = self._new_solver(*train, weights=self._tensors())
            self._solver.iteration = self.n_iter_
        self._train = train
        self._solver.step()
        self._finish()
        return self

    def decision_function(self, X: Any) -> NDArray[np.float32]:
        """Scores of a true forward pass: (B, classes), or for two classes that of the second over the first (B,)."""
        check_is_fitted(self, "weights_")
        scores = forward(self._frames(X), self._tensors(), self._constants(), self._network.correlations).numpy()
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: Any) -> NDArray[Any]:
        """Labels of the largest scores (B,)."""
        scores = self.decision_function(X)
        best = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(1)
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def _prepare(self, X: Any, y: Any, classes: NDArray[Any]) -> Data:
        """Check everything before any work; frames and label codes."""
        self._settings()
        if min(self.iterations, self.measure_every) < 1:
            raise ValueError(f"iterations, measure_every must be >= 1, got {self.iterations}, {self.measure_every}")
        if self.init not in get_args(Init):
            raise ValueError(f"init must be one of {', '.join(get_args(Init))}, got {self.init!r}")
        if not self.coding[0] < self.coding[1]:
            raise ValueError(f"coding must be two numbers, the second larger, got {self.coding}")
        if len(classes) < 2:
            raise ValueError(f"y must hold at least two classes, got {classes.tolist()}")
        x = as_frames(X, self.layout)
        codes = as_codes(y, x.shape[1], classes)
        copies = 1 + (self.multipliers == "all") + (2 * self.anderson + 4 if self.anderson else 0)
        self._network = Network.build(tuple(self.hidden), x.shape[2], len(classes), self.frame_shape)
        require_memory(x.shape[0], x.shape[1], (x.shape[2], *self._network.sizes), copies)
        self.classes_, self.n_features_in_ = classes, x.shape[2]
        return x, codes

    def _new_solver(self, x: Tensor, codes: Tensor, weights: list[Tensor] | None = None) -> ADMM:
        off, on = self.coding
        y = off + (on - off) * torch.nn.functional.one_hot(codes, len(self.classes_)).to(x.dtype)
        seed, start = self.random_state, None
        if weights is not None:
            start = forward_start(x, weights, self._constants(), self._network.correlations)
        elif self.init == "forward":
            generator = torch.Generator().manual_seed(seed)
            start = random_start(x, self._network.sizes, self._constants(), generator, self._network.correlations)
        return ADMM(x, y, tuple(self.hidden), self._settings(), frame_shape=self.frame_shape, seed=seed, start=start)

    def _holds(self, train: Data) -> bool:
        """Whether the solver's membranes and spikes are those of these data."""
        return hasattr(self, "_train") and all(map(torch.equal, train, self._train))

    def _finish(self) -> None:
        self.weights_ = [weight.numpy().copy() for weight in self._solver.variables.weights]
        self.n_iter_ = self._solver.iteration

    def __getstate__(self) -> dict[str, Any]:
        """State without membranes, spikes and data; `partial_fit` after a copy starts them from a forward pass."""
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name not in ("_solver", "_train")}

    def _frames(self, X: Any) -> Tensor:
        x = as_frames(X, self.layout)
        if x.shape[2] != self.n_features_in_:
            raise ValueError(f"X must have {self.n_features_in_} inputs as in fit, got {x.shape[2]}")
        return x

    def _tensors(self) -> list[Tensor]:
        return [torch.from_numpy(weight) for weight in self.weights_]

    def _constants(self) -> Constants:
        return Constants(**{field.name: getattr(self, field.name) for field in fields(Constants)})

    def _settings(self) -> Settings:
        own = {field.name: getattr(self, field.name) for field in fields(Settings) if field.name != "constants"}
        return Settings(self._constants(), **own)
