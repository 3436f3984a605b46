"""Which parameters of a model are weights, that is connections between neurons."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import Parameter, UninitializedParameter

# Modules whose weight tensors connect neurons, and modules whose weights, of any shape, do not.
_CONNECTING = (nn.Linear, nn.Bilinear, _ConvNd, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
_OTHER = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.PReLU, nn.Embedding, nn.EmbeddingBag)
# Names by which neuron models call what is not a connection, even where it is a matrix (one delay per synapse).
_NEURON_WORDS = frozenset({"alpha", "beta", "bias", "decay", "delay", "gain", "scale", "tau", "thr", "threshold"})

_Owners = list[tuple[str, nn.Module]]


def split_parameters(
    model: nn.Module, *, sparse: Sequence[str] = (), dense: Sequence[str] = ()
) -> tuple[dict[str, Parameter], dict[str, Parameter]]:
    """Split the parameters of a model into weights and the rest, each parameter once, by full name.

    Weights are the tensors of two or more dimensions called ``weight`` (``weight_ih_l0``, ``in_proj_weight``, ...) in
    ``nn.Linear``, convolutions, ``nn.RNN`` and its kin, and attention; a recurrent matrix that lives in an
    ``nn.Linear``, as snnTorch's ``RLeaky`` has it, is one of them. The rest are tensors of fewer than two dimensions,
    norms, embeddings, and what is called bias, delay, threshold, decay, beta, tau or the like.

    Args:
        model: the model.
        sparse: patterns (``fnmatch``, e.g. ``"mixer.*"``) of full names of parameters that are weights all the same.
        dense: patterns of names of parameters that are not; they win over ``sparse``.

    Returns:
        Weights and the rest, each as a dict from name to parameter in the model's order. A shared parameter has the
        first of its names.

    Raises:
        TypeError: ``model`` is not a module, or ``sparse`` or ``dense`` is a string instead of a sequence of strings.
        ValueError: a parameter fits no rule, a pattern fits no parameter, or a parameter is not initialised yet.

    Example:
        >>> weights, rest = split_parameters(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)))
        >>> list(weights), list(rest)
        (['0.weight'], ['0.bias', '1.weight', '1.bias'])
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    owners = _owners(model)
    _check_patterns(model, sparse, dense)
    parts: dict[bool, dict[str, Parameter]] = {True: {}, False: {}}
    for names, p in owners.values():
        parts[_is_weight(names, p, sparse, dense)][names[0][0]] = p
    return parts[True], parts[False]


def _owners(model: nn.Module) -> dict[int, tuple[_Owners, Parameter]]:
    """Return every parameter once, with all the full names it goes by and the module behind each name."""
    found: dict[int, tuple[_Owners, Parameter]] = {}
    for path, module in model.named_modules():
        for name, p in module.named_parameters(path, recurse=False, remove_duplicate=False):
            found.setdefault(id(p), ([], p))[0].append((name, module))
    return found


def _check_patterns(model: nn.Module, sparse: Sequence[str], dense: Sequence[str]) -> None:
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    for argument, patterns in (("sparse", sparse), ("dense", dense)):
        if isinstance(patterns, str):
            raise TypeError(f"{argument} must be a sequence of name patterns, got the string {patterns!r}")
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ValueError(f"{argument} pattern {pattern!r} matches no parameter of the model")


def _is_weight(names: _Owners, p: Parameter, sparse: Sequence[str], dense: Sequence[str]) -> bool:
    for patterns, verdict in ((dense, False), (sparse, True)):
        if any(fnmatchcase(name, pattern) for name, _ in names for pattern in patterns):
            return verdict
    if isinstance(p, UninitializedParameter):
        raise ValueError(f"parameter {names[0][0]!r} is not initialised yet; run one batch through the model first")
    verdicts = {_rule(name.rpartition(".")[2], module, p) for name, module in names}
    if len(verdicts) == 1 and None not in verdicts:
        return bool(verdicts.pop())
    known_as = " = ".join(f"{name!r} ({type(module).__name__})" for name, module in names)
    raise ValueError(
        f"cannot place parameter {known_as} of shape {tuple(p.shape)}; "
        f"say what it is with sparse=({names[0][0]!r},) or dense=({names[0][0]!r},)"
    )


def _rule(name: str, module: nn.Module, p: Parameter) -> bool | None:
    """Return whether dimensions, module type and name make this a weight; None if they do not tell."""
    words = name.lower().split("_")
    of_the_neuron = any(word in _NEURON_WORDS or word.removesuffix("s") in _NEURON_WORDS for word in words)
    if p.ndim < 2 or isinstance(module, _OTHER) or of_the_neuron or name == "weight_g":  # the gain of weight_norm
        return False
    if isinstance(module, _CONNECTING) and "weight" in words:
        return True
    return None
