"""Accuracy of a true forward pass: hard spikes, whole delays, no relaxation."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bregma.data import FrameDataset, collate, load
from bregma.nn import Record
from bregma.nn.activity import evaluating
from bregma.nn.delrec import DelRec
from bregma.runs.delays import for_inference
from bregma.runs.folder import Config
from bregma.sparsity import SynOps


@dataclass(frozen=True)
class Evaluation:
    """What a network does on a data set: share of right answers, mean loss, spikes per neuron and step.

    ``firing_rates`` has a rate per spiking layer, ``firing_rate`` is that of all neurons together; ``synops`` are the
    synaptic operations per sample, see `bregma.sparsity.SynOps`.
    """

    accuracy: float
    loss: float
    firing_rate: float
    firing_rates: dict[str, float]
    synops: float


def unseen(config: Config, data: str | None = None, root: Path | None = None) -> FrameDataset:
    """The test part of a run's data, cut as the run did, or of other data with the same frames and classes.

    Raises:
        FileNotFoundError: the data are not there.
        ValueError: they do not fit the network.
    """
    own = config.experiment
    name = data or own.data
    try:
        splits = load(name, root=root, steps=config.steps, seed=own.seed, validation=own.validation)
    except ValueError as error:
        if not (data and str(error).startswith("steps")):
            raise
        steps = f"the network takes {config.steps} steps, which {name} cannot have"  # nobody named them
        raise ValueError(f"data: {steps} ({error})") from error
    config.require_fit(splits.test, name)
    return splits.test


@torch.no_grad()
def evaluate(net: nn.Module, dataset: FrameDataset, batch_size: int = 256, *, inference: bool = True) -> Evaluation:
    """Run ``net`` over the whole of ``dataset``.

    Args:
        net: maps frames (T, B, ...) to logits (B, classes).
        dataset: samples and labels.
        batch_size: samples at once; the result does not depend on it beyond rounding.
        inference: learned delays are rounded and their spread left out, on a copy; otherwise they stay as in training.

    Returns:
        Means over all samples.
    """
    net = for_inference(net) if inference else net
    right = loss = rate = operations = 0.0
    rates: dict[str, float] = {}
    for x, labels in DataLoader(dataset, batch_size=batch_size, collate_fn=collate, generator=torch.Generator()):
        with evaluating(net), Record(net) as record, SynOps(net) as ops:
            logits = net(x)
        share = len(labels) / len(dataset)
        right += (logits.argmax(1) == labels).sum().item()
        loss += F.cross_entropy(logits, labels).item() * share
        rate += record.firing_rate() * share
        operations += ops.total / len(dataset)
        for name, own in record.firing_rates().items():
            rates[name] = rates.get(name, 0.0) + own * share
    return Evaluation(right / len(dataset), loss, rate, rates, operations)


def with_spread(net: nn.Module, dataset: FrameDataset, part: str) -> dict[str, Any]:
    """Loss and accuracy of a network with delays as it is trained, by name; nothing for one without."""
    if not isinstance(net, DelRec):
        return {}
    result = evaluate(net, dataset, inference=False)
    return {f"{part}_loss_with_spread": result.loss, f"{part}_accuracy_with_spread": result.accuracy}


@torch.no_grad()
def sample_activity(net: nn.Module, dataset: FrameDataset, samples: int = 6) -> dict[str, Tensor]:
    """Run the first sample of each of some classes and keep all that happens, for the figures.

    Returns:
        ``input`` (S, T, features), ``label`` and ``prediction`` (S,), ``spikes/<layer>`` (S, T, n) as bytes, and
        ``scores`` (S, T, classes).
    """
    net = for_inference(net)
    labels = dataset.labels
    rows = [int((labels == label).nonzero()[0]) for label in labels.unique()[:samples]]
    x, label = dataset.__getitems__(rows)
    with evaluating(net), Record(net) as record:
        logits = net(x)
    (scores,) = record.scores.values()
    return {
        "input": x.flatten(2).transpose(0, 1).contiguous(),
        "label": label,
        "prediction": logits.argmax(1),
        "scores": scores.transpose(0, 1).contiguous(),
        **{
            f"spikes/{name}": spikes.transpose(0, 1).to(torch.uint8).contiguous()
            for name, spikes in record.spikes.items()
        },
    }
