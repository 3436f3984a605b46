"""TargetDensity with Adam, line by line in float64 on one flat vector; gradients are given, not computed.

Written from the pseudo-code of the method, one line of code per line of it, with a full sort for the quantiles.
"""

import math

import torch


def whole(shares, total):
    """Round down, then one more for those that lost most, the first of equals."""
    counts = [int(share) for share in shares]
    for i in sorted(range(len(shares)), key=lambda i: counts[i] - shares[i])[: total - sum(counts)]:
        counts[i] += 1
    return counts


def erk(shapes, total):
    """Shares in proportion to the sum of the dimensions; what is full is set aside, the others share the rest."""
    full = set()
    while True:
        free = [i for i in range(len(shapes)) if i not in full]
        left = total - sum(math.prod(shapes[i]) for i in full)
        scale = left / sum(sum(shapes[i]) for i in free) if free else 0.0
        over = {i for i in free if scale * sum(shapes[i]) >= math.prod(shapes[i])}
        if not over:
            break
        full |= over
    shares = [math.prod(shape) if i in full else scale * sum(shape) for i, shape in enumerate(shapes)]
    return whole(shares, total)


def target_density(
    theta0, gradient, shapes, *, density, steps, lr, ramp_end=0.75, betas=(0.9, 0.999), eps=1e-8, l1=0.0
):
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
        g = (gradient(theta) + (l1 * theta.sign() if t <= end else 0.0)) * kept
        m = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * g**2
        v = v - lr * (m / (1 - b1**t)) / ((s / (1 - b2**t)) ** 0.5 + eps)
        lam, delta = 0.0, 1.0
        if t <= end:
            w = (s / (1 - b2**t)) ** 0.25
            q = w * v.abs()
            rho = density + (1 - density) * (1 - t / end) ** 3
            keep = round(rho * n)
            best = set(sorted(range(n), key=lambda i: -q[i].item())[:keep])
            starts = [sum(math.prod(shape) for shape in shapes[:j]) for j in range(len(shapes))]
            tensors = [range(a, a + math.prod(shape)) for a, shape in zip(starts, shapes, strict=True)]
            chosen = [sum(i in best for i in tensor) for tensor in tensors]
            counts = whole([(a + b) / 2 for a, b in zip(chosen, erk(shapes, keep), strict=True)], keep)
            kept = torch.zeros(n, dtype=torch.bool)
            x = torch.zeros(n, dtype=torch.float64)
            for tensor, count in zip(tensors, counts, strict=True):
                order = sorted(tensor, key=lambda i: -q[i].item())
                own = max((q[i].item() for i in order[count:]), default=0.0)
                lam = max(lam, own)
                for i in order[:count]:
                    kept[i] = True
                    x[i] = math.copysign(max(abs(v[i].item()) - (own / w[i].item() if own else 0.0), 0.0), v[i].item())
            delta = (v[kept].norm() / x.norm()).item()
            theta = x * delta
            if t == end:
                v = theta.clone()
        else:
            v = v * kept
            theta = v.clone()
        yield theta, kept, lam, delta
