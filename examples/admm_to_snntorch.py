"""A network trained by ADMM, without a gradient, that then runs in snnTorch.

python examples/admm_to_snntorch.py
"""

import torch

from bregma import ADMMClassifier
from bregma.data import load
from bregma.interop.snntorch import run, to_snntorch


def main(iterations: int = 10) -> dict[str, float]:
    """Train on the digits; accuracy here and in snnTorch on test digits, and how often both say the same."""
    data = load("digits", steps=10)
    x, labels = data.train.__getitems__(list(range(len(data.train))))
    model = ADMMClassifier(hidden=(256,), iterations=iterations, warming=10, sigma=1e-4, init="forward")
    model.fit(x.flatten(2), labels.numpy())

    x, labels = data.test.__getitems__(list(range(len(data.test))))
    ours = torch.from_numpy(model.predict(x.flatten(2)))
    net = to_snntorch(model)  # Linear, Leaky, Linear, Leaky: see print(net)
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
