"""From the fields of an experiment to the objects that train: network, optimizer, schedule of the learning rate."""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bregma.data import FrameDataset
from bregma.dynamics import memory
from bregma.dynamics.checks import check_range
from bregma.nn import SpikingMLP
from bregma.nn.delrec import ARCHITECTURES, DelRec
from bregma.optim import AdaBreg, LinBreg, ProxSGD, TargetDensity, param_groups
from bregma.optim.baselines import SET, MagnitudePruning, RigL
from bregma.optim.sparsifier import Sparsifier
from bregma.runs.delays import delay_rates
from bregma.runs.experiment import STRUCTURED, Experiment
from bregma.runs.folder import Config, RunFolder


def build_network(config: Config) -> SpikingMLP | DelRec:
    """The network of a run, its weights drawn from torch's generator.

    Raises:
        MemoryError: its weights would not fit into memory.
    """
    experiment = config.experiment
    sizes = [math.prod(config.frame_shape), *experiment.hidden, len(config.classes)]
    weights = sum(math.prod(pair) for pair in itertools.pairwise(sizes))
    if experiment.recurrent or experiment.network != "mlp":
        weights += sum(size**2 for size in experiment.hidden)
    if torch.get_default_device().type == "cpu":
        memory.require(4 * weights, f"a network of {' x '.join(map(str, sizes))}", "name fewer neurons")
    if experiment.network != "mlp":
        published = ARCHITECTURES[experiment.network.removeprefix("delrec_")]
        inputs, classes = math.prod(config.frame_shape), len(config.classes)
        return DelRec(dataclasses.replace(published, inputs=inputs, hidden=experiment.hidden, classes=classes))
    return build_mlp(config)


def build_mlp(config: Config) -> SpikingMLP:
    """The network of a run that names no other, as its method wants it."""
    experiment = config.experiment
    if experiment.method == "admm":
        return SpikingMLP(
            math.prod(config.frame_shape),
            experiment.hidden,
            len(config.classes),
            recurrent=experiment.recurrent,
            decay=experiment.decay,
            readout_decay=experiment.decay,
            bias=False,
            readout=experiment.admm.readout,
        )
    return SpikingMLP(
        math.prod(config.frame_shape),
        experiment.hidden,
        len(config.classes),
        recurrent=experiment.recurrent,
        decay=experiment.decay,
        readout_decay=experiment.readout_decay,
        gain=experiment.gain,
    )


def build_optimizer(net: nn.Module, experiment: Experiment) -> torch.optim.Optimizer:
    """The optimizer of a run; weight matrices carry the penalty, biases do not, delays have their own learning rate."""
    if experiment.method == "admm":
        raise ValueError("method admm has no optimizer: it takes no gradients")
    lr, rates = experiment.lr, delay_rates(net, experiment.delay_lr)
    lam = experiment.lam if experiment.takes("lam") else 0.0
    groups = param_groups(net, lam=lam, penalty=experiment.penalty, rates=rates)
    for group in groups:
        if "lr" in group:
            group["schedule"] = experiment.delay_schedule
    if experiment.takes("weight_decay"):
        for group in groups:
            group["weight_decay"] = experiment.weight_decay if group["penalty"] != "none" else 0.0
        # With a density Adam moves the weights, or the dual: AdaBreg at lam = 0 is Adam with one more dual.
        return (torch.optim.AdamW if experiment.method == "adamw" else torch.optim.Adam)(groups, lr=lr)
    if experiment.method == "proxsgd":
        return ProxSGD(groups, lr=lr, momentum=0.9)
    dual: dict[str, Any] = {
        "init": experiment.init,
        "init_density": experiment.init_density,
        "seed": experiment.seed,
    }
    if experiment.method == "linbreg":
        return LinBreg(groups, lr=lr, momentum=0.9, **dual)
    return AdaBreg(groups, lr=lr, **dual)


def build_sparsifier(
    net: nn.Module, optimizer: torch.optim.Optimizer, experiment: Experiment, total: int
) -> Sparsifier | None:
    """What brings the network to the density of the experiment, if it names one."""
    density = experiment.density
    if not density:
        return None
    if experiment.method in ("gmp", "gmp-metric"):
        metric = "adam" if experiment.method == "gmp-metric" else "none"
        return MagnitudePruning(optimizer, density, total, metric=metric, structure=experiment.structure, net=net)
    if experiment.method in ("rigl", "set"):
        rewiring = RigL if experiment.method == "rigl" else SET
        return rewiring(optimizer, density, total, seed=experiment.seed)
    special = {name: getattr(experiment, name) for name in STRUCTURED}
    return TargetDensity(optimizer, density, total, net=net, **special)


def build_schedule(
    optimizer: torch.optim.Optimizer, experiment: Experiment, total: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Learning rate per step, as a factor of ``experiment.lr``, or of ``experiment.delay_lr`` for delays."""
    factors: dict[str, Callable[[float], float]] = {
        "constant": lambda done: 1.0,
        "cosine": _cosine,
        "onecycle": lambda done: _cosine(1 - done / 0.3) if done < 0.3 else _cosine((done - 0.3) / 0.7),
    }
    courses = [factors[group.get("schedule", experiment.schedule)] for group in optimizer.param_groups]
    return torch.optim.lr_scheduler.LambdaLR(optimizer, [_at_step(course, total) for course in courses])


def _at_step(course: Callable[[float], float], total: int) -> Callable[[int], float]:
    """A course over the share of the steps that is done, as one over steps."""
    return lambda step: course(min(step / total, 1.0))


def _cosine(done: float) -> float:
    """From one at ``done = 0`` to a thousandth at ``done = 1``."""
    return 0.001 + 0.999 * (1 + math.cos(math.pi * done)) / 2


def with_carried(net: nn.Module, dataset: FrameDataset) -> dict[str, Tensor]:
    """The weights of ``net`` and, as ``data/NAME``, what repeats its input, such as the order of PSMNIST's pixels."""
    return {**net.state_dict(), **{f"data/{name}": tensor for name, tensor in dataset.carried.items()}}


def load_weights(net: nn.Module, tensors: dict[str, Tensor], dataset: FrameDataset | None = None) -> None:
    """The inverse of `with_carried`; without a dataset, without a look at the data.

    Raises:
        ValueError: the weights do not fit the network, or the data come in another way than the network learned them.
    """
    weights = {name: tensor for name, tensor in tensors.items() if not name.startswith("data/")}
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"weights do not fit config.toml: {' '.join(str(error).split())}") from error
    if dataset is None:
        return
    for name, tensor in tensors.items():
        here = dataset.carried.get(name.removeprefix("data/"))
        if name.startswith("data/") and (here is None or not torch.equal(here, tensor)):
            raise ValueError(f"{name}: the network learned the data with another one; use the data set it was made for")


def load_best(net: nn.Module, folder: RunFolder, dataset: FrameDataset | None = None) -> None:
    """Put the weights of a run's best epoch in its network; see `load_weights`.

    Raises:
        FileNotFoundError: the run has not finished an epoch.
        ValueError: as `load_weights`, or a weight is not finite, or a decay or threshold is none; it names the file.
    """
    try:
        load_weights(net, folder.tensors("best"), dataset)
        for name, value in net.state_dict().items():
            if not value.isfinite().all():
                raise ValueError(f"{name} must be finite, got NaN or infinity")
            if name.endswith(".decay"):
                check_range("decay", value)
            elif name.endswith(".threshold"):
                check_range("threshold", value)
    except ValueError as error:
        path = folder.path / "best.safetensors"
        raise error if str(path) in str(error) else ValueError(f"{path}: {error}") from error
