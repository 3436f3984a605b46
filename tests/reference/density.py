"""TargetDensity with Adam, line by line in float64 on one flat vector; gradients are given, not computed.

Written from the pseudo-code of the method, one line of code per line of it, with a full sort for the quantile.
"""

import math

import torch


def target_density(theta0, gradient, *, density, steps, lr, ramp_end=0.75, betas=(0.9, 0.999), eps=1e-8):
    """Yield (theta, mask, lam, delta) after each step; ``gradient(theta)`` returns the dense gradient at theta."""
    b1, b2 = betas
    n = theta0.numel()
    end = round(ramp_end * steps)
    v = theta0.double().clone()
    theta = v.clone()
    m = torch.zeros(n, dtype=torch.float64)
    s = torch.zeros(n, dtype=torch.float64)
    kept = torch.ones(n, dtype=torch.bool)
    for t in range(1, steps + 1):
        g = gradient(theta) * kept
        m = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * g**2
        v = v - lr * (m / (1 - b1**t)) / ((s / (1 - b2**t)) ** 0.5 + eps)
        lam, delta = 0.0, 1.0
        if t <= end:
            w = (s / (1 - b2**t)) ** 0.25
            q = w * v.abs()
            rho = density + (1 - density) * (1 - t / end) ** 3
            order = sorted(range(n), key=lambda i: -q[i].item())
            kept_now = order[: round(rho * n)]
            kept = torch.zeros(n, dtype=torch.bool)
            kept[kept_now] = True
            lam = max((q[i].item() for i in order[round(rho * n) :]), default=0.0)
            x = torch.zeros(n, dtype=torch.float64)
            for i in kept_now:
                x[i] = math.copysign(max(abs(v[i].item()) - (lam / w[i].item() if lam else 0.0), 0.0), v[i].item())
            delta = (v[kept].norm() / x.norm()).item()
            theta = x * delta
            if t == end:
                v = theta.clone()
        else:
            v = v * kept
            theta = v.clone()
        yield theta, kept, lam, delta
