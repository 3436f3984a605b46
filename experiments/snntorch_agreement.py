"""Do float32 networks spike alike here and in snnTorch? Trained on the digits, counted on all test digits.

python experiments/snntorch_agreement.py    # under a minute; writes results/snntorch_agreement.json
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import bregma
from bregma.data import Splits, collate, load
from bregma.files import write_text
from bregma.interop.snntorch import run, to_snntorch
from bregma.nn import Record, SpikingMLP

RESULTS = Path(__file__).parent / "results" / "snntorch_agreement.json"
SETTINGS = {"hidden": 256, "gain": 3.0, "lam": 0.3, "lr": 5e-3, "init": "sparse", "epochs": 3, "batch_size": 32}


def trained(data: Splits, recurrent: bool, seed: int) -> SpikingMLP:
    torch.manual_seed(seed)
    net = SpikingMLP(800, hidden=(SETTINGS["hidden"],), classes=10, gain=SETTINGS["gain"], recurrent=recurrent)
    groups = bregma.param_groups(net, lam=SETTINGS["lam"])
    optimizer = bregma.AdaBreg(groups, lr=SETTINGS["lr"], init=SETTINGS["init"], seed=seed)
    for _ in range(SETTINGS["epochs"]):
        for x, labels in torch.utils.data.DataLoader(
            data.train, SETTINGS["batch_size"], shuffle=True, collate_fn=collate
        ):
            optimizer.zero_grad()
            F.cross_entropy(net(x), labels).backward()
            optimizer.step()
    return net


@torch.no_grad()
def compared(net: SpikingMLP, x: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    peer, train = to_snntorch(net), []
    neurons: nn.Module = peer.get_submodule("hidden_0_neurons")
    neurons.register_forward_hook(lambda module, inputs, output: train.append(output))
    with Record(net) as record:
        scores = net(x)
    membranes = run(peer, x)[1].mean(0)
    ours, theirs = record.spikes["hidden.0.neurons"], torch.stack(train)
    return {
        "neuron_steps": ours.numel(),
        "spikes": int(ours.sum()),
        "different": int((ours != theirs).sum()),
        "largest_score_difference": (scores - membranes).abs().max().item(),
        "same_class": (scores.argmax(1) == membranes.argmax(1)).float().mean().item(),
        "test_accuracy": (scores.argmax(1) == labels).float().mean().item(),
    }


def main() -> None:
    torch.set_num_threads(1)
    data = load("digits")
    x, labels = data.test.__getitems__(list(range(len(data.test))))
    rows = []
    for recurrent in (False, True):
        for seed in range(3):
            row = compared(trained(data, recurrent, seed), x, labels)
            rows.append({**SETTINGS, "recurrent": recurrent, "seed": seed, "torch": torch.__version__, **row})
            print(rows[-1], flush=True)
    write_text(RESULTS, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
