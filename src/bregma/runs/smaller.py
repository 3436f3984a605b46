"""A finished run as a smaller network: its files, and what was there before and is there after."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bregma.data import FrameDataset, collate
from bregma.files import write_text
from bregma.runs.build import build_network, load_best, with_carried
from bregma.runs.delays import for_inference
from bregma.runs.folder import RunFolder
from bregma.sparsity import SparseNetwork, SynOps, compact, compress

COMPACT, SPARSE, FIGURES = "compact.safetensors", "sparse.safetensors", "compact.json"


def compact_run(folder: RunFolder, dataset: FrameDataset, out: Path) -> dict[str, Any]:
    """Write the smaller network of a run and what it saves.

    Args:
        folder: the run.
        dataset: samples that the networks are compared on, all of them.
        out: folder to write to: ``compact.safetensors``, weights of the smaller network; ``sparse.safetensors``, the
            same for `bregma.SparseNetwork.load`; ``compact.json``, the figures.

    Returns:
        What ``compact.json`` holds.

    Raises:
        ValueError: the smaller network answers differently, which rounding alone can bring about; nothing is written.
    """
    net = build_network(folder.config())
    load_best(net, folder, dataset)
    net = for_inference(net).eval()
    small = compact(net)
    sparse = compress(small)
    before, operations = _answers(net, dataset)
    after, operations_after = _answers(small, dataset)
    compressed, _ = _answers(sparse, dataset)
    changed = max(int((answer != before).sum()) for answer in (after, compressed))
    if changed:
        raise ValueError(
            f"{folder.path}: the smaller network answers differently on {changed} of {len(before)} samples"
        )
    accuracy = float((before == dataset.labels).double().mean())
    out.mkdir(parents=True, exist_ok=True)
    RunFolder(out).write_tensors("compact", with_carried(small, dataset))
    sparse.save(out / SPARSE)
    figures = {
        "run": str(folder.path),
        "test_accuracy": {"before": accuracy, "after": float((compressed == dataset.labels).double().mean())},
        "samples": len(before),
        "layers": _layers(net, small, operations, operations_after),
        "bytes": {
            "best.safetensors": (folder.path / "best.safetensors").stat().st_size,
            **{name: (out / name).stat().st_size for name in (COMPACT, SPARSE)},
        },
    }
    write_text(out / FIGURES, json.dumps(figures, indent=2) + "\n")
    return figures


@torch.no_grad()
def _answers(
    net: nn.Module | SparseNetwork, dataset: FrameDataset, batch_size: int = 256
) -> tuple[Tensor, dict[str, float]]:
    """The class that the network gives each sample, and its synaptic operations per sample (none if compressed)."""
    answers, loader = [], DataLoader(dataset, batch_size, collate_fn=collate, generator=torch.Generator())
    run: Callable[[Tensor], Tensor] = net.eval() if isinstance(net, nn.Module) else net
    counted = SynOps(net) if isinstance(net, nn.Module) else contextlib.nullcontext()
    with counted as ops:
        for x, _ in loader:
            answers.append(run(x).argmax(1))
    operations = {} if ops is None else {name: count / len(dataset) for name, count in ops.by_weight.items()}
    return torch.cat(answers), operations


def _layers(
    net: nn.Module, small: nn.Module, operations: dict[str, float], operations_after: dict[str, float]
) -> list[dict[str, Any]]:
    """Per weight tensor: neurons that it leads to, entries, connections, and operations per sample."""
    weights = {name: (p, small.get_parameter(name)) for name, p in net.named_parameters() if name in operations}
    return [
        {
            "weight": name,
            "neurons": {"before": len(old), "after": len(new)},
            "entries": {"before": old.numel(), "after": new.numel()},
            "connections": {"before": int(old.count_nonzero()), "after": int(new.count_nonzero())},
            "operations": {"before": round(operations[name], 1), "after": round(operations_after[name], 1)},
        }
        for name, (old, new) in weights.items()
    ]


def table(figures: dict[str, Any]) -> Table:
    """The figures of `compact_run` for a person; operations are synaptic ones per sample."""
    shown = Table(box=None, pad_edge=False, header_style="bold", show_footer=True)
    shown.add_column("weight", footer="all")
    for quantity in ("neurons", "entries", "connections", "operations"):
        rows = [row[quantity] for row in figures["layers"] if quantity != "neurons" or _from_outside(row)]
        total = {when: sum(row[when] for row in rows) for when in ("before", "after")}
        shown.add_column(quantity, justify="right", footer=_change(total))
    for row in figures["layers"]:
        cells = [_change(row[quantity]) for quantity in ("neurons", "entries", "connections", "operations")]
        shown.add_row(row["weight"].removesuffix(".weight"), *cells)
    return shown


def _change(value: dict[str, float]) -> str:
    return f"{value['before']:,.0f} -> {value['after']:,.0f}"


def _from_outside(row: dict[str, Any]) -> bool:
    """Whether the weight comes from another layer: a layer's neurons count once."""
    return not row["weight"].endswith("recurrent.weight")
