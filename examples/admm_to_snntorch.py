"""A network trained by ADMM, without backpropagation, that then runs in snnTorch.

python examples/admm_to_snntorch.py
"""

import torch

from bregma.admm import ConsistentADMM
from bregma.data import collate, load
from bregma.interop.snntorch import run, to_snntorch


def main(epochs: int = 10) -> dict[str, float]:
    """Train on the digits; accuracy here and in snnTorch on test digits, and how often both say the same."""
    torch.manual_seed(0)
    data = load("digits", steps=10)
    solver = ConsistentADMM((128,), inputs=800, classes=10)
    for _ in range(epochs):
        for x, labels in torch.utils.data.DataLoader(data.train, 128, shuffle=True, collate_fn=collate):
            solver.step(x.flatten(2), torch.eye(10)[labels])

    x, labels = data.test.__getitems__(list(range(len(data.test))))
    ours = solver.scores(x.flatten(2)).argmax(1)
    net = to_snntorch(solver)  # Linear, Leaky, Linear, Leaky: see print(net)
    with torch.no_grad():
        _, membranes = run(net, x)
    theirs = membranes[-1].argmax(1)
    return {
        "accuracy": (ours == labels).float().mean().item(),
        "accuracy in snnTorch": (theirs == labels).float().mean().item(),
        "agreement": (ours == theirs).float().mean().item(),
    }


if __name__ == "__main__":
    print(main())
