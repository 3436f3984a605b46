"""Recurrent LIF with axonal delays as arXiv 2509.24852 (DelRec) formulates it: the weights times the kernel, per slot.

A spike y_j of step t puts ``X[:, :, l] = W @ (y K[:, l])`` into slot l of a buffer of future input currents, which
moves on by one slot per step. K[j, l] = max(0, h_j - |l - (1 + d_j)|) / h_j^2, h_j = 1 + spread_j; slot 0 would arrive
in the step that fires and is dropped. The resets and the surrogate (arctangent, alpha 2) are spelt out once more here.
"""

import math

import torch


class Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x > 0, 1.0, 0.0).to(x.dtype)

    @staticmethod
    def backward(ctx, upstream):
        (x,) = ctx.saved_tensors
        return upstream / (1 + (math.pi * x).square())


def kernel_value(distance, half):
    return (half - distance) / half**2 if distance < half else 0.0 * half


def kernel(delays, spread, slots):
    """(n, slots), entry by entry."""
    rows = []
    for j in range(len(delays)):
        half = 1 + (spread if spread.dim() == 0 else spread[j])
        rows.append(torch.stack([kernel_value(abs(later - (1 + delays[j])), half) for later in range(slots)]))
    return torch.stack(rows)


def delayed_recurrent_lif(current, weight, delays, spread, decay, threshold, *, reset, detach_reset, gate=1.0):
    """From rest: spikes (T, B, n), last membrane (B, n) and the slots (B, n, L) to come, times the weights."""
    steps, batch, n = current.shape
    slots = math.ceil(1 + delays.max().item() + 1 + spread.max().item()) + 1
    weights_in_time = kernel(delays, spread, slots)
    to_come = torch.zeros(batch, n, slots, dtype=current.dtype)
    membrane, fired = torch.zeros(batch, n, dtype=current.dtype), torch.zeros(batch, n, dtype=current.dtype)
    train = []
    for t in range(steps):
        heard = current[t] + gate * to_come[:, :, 0]
        past = fired.detach() if detach_reset else fired
        if reset == "subtract":
            membrane = decay * membrane - threshold * past + heard
        elif reset == "subtract_decayed":
            membrane = decay * membrane - decay * threshold * past + heard
        elif reset == "zero":
            membrane = decay * membrane - decay * membrane * past + heard
        else:
            membrane = decay * membrane + heard
        fired = Step.apply(membrane - threshold)
        train.append(fired)
        scheduled = torch.einsum("ij,bjl->bil", weight, fired[:, :, None] * weights_in_time[None, :, 1:])
        moved = torch.cat([to_come[:, :, 1:], torch.zeros(batch, n, 1, dtype=current.dtype)], dim=2)
        to_come = moved + torch.cat([scheduled, torch.zeros(batch, n, 1, dtype=current.dtype)], dim=2)
    return torch.stack(train), membrane, to_come
