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
from bregma.admm.arguments import Parameters
from bregma.admm.checks import as_classes, as_codes, as_frames, whole
from bregma.admm.consistent import ConsistentADMM
from bregma.admm.fitting import Data, History, Trained, run
from bregma.admm.paper import PaperTraining
from bregma.admm.parameters import EstimatorParameters
from bregma.admm.running import Running, fit_together
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
            `bregma.admm.Recurrent` or `bregma.admm.Delayed`. Default: (512,).
        solver: ``"consistent"`` or ``"paper"``. Each refuses the arguments of the other. Default: "consistent".
        frame_shape: (channels, height, width) that the inputs flatten, if the first layer is a convolution.
            Default: None.
        iterations: of the solver. Default: None, for as many as 10 epochs take; with the paper's solver for 1,000.
        decay: what is left of a membrane after one step, in [0, 1]. Default: 0.95.
        threshold: firing threshold, > 0. Default: 1.
        loss: ``"squared_error"``, ``"squared_hinge"`` or ``"cross_entropy"``. Default: "squared_error".
        ridge: regularisation of the weights, relative to the mean diagonal of the Gram matrix of what a layer hears.
            Default: None, for 10; with the paper's solver for 1e-6, relative to the number of samples times steps.
        coding: what the readout of a squared error should be for the other classes and for the class of a sample.
            Default: (0, 1).
        layout: axes of X: ``"time-major"`` (T, B, n), or ``"batch-major"`` (B, T, n) as scikit-learn's
            cross-validation needs. Default: "time-major".
        measure_every: iterations between two entries of ``history_``. Default: None, for an epoch; with the paper's
            solver for 10.
        verbose: show a progress bar. Default: False.
        random_state: seed of the start and of random orders, an integer. Default: 0.
        batch_size: samples of an iteration of the consistent solver, as are the next six. If there are no more samples
            than that, each iteration takes the first of four steps that lowers the true loss. Default: None, for all
            of up to 2,000 samples, else 200.
        rule: ``"window"``, ``"dithered"``, ``"flips"`` or such an object (`bregma.admm.Window` ...): where membranes
            should go. Default: "window".
        readout: membrane of the readout at the ``"last"`` step, or its ``"mean"`` over time. Default: "last".
        step: by how much of their norm hidden weights move in an iteration, > 0. Default: None, for 0.3 with all
            samples at once, else for 0.05, falling to zero over the iterations of `fit`.
        readout_ridge: regularisation of the readout, > 0. Default: 0.01.
        class_weight: None, ``"balanced"`` or a dict of weights >= 0 by class. Default: None, for 1.
        density: share of all weights that may differ from zero, in (0, 1]: the hidden layers have exactly what a whole
            readout leaves, of which only the weights of silent neurons are zero. On mini-batches it falls over the
            first half of the iterations of `fit`, with all samples at once and in a stream it holds from the start.
            Default: None, for all.
        warming: iterations before the multiplier moves. Paper's solver, as all that follow. Default: 300.
        rho: weight of the dynamics, > 0. Default: 1.
        sigma: weight of the agreement between spikes and membranes, > 0. Default: 0.1.
        epsilon: see `Constants`. Default: 1e-3.
        order: ``"random"``, ``"paper"`` or ``"red-black"``, see `Settings`. Default: "random".
        spike_update: ``"clip"`` or ``"exact"``, see `Settings`, as for the next five. Default: "clip".
        relaxation: of the spikes, in (0, 2). Default: 1.
        multipliers: ``"readout"`` or ``"all"``. Default: "readout".
        readout_update: ``"sweep"`` or ``"exact"``. Default: "sweep".
        penalties: ``"fixed"``, ``"balanced"`` or ``"growing"``. Default: "fixed".
        anderson: memory. Default: 0, for none.
        init: membranes and spikes start ``"uniform"`` in [0, 1), or as the true ``"forward"`` pass of random weights.
            Default: "uniform".

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

    _running: Running | None

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
            y: labels of any dtype (B,); numbers must be whole.
            validation: frames and labels to measure true accuracy on; nothing is chosen by them.
            checkpoint: file that the run is saved to. If it exists, the run goes on from it, and its result equals
                that of an uninterrupted one bit by bit.
            checkpoint_every: iterations between two saves.

        Returns:
            The estimator; it is as it was before if an error is raised.

        Raises:
            TypeError: a parameter of a wrong type.
            ValueError: a parameter, shape or label that is not allowed, a parameter that only the other solver takes;
                a checkpoint of another run.
            MemoryError: membranes and spikes would not fit.
        """
        p = self._parameters()
        save_every = whole("checkpoint_every", checkpoint_every, least=1)
        classes = as_classes("y", y)
        train, data = self._data(X, y, classes), {}
        inputs, samples = train[0].shape[2], train[0].shape[1]
        measured = _MEASURED if p["solver"] == "consistent" else samples
        data["train"] = train[0][:, :measured], train[1][:measured]
        if validation is not None:
            pair = _pair(validation)
            try:
                data["validation"] = self._data(*pair, classes, inputs)
            except (TypeError, ValueError) as error:
                raise type(error)(f"validation: {error}") from error
        solver: ConsistentTraining | PaperTraining
        if p["solver"] == "consistent":
            solver = building.consistent_training(p, train, classes)
        else:
            solver = building.paper_training(p, train, classes, saved=checkpoint is not None)
        history: History = []
        save = None
        if checkpoint is not None:
            path = Path(checkpoint)
            of = checkpoints.identity(building.lasting(p, samples), classes.tolist(), *train)
            if path.exists():
                history = checkpoints.load(path, of, solver)
            save = partial(checkpoints.save, path, of, solver, history)
        iterations, measure_every = building.iterations_of(p, samples)
        run(
            solver,
            history,
            data,
            iterations=iterations,
            measure_every=measure_every,
            save=save,
            save_every=save_every,
            verbose=self.verbose,
        )
        going_on = solver.solver if isinstance(solver, ConsistentTraining) else solver
        self._keep(solver, classes, inputs, history, Running.of(p, going_on, train))
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> ADMMClassifier:
        """One more iteration.

        With the consistent solver these samples are a mini-batch of a stream: nothing of them is kept but running
        statistics, which start anew after a copy or a pickle of the estimator.

        With the paper's solver, a call on the data of the call before goes on with their membranes and spikes. On other
        data, these start as the true forward pass of the weights learnt so far.

        If parameters have changed since the last call, or since `fit`, the weights learnt so far are gone on with, but
        statistics, membranes and spikes start anew; only ``step``, ``batch_size``, ``iterations``, ``layout`` and what
        is shown may change without that. If these weights do not fit the layers that are now asked for, the network
        starts anew.

        Args:
            X: spikes, as for `fit`.
            y: labels (B,).
            classes: all labels that will ever come; needed if the first ``y`` lacks one of them. Later calls may
                leave it out.

        Returns:
            The estimator; if it is refused, as it was before.

        Raises:
            TypeError: as `fit`.
            ValueError: as `fit`; X of another width; other classes than those of the first call;
                ``class_weight="balanced"``, for which all labels must be known.
            MemoryError: as `fit`.
        """
        p, first = self._parameters(), not hasattr(self, "weights_")
        if p["class_weight"] == "balanced":
            raise ValueError("class_weight must be None or a dict in partial_fit, got 'balanced'")
        named = None if classes is None else as_classes("classes", classes)
        known = (as_classes("y", y) if named is None else named) if first else self.classes_
        if not first and named is not None and not np.array_equal(named, known):
            raise ValueError(f"classes must be those of the first call, {known.tolist()}, got {list(classes)}")
        train = self._data(X, y, known, None if first else self.n_features_in_)
        running = getattr(self, "_running", None)
        if running is None or not running.goes_on(p, train):
            weights, iteration = (None, 0) if first else (self._tensors(), self.n_iter_)
            running = Running.start(p, train, known, weights, iteration)
        history = self.history_ if running.solver.iteration else []
        step = running.next(p, train, known)
        self._running = None  # an iteration that fails midway leaves nothing to go on with but the weights
        step()
        self._keep(running.solver, known, train[0].shape[2], history, running)
        return self

    def decision_function(self, X: Any) -> NDArray[np.float32]:
        """Scores of a true forward pass: (B, classes), or for two classes that of the second over the first (B,).

        Raises:
            ValueError: X of another width, or layers of other shapes, than in `fit`.
        """
        check_is_fitted(self, "weights_")
        p, weights = self._parameters(), self._tensors()
        if not fit_together(p, self.n_features_in_, weights):
            found = [tuple(weight.shape) for weight in weights]
            raise ValueError(f"hidden must be as in fit, which learnt weights of shapes {found}, got {p['hidden']}")
        x = self._frames(X, self.n_features_in_)
        scores = building.scores(p, x, weights).numpy()
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: Any) -> NDArray[Any]:
        """Labels of the largest scores (B,)."""
        scores = self.decision_function(X)
        best = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(1)
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def _parameters(self) -> Parameters:
        return building.checked(self.get_params(deep=False))

    def _data(self, X: Any, y: Any, classes: NDArray[Any], inputs: int | None = None) -> Data:
        """Frames and label codes, checked; the estimator stays as it is."""
        if len(classes) < 2:
            raise ValueError(f"y must hold at least two classes, got {classes.tolist()}")
        x = self._frames(X, inputs)
        return x, as_codes(y, x.shape[1], classes)

    def _keep(
        self,
        solver: Trained | ConsistentADMM,
        classes: NDArray[Any],
        inputs: int,
        history: History,
        running: Running,
    ) -> None:
        """Take over all that was learnt, once nothing can fail any more."""
        weights = [weight.numpy().copy() for weight in solver.weights]
        self.classes_, self.n_features_in_, self.history_ = classes, inputs, history
        self.weights_, self.n_iter_, self._running = weights, solver.iteration, running

    def __sklearn_tags__(self) -> Any:
        """X has three axes."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """State without data, and what a solver knows besides the weights."""
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_running"}

    def _frames(self, X: Any, inputs: int | None) -> Tensor:
        x = as_frames(X, self.layout, dtype=None)
        if inputs is not None and x.shape[2] != inputs:
            raise ValueError(f"X must have {inputs} inputs as in fit, got {x.shape[2]}")
        return x

    def _tensors(self) -> list[Tensor]:
        return [torch.from_numpy(weight) for weight in self.weights_]


def _pair(validation: Any) -> tuple[Any, Any]:
    if not isinstance(validation, tuple | list) or len(validation) != 2:
        came = f"{type(validation).__name__}" + (f" of {len(validation)}" if hasattr(validation, "__len__") else "")
        raise ValueError(f"validation must be a pair (frames, labels), got {came}")
    return validation[0], validation[1]
