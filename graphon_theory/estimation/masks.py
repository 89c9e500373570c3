"""Masks as dense bool, packed bits or SciPy sparse: checked at the door, read in runs of rows, counted by blocks.

Only counting is done here. Every route goes through runs of rows that are dense for a moment, so that what a mask
of 10,000 x 10,000 units needs beyond itself is some 100 MB whatever its format.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphon_theory.arrays import BoolArray, FloatArray, IntArray
from graphon_theory.data.checks import instance, masked, real_array, refuse_infinite, whole_number
from graphon_theory.errors import InputError, shown, shown_text
from graphon_theory.values import Record

_RUN = 1 << 22  # entries that are dense at a time


@dataclass(frozen=True, eq=False)
class PackedMask(Record):
    """A mask at one bit an entry: ``bits`` as ``numpy.packbits(mask, axis=1)`` makes them, and the column count.

    Raises InputError where they do not fit together.
    """

    bits: NDArray[np.uint8]
    columns: int

    def __post_init__(self) -> None:
        wanted = -(-whole_number("columns", self.columns) // 8)
        instance("bits", self.bits, np.ndarray, "numpy.packbits(mask, axis=1) makes it")
        if self.bits.ndim != 2 or self.bits.dtype != np.uint8 or self.bits.shape[1] != wanted:
            raise InputError(
                f"bits: {self.columns} columns are packed in a uint8 array (rows, {wanted}), got {self.bits.dtype} of "
                f"shape {self.bits.shape}; numpy.packbits(mask, axis=1) makes it."
            )
        super().__post_init__()
        object.__setattr__(self, "columns", int(self.columns))

    @classmethod
    def pack(cls, mask: ArrayLike) -> PackedMask:
        """Pack a dense mask. Raises InputError for what is none."""
        dense = as_mask(mask).dense()
        return cls(np.packbits(dense, axis=1), dense.shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        """Receiving by sending units."""
        return self.bits.shape[0], self.columns


class Mask(ABC):
    """A checked mask (receiving units, sending units)."""

    shape: tuple[int, int]

    @abstractmethod
    def rows(self, run: slice) -> BoolArray:
        """The rows of ``run`` as a dense bool array."""

    def runs(self) -> Iterator[tuple[slice, BoolArray]]:
        step = max(1, _RUN // self.shape[1])
        for start in range(0, self.shape[0], step):
            run = slice(start, min(start + step, self.shape[0]))
            yield run, self.rows(run)

    def degrees(self) -> tuple[FloatArray, FloatArray]:
        """Connections of every receiving and of every sending unit."""
        received, sent = np.zeros(self.shape[0]), np.zeros(self.shape[1])
        for run, dense in self.runs():
            received[run] = np.count_nonzero(dense, axis=1)
            sent += np.count_nonzero(dense, axis=0)
        return received, sent

    def count(self) -> int:
        return sum(int(np.count_nonzero(dense)) for _, dense in self.runs())

    def row_counts(self, labels: IntArray, blocks: int) -> FloatArray:
        """Connections of every receiving unit with each block of senders: (receiving units, blocks)."""
        # float32 counts ones exactly to 2^24, more than any row holds
        indicator = one_hot(labels, blocks).astype(np.float32)
        out = np.empty((self.shape[0], blocks))
        for run, dense in self.runs():
            out[run] = dense.astype(np.float32) @ indicator
        return out

    def column_counts(self, labels: IntArray, blocks: int) -> FloatArray:
        """Connections of every sending unit with each block of receivers: (sending units, blocks)."""
        indicator = one_hot(labels, blocks).astype(np.float32)
        out = np.zeros((self.shape[1], blocks))
        for run, dense in self.runs():
            out += dense.astype(np.float32).T @ indicator[run]
        return out

    def block_counts(self, rows: IntArray, row_blocks: int, columns: IntArray, column_blocks: int) -> FloatArray:
        """Connections between blocks: (row blocks, column blocks)."""
        return add_by(rows, row_blocks, self.row_counts(columns, column_blocks))

    def dense(self) -> BoolArray:
        return self.rows(slice(0, self.shape[0]))


class _Dense(Mask):
    def __init__(self, array: BoolArray) -> None:
        self.array, self.shape = array, (array.shape[0], array.shape[1])

    def rows(self, run: slice) -> BoolArray:
        return self.array[run]


class _Packed(Mask):
    def __init__(self, packed: PackedMask) -> None:
        self.packed, self.shape = packed, packed.shape

    def rows(self, run: slice) -> BoolArray:
        return np.unpackbits(self.packed.bits[run], axis=1, count=self.packed.columns).view(bool)


class _Sparse(Mask):
    def __init__(self, csr: Any) -> None:
        self.csr, self.shape = csr, (int(csr.shape[0]), int(csr.shape[1]))

    def rows(self, run: slice) -> BoolArray:
        out: BoolArray = self.csr[run].toarray().astype(bool)
        return out


def one_hot(labels: IntArray, blocks: int) -> FloatArray:
    """Indicator of every unit's block: (units, blocks)."""
    out = np.zeros((len(labels), blocks))
    out[np.arange(len(labels)), labels] = 1.0
    return out


def add_by(labels: IntArray, blocks: int, values: FloatArray) -> FloatArray:
    """Sum rows of ``values`` by block."""
    return np.stack([np.bincount(labels, weights=column, minlength=blocks) for column in values.T], axis=1)


def edges_of(sizes: Any) -> FloatArray:
    """Edges in [0, 1] of blocks of so many units."""
    return np.concatenate([[0.0], np.cumsum(sizes)[:-1] / np.sum(sizes), [1.0]])


def as_mask(obj: Any, name: str = "mask") -> Mask:
    """A Mask from a 2-D array of zeros and ones, a PackedMask, a SciPy sparse matrix or a torch tensor.

    Raises InputError for other ranks, no units, and entries other than 0 and 1 (the first is named).
    """
    if isinstance(obj, Mask):
        return obj
    if isinstance(obj, PackedMask):
        return _checked(_Packed(obj), name)
    if hasattr(obj, "tocsr"):
        return _checked(_Sparse(_as_csr(obj, name)), name)
    array = as_array(obj, name)
    if array.ndim != 2:
        raise InputError(f"{name}: expected a mask (receiving units, sending units), got shape {array.shape}.")
    _nonempty(array.shape, name)
    if array.dtype != bool:
        if array.dtype.kind not in "iuf":
            raise InputError(f"{name}: expected a mask of zeros and ones, got dtype {array.dtype}.")
        wrong = (array != 0) & (array != 1)
        if wrong.any():
            row, column = (int(i) for i in np.argwhere(wrong)[0])
            raise InputError(
                f"{name}: expected zeros and ones, got {array[row, column]} at [{row}, {column}] (and "
                f"{int(wrong.sum()) - 1} more such entries); pass weights != 0, or the weights as `weights`."
            )
        array = array.astype(bool)
    return _Dense(array)


class Ends(NamedTuple):
    """The layers of units that a mask leads from and to, counted from 0, the inputs."""

    source: int
    place: int


def chain(depth: int) -> list[Ends]:
    """Of masks that follow one upon the other."""
    return [Ends(k, k + 1) for k in range(depth)]


def as_masks(masks: Any, ends: Sequence[Ends] | None = None) -> list[Mask]:
    """The masks of a network from input to output: checked to fit on each other, and each to keep a connection.

    ``ends``: the units of each; None: a chain. Raises InputError naming the layer.
    """
    if isinstance(masks, (str, Mask, PackedMask)) or not isinstance(masks, Sequence) or not len(masks):
        raise InputError(f"masks: expected a list of masks from input to output, got {type(masks).__name__}.")
    made = [as_mask(mask, f"masks[{index}]") for index, mask in enumerate(masks)]
    if ends is not None and len(ends) != len(made):
        raise InputError(f"places: expected a pair for each of {len(made)} masks, got {len(ends)}.")
    told: dict[int, tuple[int, str]] = {}
    for number, (mask, end) in enumerate(zip(made, ends or chain(len(made)), strict=True), start=1):
        sides = (end.source, mask.shape[1], "sending"), (end.place, mask.shape[0], "receiving")
        for place, count, role in sides:
            other, where = told.setdefault(place, (count, f"layer {number} has {count} {role} units"))
            if other != count:
                hint = "list them from input to output, each as (receiving units, sending units)"
                raise InputError(
                    f"masks: {where}, but layer {number} has {count} {role} ones "
                    f"(shapes {[one.shape for one in made]}); {hint}."
                )
    for index, mask in enumerate(made):
        refuse_dead(mask, f"masks: layer {index + 1}")
    return made


def as_ends(places: Any) -> list[Ends] | None:
    """Pairs (source, place) as such: from layers of units that have been met, to one of those or to the next."""
    if places is None:
        return None
    expected = "a list of pairs of whole numbers, the layers of units that each mask leads from and to"
    listed = isinstance(places, list | tuple) and len(places) > 0
    if not listed or not all(isinstance(one, list | tuple) and len(one) == 2 for one in places):
        raise InputError(f"places: expected {expected}, got {shown(places)}.")
    if not all(isinstance(k, int | np.integer) and not isinstance(k, bool) and k >= 0 for one in places for k in one):
        raise InputError(f"places: expected {expected}, got {shown(places)}.")
    most = 0
    for index, (source, place) in enumerate(places):
        if source > most or not 1 <= place <= most + 1 or (place <= most and index == len(places) - 1):
            raise InputError(
                f"places[{index}]: expected units that masks before it reach, 0 to {most}, and one of 1 to {most + 1} "
                f"(the last mask leads to units of its own, the outputs), got {(source, place)}."
            )
        most = max(most, place)
    return [Ends(int(source), int(place)) for source, place in places]


def refuse_dead(mask: Mask, name: str) -> int:
    """The number of connections; InputError if there is none."""
    count = mask.count()
    if count == 0:
        raise InputError(
            f"{name} is dead: its density is 0, none of the {mask.shape[0]} x {mask.shape[1]} connections survives, so "
            "there is nothing to estimate; prune less, or prune layer by layer."
        )
    return count


def as_weights(weights: Any, shape: tuple[int, int], name: str = "weights") -> NDArray[Any]:
    """Weights of a layer as a real array of the mask's shape, without copying what is dense; SciPy's sparse too.

    Raises InputError otherwise.
    """
    dense = weights.toarray() if hasattr(weights, "tocsr") else weights
    array = real_array(name, as_array(dense, name))
    if array.shape != shape:
        raise InputError(f"{name}: expected the mask's shape {shape}, got {array.shape}.")
    refuse_infinite(name, array, "look for a training run that diverged", what="")
    return array


def as_array(obj: Any, name: str) -> NDArray[Any]:
    """A NumPy array from one, from nested lists or from a torch tensor (which is detached and brought to the CPU)."""
    if hasattr(obj, "detach"):
        try:
            obj = obj.detach().cpu()
            if str(obj.dtype) == "torch.bfloat16":  # which NumPy does not have
                obj = obj.float()
            obj = obj.numpy()
        except (NotImplementedError, RuntimeError, TypeError) as error:
            raise InputError(f"{name}: expected a dense tensor of numbers ({shown_text(str(error))}).") from None
    if masked(obj):
        raise InputError(f"{name}: expected a 2-D array, got masked entries; fill them in, as in {name}.filled(0).")
    try:
        return np.asarray(getattr(obj, "values", obj))
    except Exception as error:  # ragged lists; tensors among them raise what they like
        raise InputError(f"{name}: expected a 2-D array ({error}).") from None


def map_runs(mask: Mask, weights: NDArray[Any], work: Callable[[slice, FloatArray], None]) -> None:
    """Call ``work(rows, m w)`` on runs of rows, m w as float64."""
    for run, dense in mask.runs():
        work(run, np.where(dense, weights[run], 0.0).astype(np.float64, copy=False))


def _as_csr(obj: Any, name: str) -> Any:
    csr = obj.tocsr(copy=True)
    _nonempty(csr.shape, name)
    csr.sum_duplicates()
    wrong = (csr.data != 0) & (csr.data != 1)
    if wrong.any():
        raise InputError(
            f"{name}: expected zeros and ones, got {csr.data[np.argmax(wrong)]} among the stored entries; "
            "pass the matrix != 0."
        )
    csr.eliminate_zeros()
    return csr


def _checked(mask: Mask, name: str) -> Mask:
    _nonempty(mask.shape, name)
    return mask


def _nonempty(shape: tuple[int, ...], name: str) -> None:
    if 0 in shape:
        raise InputError(f"{name}: the layer is empty, shape {tuple(shape)}; each side needs at least one unit.")
