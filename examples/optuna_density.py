"""Which density and learning rate? A sweep with Optuna that chooses on the validation part.

python examples/optuna_density.py
"""

import optuna
import torch
import torch.nn.functional as F

import bregma
from bregma.data import Splits, collate, load
from bregma.nn import SpikingMLP
from bregma.runs.evaluate import evaluate


def train(data: Splits, density: float, lr: float, epochs: int) -> SpikingMLP:
    """A network with exactly this share of its connections."""
    torch.manual_seed(0)
    net = SpikingMLP(800, hidden=(64,), classes=10, gain=3.0)
    optimizer = torch.optim.Adam(bregma.param_groups(net, lam=0.0), lr=lr)
    loader = torch.utils.data.DataLoader(data.train, 32, shuffle=True, collate_fn=collate)
    bregma.TargetDensity(optimizer, density, epochs * len(loader))
    for _ in range(epochs):
        for x, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(net(x), labels).backward()
            optimizer.step()
    return net


def main(trials: int = 4, epochs: int = 2) -> dict[str, float]:
    """Trade validation accuracy against density; the most accurate network is tested once."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    data = load("digits", steps=10)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        density = trial.suggest_float("density", 0.02, 0.5, log=True)
        lr = trial.suggest_float("lr", 3e-3, 3e-2, log=True)
        return evaluate(train(data, density, lr, epochs), data.validation).accuracy, density

    sampler = optuna.samplers.TPESampler(seed=0)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.optimize(objective, n_trials=trials)
    best = max(study.best_trials, key=lambda trial: trial.values[0])
    net = train(data, **best.params, epochs=epochs)
    return {"accuracy": evaluate(net, data.test).accuracy, "density": bregma.density(net), **best.params}


if __name__ == "__main__":
    print(main())
