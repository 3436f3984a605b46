"""`ADMMClassifier`: training without gradients with the habits of scikit-learn."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from bregma.admm import building
from bregma.admm import checkpoint as checkpoints
from bregma.admm.checks import as_codes, as_frames
from bregma.admm.consistent import ConsistentADMM
from bregma.admm.fitting import Data, History, Trained, run
from bregma.admm.parameters import EstimatorParameters
from bregma.admm.training import ConsistentTraining

_MEASURED = 10_000  # samples at most, of which the training accuracy is reported by the consistent solver


class ADMMClassifier(ClassifierMixin, EstimatorParameters):  # type: ignore[misc]
    """A spiking network trained without backpropagation by ADMM.

    ``solver="consistent"`` starts every iteration at the true network and is what trains well; ``solver="paper"`` is
    Algorithm 2 of arXiv 2505.05527 as printed. Both are described in the documentation, "Training without gradients".

    Its accuracy is that of the true network: a forward pass with hard spikes through the learnt weights. On few samples
    training accuracy is no evidence of learning: random hidden weights with a fitted readout reach 100 % on the paper's
    200 recordings. Look at unseen data.

    Args:
        hidden: of each hidden layer its neurons, a `Convolution`, or with the consistent solver a
            `bregma.admm.Recurrent` or `bregma.admm.Delayed`.
        solver: ``"consistent"`` or ``"paper"``.
        frame_shape: (channels, height, width) that the inputs flatten, if the first layer is a convolution.
        iterations: of the solver. Default: as many as 10 epochs take; the paper's solver: 1,000.
        decay: what is left of a membrane after one step.
        threshold: firing threshold.
        loss: ``"squared_error"``, ``"squared_hinge"`` or ``"cross_entropy"``.
        ridge: regularisation of the weights, relative to the mean diagonal of the Gram matrix of what a layer hears.
            Default: 10; the paper's solver: 1e-6, relative to the number of samples times steps.
        coding: what the readout of a squared error should be for the other classes and for the class of a sample.
        layout: axes of X: ``"time-major"`` (T, B, n), or ``"batch-major"`` (B, T, n) as scikit-learn's
            cross-validation needs.
        measure_every: iterations between two entries of ``history_``. Default: an epoch; the paper's solver: 10.
        verbose: show a progress bar.
        random_state: seed of the start and of random orders.
        batch_size: samples of an iteration of the consistent solver. If there are no more samples than that, each
            iteration takes the first of four steps that lowers the true loss. Default: all of up to 2,000 samples,
            else 200.
        rule: ``"window"``, ``"dithered"``, ``"flips"`` or such an object (`bregma.admm.Window` ...): where membranes
            should go. Consistent solver, as the next four.
        readout: membrane of the readout at the ``"last"`` step, or its ``"mean"`` over time.
        step: by how much of their norm hidden weights move in an iteration. Default: 0.3 with all samples at once,
            else 0.05, falling to zero over the iterations of `fit`.
        readout_ridge: regularisation of the readout.
        class_weight: None, ``"balanced"`` or a dict of weights by class.
        density: share of all weights that are not zero, exactly; None: all. On mini-batches it falls over the first
            half of the iterations of `fit`, with all samples at once and in a stream it holds from the start.
        warming: iterations before the multiplier moves. Paper's solver, as all that follow.
        rho: weight of the dynamics.
        sigma: weight of the agreement between spikes and membranes.
        epsilon: see `Constants`.
        order: ``"random"``, ``"paper"`` or ``"red-black"``, see `Settings`.
        spike_update: ``"clip"`` or ``"exact"``, see `Settings`, as for the next five.
        relaxation: of the spikes.
        multipliers: ``"readout"`` or ``"all"``.
        readout_update: ``"sweep"`` or ``"exact"``.
        penalties: ``"fixed"``, ``"balanced"`` or ``"growing"``.
        anderson: memory.
        init: membranes and spikes start ``"uniform"`` in [0, 1), or as the true ``"forward"`` pass of random weights.

    Attributes:
        classes_: the labels, sorted.
        weights_: W of each layer (n, inputs), the readout's last.
        n_iter_: iterations done.
        history_: measurements: ``iteration``, those of the solver's ``measure``, ``train_accuracy`` (of at most 10,000
            samples with the consistent solver), ``validation_accuracy``.
        n_features_in_: inputs.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> y = np.array(["left", "right"] * 10)
        >>> X = rng.random((20, 12, 10)) < np.where(y[:, None, None] == "left", 0.1, 0.3) * np.ones((20, 1, 10))
        >>> model = ADMMClassifier(hidden=(16,), layout="batch-major").fit(X, y)
        >>> model.predict(X).shape, model.n_iter_
        ((20,), 10)
    """

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
        train = self._prepare(X, y, classes=np.unique(np.asarray(y)))
        p, samples = self.get_params(deep=False), train[0].shape[1]
        measured = _MEASURED if self.solver == "consistent" else samples
        data = {"train": (train[0][:, :measured], train[1][:measured])}
        if validation is not None:
            frames = self._frames(validation[0])
            data["validation"] = frames, as_codes(validation[1], frames.shape[1], self.classes_)
        build = building.consistent_training if self.solver == "consistent" else building.paper_training
        self._train, self._solver = train, build(p, train, self.classes_)
        self.history_: History = []
        save = None
        if checkpoint is not None:
            path = Path(checkpoint)
            of = checkpoints.identity(building.lasting(p, samples), self.classes_.tolist(), *train)
            if path.exists():
                self.history_ = checkpoints.load(path, of, self._solver)
            save = partial(checkpoints.save, path, of, self._solver, self.history_)
        iterations, measure_every = building.iterations_of(p, samples)
        run(
            self._solver,
            self.history_,
            data,
            iterations=iterations,
            measure_every=measure_every,
            save=save,
            save_every=checkpoint_every,
            verbose=self.verbose,
        )
        self._finish(self._solver)
        if isinstance(self._solver, ConsistentTraining):
            self._online = self._solver.solver
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> ADMMClassifier:
        """One more iteration.

        With the consistent solver these samples are a mini-batch of a stream: nothing of them is kept but running
        statistics, which start anew after a copy or a pickle of the estimator.

        With the paper's solver, a call on the data of the call before goes on with their membranes and spikes. On other
        data, these start as the true forward pass of the weights learnt so far.

        Args:
            X: spikes, as for `fit`.
            y: labels (B,).
            classes: all labels that will ever come; needed if the first ``y`` lacks one of them.

        Returns:
            The estimator.

        Raises:
            ValueError: as `fit`; ``class_weight="balanced"``, for which all labels must be known.
            MemoryError: as `fit`.
        """
        if self.class_weight == "balanced":
            raise ValueError("class_weight must be None or a dict in partial_fit, got 'balanced'")
        first = not hasattr(self, "weights_")
        known = np.unique(np.asarray(y if classes is None else classes)) if first else self.classes_
        train = self._prepare(X, y, classes=known)
        if first:
            self.history_ = []
        advance = self._stream if self.solver == "consistent" else self._go_on
        advance(train, first)
        return self

    def _stream(self, train: Data, first: bool) -> None:
        """One iteration of the consistent solver on a mini-batch."""
        p = self.get_params(deep=False)
        if not hasattr(self, "_online"):
            self._online = building.online_solver(p, self.n_features_in_, len(self.classes_))
            if not first:
                self._online.resume(self._tensors(), self.n_iter_)
        building.online_step(p, self._online, train, self.classes_)
        self._finish(self._online)

    def _go_on(self, train: Data, first: bool) -> None:
        """One iteration of the paper's solver."""
        p = self.get_params(deep=False)
        if first:
            self._solver = building.paper_training(p, train, self.classes_)
        elif not (hasattr(self, "_train") and all(map(torch.equal, train, self._train))):
            self._solver = building.paper_training(p, train, self.classes_, self._tensors())
            self._solver.solver.iteration = self.n_iter_
        self._train = train
        self._solver.step()
        self._finish(self._solver)

    def decision_function(self, X: Any) -> NDArray[np.float32]:
        """Scores of a true forward pass: (B, classes), or for two classes that of the second over the first (B,)."""
        check_is_fitted(self, "weights_")
        p, x, weights = self.get_params(deep=False), self._frames(X), self._tensors()
        scores = building.scores(p, x, weights).numpy()
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: Any) -> NDArray[Any]:
        """Labels of the largest scores (B,)."""
        scores = self.decision_function(X)
        best = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(1)
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def _prepare(self, X: Any, y: Any, classes: NDArray[Any]) -> Data:
        """Check everything before any work; frames and label codes."""
        building.check(self.get_params(deep=False))
        if len(classes) < 2:
            raise ValueError(f"y must hold at least two classes, got {classes.tolist()}")
        x = as_frames(X, self.layout, dtype=None)
        codes = as_codes(y, x.shape[1], classes)
        self.classes_, self.n_features_in_ = classes, x.shape[2]
        return x, codes

    def _finish(self, solver: Trained | ConsistentADMM) -> None:
        self.weights_ = [weight.numpy().copy() for weight in solver.weights]
        self.n_iter_ = solver.iteration

    def __getstate__(self) -> dict[str, Any]:
        """State without data, and what a solver knows besides the weights."""
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name not in ("_solver", "_train", "_online")}

    def _frames(self, X: Any) -> Tensor:
        x = as_frames(X, self.layout, dtype=None)
        if x.shape[2] != self.n_features_in_:
            raise ValueError(f"X must have {self.n_features_in_} inputs as in fit, got {x.shape[2]}")
        return x

    def _tensors(self) -> list[Tensor]:
        return [torch.from_numpy(weight) for weight in self.weights_]
