"""The baselines on Adam, line by line in float64 NumPy, over a list of weight tensors; gradients are given.

Gradual magnitude pruning: M. Zhu, S. Gupta, arXiv 1710.01878, Eq. 1. STR: A. Kusupati et al., arXiv 2002.03231,
Eq. 3 to 6. One shot, L1 and proximal steps: from the words of their docstrings.
"""

import numpy as np

Tensors = list[np.ndarray]


class Adam:
    """Its equations, with a learning rate for each tensor."""

    def __init__(self, lrs: list[float], betas=(0.9, 0.999), eps=1e-8) -> None:
        self.lrs, self.betas, self.eps, self.t = lrs, betas, eps, 0
        self.m = [0.0] * len(lrs)
        self.s = [0.0] * len(lrs)

    def step(self, w: Tensors, g: Tensors) -> Tensors:
        b1, b2 = self.betas
        self.t += 1
        self.m = [b1 * m + (1 - b1) * x for m, x in zip(self.m, g, strict=True)]
        self.s = [b2 * s + (1 - b2) * x**2 for s, x in zip(self.s, g, strict=True)]
        steps = [m / (1 - b1**self.t) / (np.sqrt(s) + self.eps) for m, s in zip(self.m, self.second(), strict=True)]
        return [x - lr * d for x, lr, d in zip(w, self.lrs, steps, strict=True)]

    def second(self) -> Tensors:
        return [s / (1 - self.betas[1] ** self.t) for s in self.s]


def best(scores: Tensors, keep: int) -> Tensors:
    """Masks of the ``keep`` highest scores of all tensors, by a full sort."""
    flat = np.concatenate([q.ravel() for q in scores])
    mask = np.zeros(len(flat), bool)
    mask[np.argsort(-flat, kind="stable")[:keep]] = True
    ends = np.cumsum([q.size for q in scores])[:-1]
    return [part.reshape(q.shape) for part, q in zip(np.split(mask, ends), scores, strict=True)]


def cut(w: Tensors, mask: Tensors) -> Tensors:
    return [x * kept for x, kept in zip(w, mask, strict=True)]


def shrunk(w: Tensors, thresholds: list[float]) -> Tensors:
    return [np.sign(x) * np.maximum(np.abs(x) - a, 0.0) for x, a in zip(w, thresholds, strict=True)]


def magnitude(w, gradients, *, density, steps, lrs, end, every, metric):
    adam, mask = Adam(lrs), [np.ones_like(x, bool) for x in w]
    for t in range(1, steps + 1):
        w = cut(adam.step(w, cut(gradients(w), mask)), mask)
        if t == end or (t < end and t % every == 0):
            rho = density + (1 - density) * (1 - t / end) ** 3
            scores = [np.abs(x) * (s**0.25 if metric else 1) for x, s in zip(w, adam.second(), strict=True)]
            mask = best(scores, round(rho * sum(x.size for x in w)))
            w = cut(w, mask)
    return w


def one_shot(w, gradients, *, density, steps, lrs, end, l1=0.0, prox=0.0):
    adam, mask = Adam(lrs), [np.ones_like(x, bool) for x in w]
    for t in range(1, steps + 1):
        g = cut(gradients(w), mask)
        if t <= end:
            g = [a + l1 * np.sign(x) for a, x in zip(g, w, strict=True)]
        w = cut(adam.step(w, g), mask)
        if t <= end:
            w = shrunk(w, [lr * prox for lr in lrs])
        if t == end:
            mask = best([np.abs(x) for x in w], round(density * sum(x.size for x in w)))
            w = cut(w, mask)
    return w


def learned(w, gradients, *, density, steps, lrs, end, start, decay, lr_s):
    adam, mask = Adam(lrs), [np.ones_like(x, bool) for x in w]
    s, theta = np.full(len(w), start), w
    for t in range(1, steps + 1):
        g = gradients(theta)
        if t > end:
            theta = cut(adam.step(theta, cut(g, mask)), mask)
            continue
        sigma = 1 / (1 + np.exp(-s))
        pull = [-(a * np.sign(x)).sum() for a, x in zip(g, theta, strict=True)]
        w = adam.step(w, cut(g, mask))
        s = s - lr_s * (sigma * (1 - sigma) * pull + decay * s)
        theta = shrunk(w, list(1 / (1 + np.exp(-s))))
        mask = [x != 0 for x in theta]
        if t == end:
            mask = best([np.abs(x) for x in w], round(density * sum(x.size for x in w)))
            theta = cut(theta, mask)
    return theta
