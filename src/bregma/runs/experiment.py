"""One experiment: what is trained on what, and how. A run is repeated from these fields and the seed alone."""

import dataclasses
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from bregma.runs.admm_settings import ADMMSettings, SolverName
from bregma.runs.recommended import recommended
from bregma.runs.uses import Kind

Method = Literal["adabreg", "adam", "adamw", "linbreg", "proxsgd", "admm", "gmp", "gmp-metric", "rigl", "set"]
Schedule = Literal["cosine", "onecycle", "constant"]
Cost = Literal["none", "synops"]
Init = Literal["anchored", "shrink", "sparse"]
Network = Literal["mlp", "delrec_shd", "delrec_ssc", "delrec_psmnist"]
Rounding = Literal["evaluation", "training"]
METHODS: tuple[Method, ...] = get_args(Method)
#: Those that thin a network out along Adam's steps, and so do nothing without a density.
PRUNING: tuple[Method, ...] = ("gmp", "gmp-metric", "rigl", "set")
#: Those that bring a network to a density that is named.
DENSITY_METHODS: tuple[Method, ...] = ("adabreg", *PRUNING)
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
#: Settings that each run of a sweep has its own of, or that a density leaves without effect.
SWEPT = ("method", "density", "lr", "lam", "penalty", "init", "init_density")

_MOST = sys.float_info.max  # an integer may be larger
_POSITIVE = (lambda value: 0 < value <= _MOST, "a finite number > 0")
_NOT_NEGATIVE = (lambda value: 0 <= value <= _MOST, ">= 0 and finite")
_COUNT = (lambda value: value >= 1, ">= 1")
_MOST_THREADS = 1024  # many thousand make torch crash
_SHARE = (lambda value: 0 <= value <= 1, "in [0, 1]")

#: The methods that take a structure, a cost or an L1 norm beside it; all need a density.
STRUCTURED: dict[str, tuple[Method, ...]] = {
    "structure": ("adabreg", "gmp", "gmp-metric"),
    "cost": ("adabreg",),
    "l1": ("adabreg",),
}
#: Settings of a sweep that a run without a density would refuse.
WITH_DENSITY = (*STRUCTURED, "weight_decay")

#: What each field may be: a test, and how to say it.
_ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "data": (bool, "the name of a data set or a path"),
    "method": (lambda value: value in METHODS, f"one of {', '.join(METHODS)}"),
    "schedule": (lambda value: value in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
    "init": (lambda value: value in get_args(Init), f"one of {', '.join(get_args(Init))}"),
    "init_density": (lambda value: 0 < value <= 1, "in (0, 1]"),
    "network": (lambda value: value in get_args(Network), f"one of {', '.join(get_args(Network))}"),
    "rounding": (lambda value: value in get_args(Rounding), f"one of {', '.join(get_args(Rounding))}"),
    "delay_schedule": (lambda value: value in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
    "delay_lr": _POSITIVE,
    "weight_decay": _NOT_NEGATIVE,
    "validation": (lambda value: 0 < value < 1, "in (0, 1)"),
    "density": (lambda value: 0 <= value <= 1, "in [0, 1], 0 for none"),
    "structure": (
        lambda value: re.fullmatch(r"weights|neurons|[1-9]\d*:[1-9]\d*", value) is not None,
        "weights, neurons, or n:m as in 2:4",
    ),
    "cost": (lambda value: value in get_args(Cost), f"one of {', '.join(get_args(Cost))}"),
    "l1": _NOT_NEGATIVE,
    "lam": _NOT_NEGATIVE,
    "shift": _NOT_NEGATIVE,
    "lr": _POSITIVE,
    "clip": (lambda value: 0 <= value <= _MOST, ">= 0 and finite, 0 for none"),
    "gain": _POSITIVE,
    "epochs": _COUNT,
    "threads": (lambda value: 1 <= value <= _MOST_THREADS, f"in [1, {_MOST_THREADS}]"),
    "batch_size": _COUNT,
    "hidden": (lambda value: len(value) > 0 and min(value) >= 1, "one or more sizes, each >= 1"),
    "decay": _SHARE,
    "readout_decay": _SHARE,
    "steps": _NOT_NEGATIVE,
    "seed": (lambda value: 0 <= value < 2**32, ">= 0 and < 2**32"),
}


@dataclass(frozen=True)
class Experiment:
    """Everything that decides a run; written to ``config.toml``. What a run does not look at stays at its default.

    Args:
        data: digits, mnist, psmnist, nmnist, shd, ssc, or the path of a file or folder in the layout of one of them.
        method: optimizer; or admm, which takes no gradients and no other settings than data, hidden, decay, steps,
            threads, seed, validation, its own, and, unless its solver is the paper's, density and recurrent. adam and
            adamw have no penalty, but weight decay: adam adds it to the gradient, adamw shrinks the weights. gmp,
            gmp-metric (gradual magnitude pruning, the second by adabreg's score), rigl and set take the steps of adam
            and need a density; they are what adabreg is compared with.
        density: share of the connections to be left, in (0, 1]: adabreg then trains from a dense start to exactly that
            share and chooses lam itself, and takes no penalty and no init; admm keeps the readout whole. 0: what lam
            makes of it.
        structure: what stays or goes as a whole where a density is named. weights: every connection for itself;
            neurons: hidden neurons, density being the share of them; 2:4 or any n:m: at most n of each m consecutive
            inputs.
        cost: what a connection costs where a density is named. none: all the same; synops: those of busy neurons more.
        l1: strength of an L1 norm of the weights in the loss where adabreg trains to a density, until the connections
            are chosen; 3e-5 or 1e-4 is worth a try where the network is large for the data.
        lam: strength of the penalty of adabreg, linbreg and proxsgd: a weight is zero while its dual variable lies in
            [-lam, lam].
        penalty: their penalty on the weight matrices: l1, nonneg_l1, elastic_net, group_l1:rows, group_l1:columns,
            nuclear, none.
        init: how adabreg and linbreg start. anchored: dense; shrink: dense, shrunk by lam at the first step; sparse: a
            random part of the connections.
        init_density: share of the connections that a sparse start keeps.
        lr: learning rate; with a schedule, the highest.
        schedule: course of the learning rate over all steps. cosine: down to a thousandth; onecycle: up, then down;
            constant.
        epochs: passes over the training samples.
        batch_size: samples per step.
        shift: training images move by up to this many pixels each way, anew in every epoch; only for images.
        clip: largest norm of the gradient; 0 for none.
        network: mlp, or one of DelRec (arXiv 2509.24852), with learned delays: delrec_shd, delrec_ssc, delrec_psmnist;
            these take their sizes from hidden and bring their own recurrent, decay, readout_decay and gain.
        hidden: neurons of each hidden layer.
        recurrent: hidden neurons also hear their own layer.
        decay: what a hidden neuron keeps of its membrane from one time step to the next, in [0, 1]; with admm the
            readout too.
        readout_decay: the same for the readout.
        gain: scale of the first weights; higher makes more spikes.
        steps: time steps per sample; 0 for what the data set recommends.
        threads: of the processor, part of what makes a run repeatable; one is fastest for small networks.
        seed: of the first weights, the order of samples, and the cut into training and validation.
        validation: share of the training part that is cut off for validation where the data have no such part.
        weight_decay: of the weight matrices, for adam, adamw and all methods with a density, which are on Adam.
        delay_lr: learning rate of learned delays and their spread.
        delay_schedule: its course.
        rounding: learned delays are whole for evaluation alone, on a copy; or, as in DelRec's published code, in place
            after each epoch of training.
        admm: settings of the method admm.
    """

    data: str = "digits"
    method: Method = "adabreg"
    density: float = 0.0
    structure: str = "weights"
    cost: Cost = "none"
    l1: float = 0.0
    lam: float = 0.3
    penalty: str = "l1"
    init: Init = "sparse"
    init_density: float = 0.1
    lr: float = 5e-3
    schedule: Schedule = "onecycle"
    epochs: int = 30
    batch_size: int = 32
    shift: int = 0
    clip: float = 1.0
    network: Network = "mlp"
    hidden: tuple[int, ...] = (256,)
    recurrent: bool = False
    decay: float = 0.9
    readout_decay: float = 0.9
    gain: float = 3.0
    steps: int = 0
    threads: int = 1
    seed: int = 0
    validation: float = 0.1
    weight_decay: float = 0.0
    delay_lr: float = 5e-2
    delay_schedule: Schedule = "onecycle"
    rounding: Rounding = "evaluation"
    admm: ADMMSettings = ADMMSettings()  # noqa: RUF009  (frozen, no state)

    def __post_init__(self) -> None:
        from bregma import prox  # imports torch: late, so that the command line can catch an interrupt meanwhile
        from bregma.nn.delrec import ARCHITECTURES

        for field in dataclasses.fields(self):
            _check_type(field.name, getattr(self, field.name), field.default)
        for field in dataclasses.fields(self.admm):
            _check_type(f"admm.{field.name}", getattr(self.admm, field.name), field.default)
        if prox.get(self.penalty).min_ndim > 2:
            raise ValueError(f"penalty must be one for matrices, got {self.penalty!r}, which is for convolutions")
        for name, (inside, allowed) in _ALLOWED.items():
            value = getattr(self, name)
            if not inside(value):
                raise ValueError(f"{name} must be {allowed}, got {value!r}")
        if self.density and self.method not in (*DENSITY_METHODS, "admm"):
            raise ValueError(f"density needs one of the methods {', '.join(DENSITY_METHODS)}, admm, got {self.method}")
        if not self.density and self.method in PRUNING:
            raise ValueError(f"density must be in (0, 1] for the method {self.method}, got {self.density}")
        if self.network != "mlp":
            wanted = len(ARCHITECTURES[self.network.removeprefix("delrec_")].hidden)
            if len(self.hidden) != wanted:
                raise ValueError(f"hidden must be {wanted} sizes for the network {self.network}, got {self.hidden}")
        self._check_structure()
        self._refuse_unused()
        self.admm.check()

    def _check_structure(self) -> None:
        """Raise if a structure, a cost or an L1 norm is named that would do nothing."""
        for name, methods in STRUCTURED.items():
            value = getattr(self, name)
            if value == getattr(type(self), name):
                continue
            if not self.density:
                raise ValueError(f"{name} needs a density, got {value!r} without one")
            if self.method not in methods:
                raise ValueError(f"{name} needs one of the methods {', '.join(methods)}, got {self.method}")

    def _refuse_unused(self) -> None:
        """Raise if a field that the run does not look at was changed: it would do nothing."""
        changed = [name for name in _changed(self) if name != "admm"]
        self.refuse_unused(changed + [f"admm.{name}" for name in _changed(self.admm)])

    def refuse_unused(self, names: Sequence[str]) -> None:
        """Raise if the run does not look at one of these settings; ``admm.rho`` is one of a setting's own."""
        for name in names:
            field, _, own = name.partition(".")
            whom = self._kind().unused(field)
            if own and not whom and not self.admm.takes(own):
                whom = f"the solver {self.admm.solver}"
            if whom:
                value = getattr(self.admm, own) if own else getattr(self, field)
                raise ValueError(f"{name} has no meaning for {whom}, got {value!r}; leave it out")

    def takes(self, name: str) -> bool:
        """Whether a field is one of those that the run looks at."""
        return self._kind().unused(name) is None

    def _kind(self) -> Kind:
        return Kind(self.method, self.density, self.network, self.init, self.admm.solver)

    def to_dict(self) -> dict[str, Any]:
        """Plain values of the fields that the run looks at, as ``config.toml`` holds them."""
        values = dataclasses.asdict(self) | {"hidden": list(self.hidden), "admm": self.admm.to_dict()}
        return self._kind().used(values)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Experiment":
        """The inverse of `to_dict`; raises `ValueError` on a field it does not know.

        One without a meaning for the run is left out: folders of former versions hold them.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"experiment has no field {unknown[0]!r}; known are {', '.join(sorted(known))}")
        hidden, admm = values.get("hidden", cls.hidden), values.get("admm", cls.admm)
        nested = {
            "hidden": tuple(hidden) if isinstance(hidden, list) else hidden,
            "admm": ADMMSettings.from_dict(admm) if isinstance(admm, dict) else admm,
        }
        values = values | nested
        return cls(**Kind.of(values).used(values))


def _changed(settings: "Experiment | ADMMSettings") -> list[str]:
    """Names of the fields that are not at their defaults."""
    return [f.name for f in dataclasses.fields(settings) if getattr(settings, f.name) != f.default]


def _check_type(name: str, value: Any, default: Any) -> None:
    """Raise unless a setting is of the type of its default; a whole number is a number, a bool is none."""
    if isinstance(default, ADMMSettings):
        fits, wanted = isinstance(value, ADMMSettings), "an ADMMSettings"
    elif isinstance(default, tuple):
        fits = isinstance(value, tuple) and all(type(size) is int for size in value)
        wanted = "a tuple of integers"
    else:
        kinds = (float, int) if isinstance(default, float) else (type(default),)
        fits = isinstance(value, kinds) and isinstance(value, bool) == isinstance(default, bool)
        wanted = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}[type(default)]
    if not fits:
        raise TypeError(f"{name} must be {wanted}, got {value!r}")


def recipe(
    data: str = "digits", method: Method = "adabreg", solver: SolverName = "consistent", **given: Any
) -> Experiment:
    """The experiment for a data set and a method, its recommended settings overridden by what is given.

    Args:
        data: see `Experiment`.
        method: see `Experiment`.
        solver: of the method admm, unless ``admm`` is given.
        **given: fields of `Experiment`.

    Example:
        >>> recipe("mnist", epochs=2).epochs
        2
        >>> recipe("mnist", "linbreg").lr
        2.0
        >>> recipe("mnist", density=0.05).lr
        0.02
    """
    return Experiment(**{**recommended(data, method, solver, **given), **given})
