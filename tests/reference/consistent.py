"""The consistent solver line by line, in float64: filters as T x T matrices, inverses as written, loops over samples.

Weights are (n_out, n_in), data (T, B, n), as in `bregma.admm`.
"""

import torch
from torch import Tensor


def filter_matrix(steps: int, decay: float) -> Tensor:
    """``F[t, s] = decay^(t - s)`` for s <= t."""
    f = torch.zeros(steps, steps, dtype=torch.float64)
    for t in range(steps):
        for s in range(t + 1):
            f[t, s] = decay ** (t - s)
    return f


def filtered(matrix: Tensor, a: Tensor) -> Tensor:
    return torch.einsum("ts,sbn->tbn", matrix, a)


def run_layer(a: Tensor, w: Tensor, decay: float, threshold: float, recurrent: Tensor | None = None):
    """Step 1: the scalar recursion."""
    steps, batch, _ = a.shape
    z = torch.zeros(steps, batch, len(w), dtype=torch.float64)
    spikes = torch.zeros_like(z)
    for t in range(steps):
        z[t] = a[t] @ w.T
        if t > 0:
            z[t] += decay * z[t - 1] - threshold * spikes[t - 1]
            if recurrent is not None:
                z[t] += spikes[t - 1] @ recurrent.T
        spikes[t] = (z[t] > threshold).double()
    return z, spikes


def kernel_of(kind: str, steps: int, decay: float) -> Tensor:
    """kappa_t, from the definition of the readout's membrane."""
    last = torch.tensor([decay ** (steps - 1 - t) for t in range(steps)], dtype=torch.float64)
    if kind == "last":
        return last
    return torch.tensor([sum(decay**j for j in range(steps - t)) / steps for t in range(steps)], dtype=torch.float64)


def ridge_inverse(gram: Tensor, ridge: float) -> Tensor:
    n = len(gram)
    return torch.linalg.inv(gram + ridge * gram.trace() / n * torch.eye(n, dtype=torch.float64))


def window(g: Tensor, z: Tensor, threshold: float, width: float) -> Tensor:
    return g / (1 + (z - threshold).abs() / width) ** 2


def displaced(g: Tensor, z: Tensor, threshold: float, margin: float, cuts, graded: bool, mirrored: bool) -> Tensor:
    """Entry by entry."""
    out = torch.zeros_like(z)
    for at in torch.cartesian_prod(*(torch.arange(k) for k in z.shape)):
        i = tuple(at.tolist())
        s = g[i].sign()
        d = s * ((z[i] - threshold).abs() + margin) if mirrored else threshold + margin * s - z[i]
        if d * s > 0:
            u = g[i].abs() / (d**2 + 1e-3)
            cut = cuts[0] if s > 0 else cuts[1]
            share = min(1.0, float(u / cut)) if graded else float(u > cut)
            out[i] = d * share
    return out


def sweep(weights, spikes, membranes, residual, grams, *, decay, threshold, kind, ridge, move):
    """Steps 3 and 4: the change of every hidden layer, before it is scaled; ``move(g, z)`` is the rule."""
    steps = len(spikes[0])
    matrix, kappa = filter_matrix(steps, decay), kernel_of(kind, steps, decay)
    g = kappa[:, None, None] * (residual @ weights[-1])[None]
    changes = []
    for layer in reversed(range(len(membranes))):
        dz = move(g, membranes[layer])
        traces = filtered(matrix, spikes[layer])
        rows = dz.shape[0] * dz.shape[1]
        n = torch.einsum("tbm,tbn->mn", dz, traces) / rows
        changes.append(n @ ridge_inverse(grams[layer], ridge))
        g = filtered(matrix.T, dz) @ weights[layer]
    return changes[::-1]


def trace_gram(a: Tensor, decay: float) -> Tensor:
    traces = filtered(filter_matrix(len(a), decay), a)
    return torch.einsum("tbm,tbn->mn", traces, traces) / (a.shape[0] * a.shape[1])


def left_out_residual(f: Tensor, y: Tensor, ridge: float) -> Tensor:
    """Brute force: the residual of each sample under the readout fitted to all others, the ridge (absolute) kept."""
    n = f.shape[1]
    out = torch.zeros_like(y)
    for m in range(len(f)):
        others = [k for k in range(len(f)) if k != m]
        gram = f[others].T @ f[others] + ridge * torch.eye(n, dtype=torch.float64)
        w = torch.linalg.solve(gram, f[others].T @ y[others]).T
        out[m] = y[m] - f[m] @ w.T
    return out


class Network:
    """Mini-batch iterations with running statistics, and full-batch ones with back-tracking, as written."""

    def __init__(self, weights, *, decay, threshold, kind, ridge, readout_ridge, gram_decay, readout_decay, move):
        self.weights = [w.clone() for w in weights]
        self.decay, self.threshold, self.kind, self.move = decay, threshold, kind, move
        self.ridge, self.readout_ridge = ridge, readout_ridge
        self.gram_decay, self.readout_decay = gram_decay, readout_decay
        self.grams = [0.0] * (len(weights) - 1)
        self.counts = [0.0] * (len(weights) - 1)
        self.s, self.n = 0.0, 0.0

    def forward(self, x):
        spikes, membranes = [x], []
        for w in self.weights[:-1]:
            z, a = run_layer(spikes[-1], w, self.decay, self.threshold)
            membranes.append(z)
            spikes.append(a)
        kappa = kernel_of(self.kind, len(x), self.decay)
        return spikes, membranes, torch.einsum("t,tbn->bn", kappa, spikes[-1])

    def step(self, x, y, share):
        """A mini-batch; every Gram matrix is formed in every iteration, the data's adds up."""
        spikes, membranes, f = self.forward(x)
        self.s = self.readout_decay * self.s + f.T @ f
        self.n = self.readout_decay * self.n + f.T @ y
        self.weights[-1] = (ridge_inverse(self.s, self.readout_ridge) @ self.n).T
        for layer, a in enumerate(spikes[:-1]):
            keep = self.gram_decay if layer else 1.0
            self.grams[layer] = keep * self.grams[layer] + trace_gram(a, self.decay) * len(y)
            self.counts[layer] = keep * self.counts[layer] + len(y)
        self._move(spikes, membranes, y - f @ self.weights[-1].T, share)

    def descend(self, x, y, size, halvings=3):
        """Full batch; returns the loss and the step that was taken, None if none was."""
        spikes, membranes, f = self.forward(x)
        self.weights[-1], residual = self._fit(f, y)
        before = float(residual.square().sum() / len(y))
        self.grams = [trace_gram(a, self.decay) for a in spikes[:-1]]
        self.counts = [1.0] * len(self.grams)
        start = [w.clone() for w in self.weights]
        for k in range(halvings + 1):
            self.weights = [w.clone() for w in start]
            self._move(spikes, membranes, residual, size / 2**k)
            f = self.forward(x)[2]
            self.weights[-1], new = self._fit(f, y)
            after = float(new.square().sum() / len(y))
            if after < before:
                return after, size / 2**k
        self.weights = start
        return before, None

    def _fit(self, f, y):
        """The readout, and leave-one-out residuals with the leverage clamped."""
        inverse = ridge_inverse(f.T @ f, self.readout_ridge)
        w = (inverse @ f.T @ y).T
        h = torch.stack([f[m] @ inverse @ f[m] for m in range(len(f))])[:, None]
        return w, (y - f @ w.T) / (1 - h).clamp(min=0.05)

    def _move(self, spikes, membranes, residual, share):
        changes = sweep(
            self.weights, spikes, membranes, residual, [g / c for g, c in zip(self.grams, self.counts, strict=True)],
            decay=self.decay, threshold=self.threshold, kind=self.kind, ridge=self.ridge, move=self.move,
        )  # fmt: skip
        for layer, change in enumerate(changes):
            w = self.weights[layer]
            self.weights[layer] = w + share * change * w.norm() / change.norm()
