"""What the tests of `bregma.compact` look at."""

import torch

from bregma.nn.chain import chain


def frames(inputs: int, seed: int = 0, steps: int = 30) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(steps, 3, inputs, generator=generator) < 0.4).double()


def assert_same_scores(net, small, x):
    with torch.no_grad():
        before, after = net(x), small(x)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-12)


def sizes(net) -> list[int]:
    return [stage.linear.out_features for stage in chain(net).hidden]
