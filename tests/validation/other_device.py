"""A second device on machines that have none: CPU tensors that say they are on "meta" and refuse to meet others.

What runs on it, with the right numbers, moves its tensors as CUDA wants it moved: two devices never meet in one
operation, nothing is read by NumPy before ``.cpu()``, and what is made anew is made where the rest is. It shows
nothing of CUDA's kernels, their speed, memory or order of summation.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

NAME = "meta"
CUDA = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch sees none"),
    ],
)


class Elsewhere(Tensor):
    """A CPU tensor seen from outside as one on the other device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Elsewhere:
        made: Elsewhere = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(NAME),
        )
        made.held = held
        return made

    def tolist(self) -> Any:
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(func, args, kwargs or {})


class OtherDevice(TorchDispatchMode):
    """Within it, ``device="meta"`` is the other device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    given = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
    away = [tensor for tensor in given if isinstance(tensor, Elsewhere)]
    if any(not isinstance(tensor, Elsewhere) and tensor.is_meta for tensor in given):
        raise RuntimeError(f"{func}: an index given as a list loses its values here; give a slice or a tensor")
    name = func.overloadpacket.__name__
    # scalars go along to any device, a copy has two, and indices follow what they index
    here = [t for t in given if not isinstance(t, Elsewhere) and t.dim() > 0]
    if away and here and name not in ("_to_copy", "copy_", "index", "index_put", "index_put_", "_index_put_impl_"):
        raise RuntimeError(f"{func}: tensors on two devices, {NAME} and {here[0].device}")
    target = kwargs.get("device")
    stays = bool(away) and (name != "copy_" or isinstance(args[0], Elsewhere)) if target is None else None
    elsewhere = stays if target is None else torch.device(target).type == NAME
    if target is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    by_held = {id(tensor.held): tensor for tensor in away}
    plain = tree_map(lambda leaf: leaf.held if isinstance(leaf, Elsewhere) else leaf, (args, kwargs))
    found = func(*plain[0], **plain[1])

    def placed(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if id(leaf) in by_held:  # in place
            return by_held[id(leaf)]
        return Elsewhere(leaf) if elsewhere else leaf

    return tree_map(placed, found)
