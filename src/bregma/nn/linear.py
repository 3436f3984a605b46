"""Dense layers for inputs that are mostly zeros."""

from torch import Tensor, nn

from bregma import dynamics


class SpikeLinear(nn.Linear):
    """`torch.nn.Linear` whose products cost what the spikes cost; see `bregma.dynamics.linear`.

    Weights, gradients and state dict are those of `torch.nn.Linear`.

    Example:
        >>> import torch
        >>> SpikeLinear(4, 2)(torch.zeros(5, 3, 4)).shape
        torch.Size([5, 3, 2])
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., n_in) -> (..., n_out)."""
        return dynamics.linear(x, self.weight, self.bias)
