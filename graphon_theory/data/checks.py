"""Checks at the door: numbers, counts and arrays as a caller gives them, taken off their labels.

One rule everywhere: the message names the argument, what was expected, what came and what to change. ``error`` is the
class to raise, and ``expected`` says in the caller's words what was.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphon_theory.arrays import FloatArray
from graphon_theory.data.labels import OUTPUT, Labels, by_kernel, by_rows, labels_of, refuse_other_labels
from graphon_theory.data.memory import refuse_beyond_memory
from graphon_theory.errors import GraphonError, InputError, KernelError, shown, shown_text

if TYPE_CHECKING:
    import xarray as xr

Error = type[GraphonError]
T = TypeVar("T")

# Squares of targets and sums of them must be numbers; the rest is room for what multiplies them.
_LARGEST = 1e150
_HUGE = 2**1024  # whole numbers of more digits are no counts and no seeds, and Python refuses to print them
MOST_DRAWS = 10_000  # random starts, masks, training sets: as many leave a hundredth of the spread of one
_MOST = 1_000_000  # entries of a list of whole numbers
UNLABELLED = Labels("", None)


# --- numbers ----------------------------------------------------------------------------------------------------------


def whole_number(
    name: str, value: Any, least: int = 1, most: int | None = None, *, error: Error = InputError, expected: str = ""
) -> int:
    """A whole number (of Python or NumPy, no truth value) from ``least`` to ``most``. Raises ``error`` otherwise."""
    if not _is_whole(value) or value < least or (most is not None and value > most):
        wanted = "a positive whole number" if least == 1 else f"a whole number of at least {least}"
        if most is not None:
            above = _is_whole(value) and value > most
            wanted = f"a whole number from {least} to {most}" if above else f"{wanted} and at most {most:,}"
        raise error(f"{name}: expected {expected or wanted}, got {shown(value)}.")
    return int(value)


def whole_numbers(
    name: str,
    values: Any,
    least: int = 1,
    most: int | None = None,
    *,
    distinct: bool = False,
    error: Error = InputError,
    expected: str = "",
) -> tuple[int, ...]:
    """Whole numbers from ``least`` to ``most``, one or more, all different if ``distinct``. Raises ``error``."""
    many = _listed(values)
    good = all(_is_whole(one) and one >= least and (most is None or one <= most) for one in many)
    if not many or not good or (distinct and len(set(many)) < len(many)):
        wanted = f"{'different integers' if distinct else 'whole numbers'} of at least {least}"
        raise error(f"{name}: expected {expected or wanted}, got {shown(many or values)}.")
    return tuple(int(one) for one in many)


def _listed(values: Any) -> tuple[Any, ...]:
    """The entries of a list, or none of what is no list of a sensible length."""
    if not isinstance(values, Iterable) or isinstance(values, str | bytes | Mapping):
        return ()
    try:
        many = tuple(islice(values, _MOST + 1))
    except Exception:  # what calls itself iterable need not be
        return ()
    return many if len(many) <= _MOST else ()


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and abs(int(value)) < _HUGE


def positive_number(
    name: str, value: Any, *, zero: bool = False, error: Error = InputError, expected: str = ""
) -> float:
    """A finite number > 0, or >= 0 where ``zero`` is allowed. Raises ``error`` otherwise."""
    number = _number(value)
    if not (0 < number < math.inf or (zero and number == 0)):
        wanted = "a number of at least 0" if zero else "a positive number"
        raise error(f"{name}: expected {expected or wanted}, got {shown(value)}.")
    return number


def checked_rtol(rtol: Any) -> float:
    """A relative tolerance. Raises InputError for what no sum of float64 numbers meets, and for no tolerance at all."""
    number = positive_number("rtol", rtol, expected="a tolerance between 1e-14 and 1")
    if not 1e-14 <= number < 1:
        raise InputError(f"rtol: expected a tolerance between 1e-14 and 1, got {shown(rtol)}.")
    return number


def finite_number(name: str, value: Any, *, error: Error = InputError) -> float:
    """A finite number. Raises ``error`` otherwise."""
    number = _number(value)
    if not math.isfinite(number):
        raise error(f"{name}: expected a finite number, got {shown(value)}.")
    return number


def share_kept(name: str, value: Any, *, error: Error = InputError, expected: str = "") -> float:
    """A density, the share of weights that survive, in (0, 1]. Raises ``error`` otherwise."""
    share = _number(value)
    if not 0.0 < share <= 1.0:
        wanted = expected or "a share of weights kept, in (0, 1]"
        raise error(f"{name}: expected {wanted}, got {shown(value)}; a sparsity s is density 1 - s.")
    return share


def _number(value: Any) -> float:
    """The real number that a value is; NaN for text, truth values, complex numbers, arrays and anything else."""
    if hasattr(type(value), "free_symbols") and type(value).__module__ != "sympy.core.numbers":
        return math.nan  # formulas, whose value could take for ever, and classes with methods of their own
    try:
        array = np.asarray(value)
        if array.ndim or array.dtype.kind not in "fiuO" or np.ma.is_masked(value):
            return math.nan
        return float(value)
    except Exception:  # other libraries raise what they like where theirs is no plain number
        return math.nan


def _is_formula(value: Any) -> bool:
    """Whether an object of SymPy is more than a number in a few terms: its value could take for ever."""
    stack, count = [value], 0
    while stack and hasattr(type(value), "free_symbols"):
        node = stack.pop()
        count += 1
        if count > 50 or getattr(node, "is_Symbol", False):
            return True
        stack.extend(getattr(node, "args", ()))
    return False


def axes_of(value: Any) -> int:
    """How many axes a value has as an array; -1 of what is none, such as ragged lists and Datasets."""
    if isinstance(value, range):  # of which NumPy would make an array, however long
        return 1
    try:
        return np.ndim(value)
    except Exception:  # other libraries raise what they like
        return -1


def one_or_each(given: Any, count: int) -> list[Any]:
    """The entries of a list, one more than ``count`` at most, or one value as many times."""
    return list(islice(given, count + 1)) if axes_of(given) == 1 else [given] * count


def as_generator(
    rng: Any, *, error: Error = InputError, expected: str = "a numpy Generator or a seed", name: str = "rng"
) -> np.random.Generator:
    """A Generator from one or from a seed. Raises ``error`` otherwise."""
    made = np.random.Generator, np.random.SeedSequence, np.random.BitGenerator
    try:
        if rng is None or isinstance(rng, made):
            return np.random.default_rng(rng)
        if isinstance(rng, Sequence | np.ndarray):
            return np.random.default_rng(list(whole_numbers(name, rng, 0)))
        return np.random.default_rng(whole_number(name, rng, 0))
    except Exception as reason:
        raise error(f"{name}: expected {expected}, got {shown(rng)} ({_short(reason)}).") from None


def truth(name: str, value: Any, *, error: Error = InputError) -> bool:
    """True or False (of Python or NumPy). Raises ``error`` otherwise."""
    if not isinstance(value, bool | np.bool_):
        raise error(f"{name}: expected True or False, got {shown(value)}.")
    return bool(value)


def one_of(name: str, value: Any, choices: Iterable[str], *, error: Error = InputError) -> str:
    """One of some words. Raises ``error`` otherwise, with the one that is nearest."""
    words = list(choices)
    if isinstance(value, str) and value in words:
        return str(value)
    near = get_close_matches(value[:80], words, 1) if isinstance(value, str) else []
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise error(f"{name}: expected one of {', '.join(words)}, got {shown(value)}{hint}")


def instance(name: str, value: Any, kind: type[T], hint: str = "", *, error: Error = InputError) -> T:
    """A value of the class that is due. Raises ``error`` otherwise; ``hint`` says how to come by one."""
    if not isinstance(value, kind):
        raise error(f"{name}: expected a {kind.__name__}, got {type(value).__name__}{hint and '; ' + hint}.")
    return value


def checked_dataset(
    name: str, value: Any, variables: Iterable[str] | Mapping[str, tuple[str, ...] | None], source: str
) -> Any:
    """A Dataset with these variables (over these dimensions), as ``source`` returns it. Raises InputError otherwise."""
    if not hasattr(value, "data_vars"):
        raise InputError(f"{name}: expected the Dataset that {source} returns, got {type(value).__name__}.")
    wanted = variables if isinstance(variables, Mapping) else dict.fromkeys(variables)
    for one, dims in wanted.items():
        if one not in value.data_vars:
            raise InputError(f"{name}: expected the Dataset that {source} returns, got one without {one}.")
        if value[one].dtype.kind not in "fiub" or (dims is not None and value[one].dims != dims):
            raise InputError(
                f"{name}: expected {one} as {source} returns it, real numbers{f' over {dims}' if dims else ''}, got "
                f"{value[one].dtype} over {value[one].dims}."
            )
    return value


# --- arrays -----------------------------------------------------------------------------------------------------------


def real_array(
    name: str,
    values: Any,
    *,
    objects: bool = False,
    error: Error = InputError,
    expected: str = "real numbers",
    hint: str = "",
) -> NDArray[Any]:
    """An array of real numbers of any type, not copied where it is one; of ``objects`` such as fractions if allowed.

    Raises ``error`` for text, complex numbers and ragged lists, and for masked entries: what stands below a mask is no
    number.
    """
    if masked(values):
        raise error(f"{name}: expected {expected}, got masked entries; fill them in, as in {name}.filled(0.0).")
    try:
        array = np.asarray(values)
        if objects and array.dtype == object:
            if any(map(_is_formula, array.flat)):
                raise TypeError("formulas are among them; write their values")
            array = array.astype(float)
    except Exception as reason:  # ragged lists; tensors that NumPy cannot read raise what they like
        raise error(
            f"{name}: expected {expected}, but it is no array of numbers ({_short(reason)}){_way_out(name, values)}."
        ) from None
    refuse_beyond_memory(name, 8 * array.size, f"{array.size:,} numbers as float64", "pass fewer of them", error=error)
    if array.dtype.kind not in "fiub":
        raise error(f"{name}: expected {expected}, got dtype {array.dtype}{hint}.")
    return array


def _short(reason: Exception) -> str:
    return shown_text(str(reason) or type(reason).__name__)


def _way_out(name: str, values: Any) -> str:
    """How to make an array of a tensor, or of a list of some."""
    one = values[0] if isinstance(values, list | tuple) and values else values
    if str(type(one).__module__).split(".")[0] != "torch" or not hasattr(one, "detach"):
        return ""
    dense = ".to_dense()" if getattr(one, "layout", None) is not None and "sparse" in str(one.layout) else ""
    return f"; pass {name if one is values else 'each'}.detach(){dense}.cpu().double().numpy()"


def masked(values: Any) -> bool:
    """Whether a masked array, or a list that holds some, has masked entries, which NumPy would drop silently."""
    if isinstance(values, list | tuple):
        return any(masked(one) for one in values if isinstance(one, list | tuple | np.ma.MaskedArray))
    return isinstance(values, np.ma.MaskedArray) and bool(np.ma.is_masked(values))


def refuse_infinite(
    name: str, array: NDArray[Any], hint: str, *, what: str = "values ", error: Error = InputError
) -> None:
    """Raise ``error`` where values are infinite or NaN: how many, and the first of them with its place."""
    finite = np.isfinite(array)
    if not finite.all():
        place = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise error(
            f"{name}: {array.size - int(finite.sum())} of {array.size} {what}are not finite, the first is "
            f"{array[place]} at {list(place)}; {hint}."
        )


def as_inputs(
    x: ArrayLike | xr.DataArray, name: str = "x", *, like: ArrayLike | xr.DataArray | None = None
) -> FloatArray:
    """Take a data matrix (N, d) off its labels: a C-contiguous float64 array, checked to be finite.

    Raises InputError when the rank is not 2, the array is empty, the type is not real, a value is NaN or infinite, or
    its columns are labelled otherwise than those of ``like``, the inputs ``x`` that it goes with.
    """
    arranged = by_rows(x, like)
    array = real_array(name, arranged, hint="; convert it to float first")
    if array.ndim != 2:
        hint = f"use {name}[:, None] or {name}[None, :]" if array.ndim == 1 else "flatten all but the first axis"
        raise InputError(f"{name}: expected shape (samples, inputs), got shape {array.shape}; {hint}.")
    if 0 in array.shape:
        raise InputError(f"{name}: expected at least one sample and one input, got shape {array.shape}.")
    out: FloatArray = np.ascontiguousarray(array, dtype=np.float64)
    refuse_infinite(name, out, "drop or impute those samples")
    if like is not None:
        refuse_other_labels(Labels(name, labels_of(arranged, 1)), Labels("x", labels_of(by_rows(like), 1)), "columns")
    return out


def as_kernel(kernel: ArrayLike | xr.DataArray, name: str = "kernel", *, square: bool = True) -> FloatArray:
    """Take a kernel matrix (N, N2) off its labels: float64, finite, square if asked.

    Raises KernelError otherwise, InputError where rows and columns of a square one are labelled otherwise. A leading
    output dimension must be selected away first.
    """
    if hasattr(kernel, "data_vars"):
        has = ", ".join(map(str, kernel.data_vars))
        raise KernelError(f"{name}: expected one kernel, got a Dataset of {has}; pass one of them, as in kern.ntk.")
    if hasattr(kernel, "matvec"):
        raise KernelError(f"{name}: got a linear operator where every entry is read; pass the matrix (limit_kernel).")
    dims = getattr(kernel, "dims", None)
    kernel = by_kernel(kernel)
    try:
        given = np.asanyarray(kernel)
    except Exception as error:
        reason = f"({_short(error)}){_way_out(name, kernel)}"
        raise KernelError(f"{name}: expected a matrix of numbers, but it cannot be made one {reason}.") from None
    matrix = real_array(name, given, error=KernelError).astype(np.float64, copy=False)
    if matrix.ndim != 2:
        hint = "; select one output first, as in kernel.isel(output=0)" if dims and OUTPUT in dims else ""
        raise KernelError(f"{name}: expected a matrix, got shape {matrix.shape}{hint}.")
    if 0 in matrix.shape:
        raise KernelError(f"{name}: expected at least one input, got shape {matrix.shape}.")
    if square and matrix.shape[0] != matrix.shape[1]:
        raise KernelError(
            f"{name}: expected a square matrix, got shape {matrix.shape}; pass the kernel of the training "
            "inputs with themselves."
        )
    refuse_infinite(name, matrix, "recompute the kernel", what="entries ", error=KernelError)
    if square:
        largest = float(np.abs(matrix).max())
        if largest > _LARGEST:
            raise KernelError(f"{name}: its largest entry, {largest:.3g}, is too large to be squared; divide by it.")
        refuse_other_labels(Labels(name, labels_of(kernel)), Labels("its columns", labels_of(kernel, 1)), "rows")
    return matrix


def as_cross_kernel(
    kernel: ArrayLike | xr.DataArray, name: str, training: Labels, size: int
) -> tuple[FloatArray, Labels]:
    """A kernel of new by training inputs (M, N), and the labels of the new ones.

    Raises KernelError for anything else, InputError where its columns are labelled otherwise than the training inputs.
    """
    matrix = as_kernel(kernel, name, square=False)
    if matrix.shape[1] != size:
        raise KernelError(
            f"{name}: expected {size} columns, one per training input, got shape {matrix.shape}; pass "
            "limit_kernel(network, x_new, x).ntk."
        )
    arranged = by_kernel(kernel)
    refuse_other_labels(Labels(name, labels_of(arranged, 1)), training, "columns, the training inputs,")
    return matrix, Labels(name, labels_of(arranged, 0))


def check_installed(what: str, modules: Mapping[str, str], extra: str) -> None:
    """Raise GraphonError unless the ``modules`` that ``what`` needs, by package, are there; ``extra`` brings them."""
    missing = [package for package, module in modules.items() if find_spec(module) is None]
    if missing:
        raise GraphonError(
            f"{what}: needs {' and '.join(missing)}, not installed here; run: pip install 'graphon-theory[{extra}]'."
        )


def checked_dtype(dtype: Any) -> Any:
    """float64 or float32 as a NumPy dtype. Raises InputError otherwise."""
    try:
        found = np.dtype(dtype) if isinstance(dtype, str | type | np.dtype) else None
    except (TypeError, ValueError):  # a name of none
        found = None
    if found not in (np.float64, np.float32):
        raise InputError(f"dtype: expected float64 or float32, got {shown(dtype) if found is None else found}.")
    return found


def checked_count(count: int | None, size: int) -> int:
    """How many modes of a kernel of this size, all of them if left out. Raises InputError."""
    if count is None:
        return size
    return whole_number(
        "count", count, 1, size, expected=f"a whole number from 1 to {size} (the kernel's size) or None"
    )


def checked_weights(weights: ArrayLike | xr.DataArray, size: int, inputs: Labels = UNLABELLED) -> FloatArray:
    """The sample's law: (size,) positive numbers, divided by their sum. Raises InputError."""
    law = real_array("weights", weights, expected=f"{size} numbers, one an input")
    if law.shape != (size,) or law.dtype.kind == "b":
        raise InputError(f"weights: expected {size} numbers, one an input, got shape {law.shape} of {law.dtype}.")
    law = law.astype(np.float64)
    bad = np.flatnonzero(~((law > 0) & np.isfinite(law)))
    if len(bad):
        raise InputError(
            f"weights: expected positive numbers, but {len(bad)} of {size} are not, the first is {law[bad[0]]} at "
            f"[{bad[0]}]; leave out inputs that do not count."
        )
    refuse_other_labels(Labels("weights", labels_of(weights)), inputs, "rows")
    return np.asarray(law / law.sum())


def checked_targets(y: ArrayLike | xr.DataArray, size: int, name: str = "y", inputs: Labels = UNLABELLED) -> FloatArray:
    """Targets (size,) or (size, targets) as float64, of the ``inputs``. Raises InputError.

    Also where squares of them are no numbers: beyond 1e150, or all of them below 1e-150 and not zero.
    """
    arranged = by_rows(y)
    targets = real_array(name, arranged, hint="; encode labels as numbers (one-hot)")
    if targets.ndim not in (1, 2) or len(targets) != size or 0 in targets.shape:
        raise InputError(
            f"{name}: expected shape ({size},) or ({size}, targets), one row per training input, got shape "
            f"{targets.shape}."
        )
    targets = targets.astype(np.float64)
    refuse_infinite(name, targets, "drop or impute those samples")
    largest = _largest(targets, name)
    if 0 < largest < 1 / _LARGEST:
        raise InputError(f"{name}: its largest entry, {largest:.3g}, is so small that its square is 0; divide by it.")
    refuse_other_labels(Labels(name, labels_of(arranged)), inputs, "rows")
    return targets


def checked_like(
    values: ArrayLike | xr.DataArray,
    shape: tuple[int, ...],
    name: str,
    inputs: Labels = UNLABELLED,
    targets: Labels = UNLABELLED,
) -> FloatArray:
    """Finite float64 values of exactly this shape, of these inputs (and targets). Raises InputError."""
    arranged = by_rows(values)
    array = real_array(name, arranged, expected=f"real numbers of shape {shape}")
    if array.shape != shape:
        raise InputError(f"{name}: expected real numbers of shape {shape}, got shape {array.shape} of {array.dtype}.")
    array = array.astype(np.float64)
    refuse_infinite(name, array, "leave those samples out")
    _largest(array, name)
    refuse_other_labels(Labels(name, labels_of(arranged)), inputs, "rows")
    refuse_other_labels(Labels(name, labels_of(arranged, 1)), targets, "targets")
    return array


def _largest(values: FloatArray, name: str) -> float:
    largest = float(np.abs(values).max(initial=0.0))
    if largest > _LARGEST:
        raise InputError(
            f"{name}: its largest entry, {largest:.3g}, is so large that its square is no number; divide by it."
        )
    return largest


def refuse_overflow(values: FloatArray | float, name: str) -> None:
    """Raise InputError where a result computed from finite targets is not finite."""
    bad = int(np.sum(~np.isfinite(values)))
    if bad:
        raise InputError(
            f"y: {bad} of {np.size(values)} values of {name} are beyond the largest number; divide the targets by "
            "their largest entry."
        )


def checked_times(times: ArrayLike, name: str = "times") -> FloatArray:
    """Increasing moments from 0 on, infinity allowed. Raises InputError."""
    moments = np.atleast_1d(real_array(name, times, expected="a list of real numbers"))
    if moments.ndim != 1 or not moments.size or moments.dtype.kind == "b":
        raise InputError(
            f"{name}: expected a list of real numbers, got shape {moments.shape} of dtype {moments.dtype}."
        )
    moments = moments.astype(np.float64)
    if np.isnan(moments).any():
        raise InputError(f"{name}: {int(np.isnan(moments).sum())} of {len(moments)} are NaN; leave them out.")
    if moments.min() < 0:
        raise InputError(f"{name}: expected no negative time, got {moments.min():.6g}; training starts at 0.")
    falls = np.flatnonzero(~(moments[1:] > moments[:-1]))
    if len(falls):
        at = int(falls[0]) + 1
        raise InputError(
            f"{name}: expected increasing times, but {name}[{at}] = {moments[at]:.6g} follows "
            f"{moments[at - 1]:.6g}; pass numpy.unique({name})."
        )
    return moments


def checked_steps(steps: ArrayLike, name: str = "steps") -> FloatArray:
    """Increasing whole numbers from 0 on. Raises InputError."""
    counts = checked_times(steps, name)
    bad = np.flatnonzero((counts != np.floor(counts)) | (counts > 2**53))
    if len(bad):
        raise InputError(f"{name}: expected whole numbers, got {counts[bad[0]]:.6g} at [{bad[0]}].")
    return counts
