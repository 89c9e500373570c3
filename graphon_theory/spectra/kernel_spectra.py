"""The spectrum of a kernel under its sample's law (THEORY §6)."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import norm

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import (
    as_cross_kernel,
    as_kernel,
    checked_count,
    checked_weights,
    positive_number,
    refuse_infinite,
)
from graphon_theory.data.fingerprints import is_as_made
from graphon_theory.data.labels import MODE, OUTPUT, Labels, Variables, X, dataset, inputs_of, labels_of
from graphon_theory.data.output_kernels import each_kernel
from graphon_theory.errors import InputError, KernelError, shown
from graphon_theory.spectra.eigensolvers import (
    LANCZOS,
    check_positive,
    check_symmetric,
    is_large,
    lanczos,
    largest_eigenpairs,
)
from graphon_theory.spectra.linear_operators import as_cross_operator, as_operator, is_operator, unseen

if TYPE_CHECKING:
    import xarray as xr

# What counts as rounding below zero, relative to lambda_1: limit_kernel's own default tolerance is 1e-10.
_SMALL = 1e-140  # entries whose squares lose digits to underflow
_NEGATIVE_SLACK = 1e-10
# A sample of N inputs blurs the tail of the operator's spectrum: only N / _FIT_SHARE modes are fitted.
_FIT_SHARE = 10


def spectrum(
    kernel: ArrayLike | xr.DataArray,
    count: int | None = None,
    *,
    weights: ArrayLike | xr.DataArray | None = None,
    fit_range: tuple[int, int] | None = None,
) -> xr.Dataset:
    """Eigenvalues and eigenfunctions of (T f)(x) = int Theta(x, x') f(x') drho(x'), rho the sample's law.

    On a sample of N inputs the operator is the matrix Theta / N (Nystrom, THEORY §6), so that eigenvalues
    converge as N grows. With ``weights`` w the law is sum_i w_i delta(x_i): the nodes and weights of a quadrature
    rule for a Gaussian law, for one, or importance weights.

    Args:
        kernel: symmetric positive semi-definite matrix (N, N), such as ``limit_kernel(network, x).ntk``; with a leading
            "output" it is one kernel where the outputs share it, else the spectrum of each. Or a linear operator such
            as `kernel_operator` makes; then a few modes are found by products alone.
        count: how many of the largest modes to compute; all N if left out.
        weights: (N,), positive; divided by their sum. Equal if left out.
        fit_range: (first, last) mode of the fit of the decay, counted from 1.

    Returns a Dataset over ``mode`` = 1..count, largest first:

    - ``eigenvalue``: lambda_k of the operator: for equal weights, of Theta / N.
    - ``eigenfunction`` ("x", "mode"): mean square 1 under the law; the first entry of largest magnitude is
      positive.
    - ``energy``: (lambda_1 + ... + lambda_k) / trace, between 0 and 1.
    - ``residual``: ||T phi_k - lambda_k phi_k|| / lambda_1 in the law's root mean square.
    - ``weight`` ("x",), where weights were given.

    with attrs ``effective_rank`` = trace / lambda_1, ``participation`` = trace^2 / |T|_F^2 = (sum lambda)^2 / sum
    lambda^2, the number of modes that share the trace, ``gap`` = lambda_1 / lambda_2 (infinite if lambda_2 is
    at rounding level), ``rounding_level`` (below it an eigenvalue is noise), ``solver``, and, where at least three
    modes can be fitted, ``decay_exponent`` alpha of lambda_k ~ k^-alpha: least squares of log lambda on log k
    over ``decay_range`` = (first, last) mode, with ``decay_error``, the standard error of that slope (of the scatter
    about the line; it knows nothing of a bend). Without ``fit_range``, the first mode, nearly constant, is left out
    of the fit, and so are modes beyond N / 10 (the sample blurs them) or at rounding level.

    Of outputs with kernels of their own, "output" leads every variable, and ``effective_rank``, ``participation``,
    ``gap``, ``rounding_level``, ``decay_exponent`` and ``decay_error`` are variables over it (NaN where nothing is
    fitted).

    That a matrix has no negative eigenvalue beyond rounding is found by factorising it. A kernel that the engine made
    has none by construction, and is known by its type (`kernel_operator`) or, as a DataArray from 5,000 inputs on, by
    the fingerprint among its attrs, four sums over all its entries: one that was changed by more than rounding does not
    have it, and is factorised. (Nobody is kept from forging one.) Of any other linear operator the least value in the
    Krylov space is looked at: attrs ``negative_unseen`` is epsilon such that an eigenvalue below -epsilon (lambda_1 +
    |that eigenvalue|) has been seen but with a probability of 1e-6 (Kuczynski and Wozniakowski 1992).
    ``products`` counts blocks of vectors. Of operators whose tiles are not kept there is no ``participation``.

    Eigenfunctions of (nearly) equal eigenvalues span the right space but are free to turn within it.

    Raises KernelError (not square, not finite, zero, or not symmetric or not positive semi-definite beyond
    rounding) and InputError (``count`` outside 1..N, ``weights``, ``fit_range``, labels that differ).
    """
    kernels = each_kernel(kernel)
    if len(kernels) > 1:
        return _of_outputs([spectrum(one, count, weights=weights, fit_range=fit_range) for one in kernels])
    kernel = kernels[0]
    if is_operator(kernel):
        return _operator_modes(kernel, count, weights, fit_range)
    matrix = as_kernel(kernel)
    inputs = inputs_of(kernel)
    size = len(matrix)
    wanted = checked_count(count, size)
    law = None if weights is None else checked_weights(weights, size, inputs)
    fitted = None if fit_range is None else _checked_range(fit_range, wanted)
    eps = precision_of(kernel)
    made = is_as_made(kernel)
    if not made:
        check_symmetric(matrix, eps)
    if not matrix.any():
        raise KernelError(
            "kernel: every entry is zero, so that there is no spectrum; a layer of the network lets no "
            "signal through (is a variance graphon or a weight_variance zero?)."
        )
    coords = {} if inputs.values is None else {X: inputs.values}
    return modes_of(matrix, wanted, law, eps, coords, fitted, made=made)


def modes_of(
    matrix: FloatArray,
    wanted: int,
    law: FloatArray | None,
    eps: float,
    coords: dict[str, Any],
    fitted: tuple[int, int] | None = None,
    floor: float = 0.0,
    *,
    made: bool = False,
) -> xr.Dataset:
    """What `spectrum` returns, of a symmetric matrix and a law that have been checked.

    ``floor`` is the operator's eigenvalue that counts as rounding where the matrix is a difference of larger ones;
    ``made``: whether it is known to be positive semi-definite.
    """
    size = len(matrix)
    # the symmetric matrix of the operator between functions times the root of the law
    if law is None:
        scale, root = float(size), np.full((1, 1), 1 / np.sqrt(size))
    else:
        scale, root = 1.0, np.sqrt(law)[:, None]
        matrix = root * matrix * root.T
    trace = float(np.trace(matrix)) / scale

    # lambda_2 is needed for the gap even where one mode is asked for.
    computed = min(max(wanted, 2), size)
    values, vectors, solver = largest_eigenpairs(matrix, computed, eps)
    if floor > 0 and values[0] <= floor * scale:
        raise KernelError(
            f"kernel: what is left of it ({values[0] / scale:.3g}) is rounding of what was taken out; it is constant."
        )
    slack = max(_NEGATIVE_SLACK, 8 * size * eps, floor * scale / float(values[0]))
    if not made:
        check_positive(matrix, values, slack)
    residuals = np.linalg.norm(matrix @ vectors - vectors * values, axis=0) / values[0]
    found, whole = Found(values, vectors, solver), _whole(matrix)
    return _labelled(found, residuals, scale, root, trace, whole, eps, wanted, law, coords, fitted, floor)


class Found(NamedTuple):
    """Eigenvalues of a matrix, falling, their orthonormal vectors, and which solver found them."""

    values: FloatArray
    vectors: FloatArray
    solver: str


def _whole(matrix: FloatArray) -> float:
    """The Frobenius norm; of very small matrices, whose squares are no numbers, by way of their largest entry."""
    unit = float(np.diagonal(matrix).max())
    return unit * float(norm(matrix / unit)) if 0 < unit < _SMALL else float(norm(matrix, check_finite=False))


def _labelled(
    found: Found,
    residuals: FloatArray,
    scale: float,
    root: FloatArray,
    trace: float,
    whole: float | None,
    eps: float,
    wanted: int,
    law: FloatArray | None,
    coords: dict[str, Any],
    fitted: tuple[int, int] | None,
    floor: float = 0.0,
) -> xr.Dataset:
    """The modes as `spectrum` returns them; ``scale`` and ``root`` of the law make the operator of the matrix.

    ``whole``: the Frobenius norm of the matrix, where it is known.
    """
    values, vectors = found.values / scale, found.vectors
    size = len(vectors)
    rounding = max(size * eps * float(values[0]), floor)
    attrs: dict[str, object] = {
        "effective_rank": trace / float(values[0]),
        **({"participation": (trace * scale / whole) ** 2} if whole else {}),
        "gap": float(values[0] / values[1]) if size > 1 and values[1] > rounding else float("inf"),
        "rounding_level": rounding,
        "solver": found.solver,
    }
    values, vectors, residuals = values[:wanted], vectors[:, :wanted], residuals[:wanted]
    attrs |= _decay(values, size, rounding, fitted)
    variables: Variables = {
        "eigenvalue": ((MODE,), values),
        "eigenfunction": ((X, MODE), _with_fixed_signs(vectors / root)),
        "energy": ((MODE,), np.cumsum(values) / trace),
        "residual": ((MODE,), residuals),
    }
    if law is not None:
        variables["weight"] = ((X,), law)
    return dataset(variables, coords={MODE: np.arange(1, wanted + 1), **coords}, attrs=attrs)


def _operator_modes(
    kernel: Any,
    count: int | None,
    weights: ArrayLike | xr.DataArray | None,
    fit_range: tuple[int, int] | None,
) -> xr.Dataset:
    """`spectrum` of a linear operator: by products alone, or by its matrix where that is small."""
    operator = as_operator(kernel)
    size, inputs = operator.shape[0], operator.inputs
    wanted = checked_count(count, size)
    coords = {} if inputs.values is None else {X: inputs.values}
    law = None if weights is None else checked_weights(weights, size, inputs)
    fitted = None if fit_range is None else _checked_range(fit_range, wanted)
    computed = min(max(wanted, 2), size)
    found, scale, root, trace, image = None, float(size), np.full((1, 1), 1 / np.sqrt(size)), 0.0, operator.product
    if is_large(size, computed):
        operator.check_symmetric()
        diagonal = operator.diagonal()
        trace = float(diagonal.mean())
        if law is not None:
            scale, root, trace = 1.0, np.sqrt(law)[:, None], float(law @ diagonal)

            def image(block: FloatArray) -> FloatArray:
                return root * operator.product(root * block)

        found = lanczos(image, size, computed, width=operator.width(computed), eps=operator.eps)
    if found is None:
        matrix = operator.dense()
        check_symmetric(matrix, operator.eps)
        return modes_of(matrix, wanted, law, operator.eps, coords, fitted, made=operator.made)
    slack = max(_NEGATIVE_SLACK, 8 * size * operator.eps)
    top = float(found.values[0])
    if not top > 0 or found.lowest < -slack * top:
        raise KernelError(
            f"kernel: expected a positive semi-definite operator, but it has an eigenvalue of {found.lowest:.3g} or "
            f"less beside its largest, {top:.3g} (allowed: -{slack:.1g} times the largest)."
        )
    vectors = found.vectors
    residuals = np.linalg.norm(image(vectors) - vectors * found.values, axis=0) / top
    modes = Found(found.values, vectors, LANCZOS)
    known = operator.made and operator.keeps_all
    whole = np.sqrt(operator.squares(np.ones(size) if law is None else law)) if known else None
    out = _labelled(modes, residuals, scale, root, trace, whole, operator.eps, wanted, law, coords, fitted)
    out.attrs["products"] = found.products + 1
    if not operator.made:
        out.attrs["negative_unseen"] = unseen(size, found.products)
    return out


def _of_outputs(found: list[xr.Dataset]) -> xr.Dataset:
    """Spectra of several outputs as one Dataset with a leading "output"."""
    names = ("eigenvalue", "eigenfunction", "energy", "residual")
    variables: Variables = {
        name: ((OUTPUT, *map(str, found[0][name].dims)), np.stack([one[name].values for one in found]))
        for name in names
    }
    for name in ("effective_rank", "participation", "gap", "rounding_level", "decay_exponent", "decay_error"):
        variables[name] = ((OUTPUT,), np.array([float(one.attrs.get(name, np.nan)) for one in found]))
    if "weight" in found[0]:
        variables["weight"] = ((X,), found[0].weight.values)
    coords = {str(name): found[0][name].values for name in found[0].coords}
    return dataset(variables, {**coords, OUTPUT: np.arange(len(found))}, {"solver": found[0].attrs["solver"]})


def extend(modes: xr.Dataset, cross_kernel: ArrayLike | xr.DataArray) -> xr.DataArray:
    """Eigenfunctions at new inputs, by Nystrom (THEORY §6).

        phi_k(x) = 1/lambda_k sum_i w_i Theta(x, x_i) phi_k(x_i),     w_i = 1/N unless `spectrum` had weights.

    Args:
        modes: what `spectrum` returned for the N training inputs.
        cross_kernel: (M, N), new inputs by training inputs: ``limit_kernel(network, x_new, x).ntk``, or
            ``kernel_operator(network, x_new, x)``.

    Returns the DataArray ``eigenfunction`` ("x", "mode") of shape (M, modes), with a leading "output" where ``modes``
    has one. Errors of the kernel are
    magnified by lambda_1 / lambda_k, so modes whose eigenvalue is at rounding level are refused.

    Raises KernelError (shape, values, modes at rounding level) and InputError (``modes`` is not a spectrum, or its
    inputs are labelled otherwise than the columns).
    """
    if OUTPUT in getattr(modes, "sizes", ()) and "rounding_level" in modes:
        kernels = each_kernel(cross_kernel, "cross_kernel", square=False, outputs=modes.sizes[OUTPUT])
        found = [extend(_of_output(modes, o), one) for o, one in enumerate(kernels)]
        coords = {str(name): found[0][name].values for name in found[0].coords}
        stacked = np.stack([one.values for one in found])
        variables: Variables = {"eigenfunction": ((OUTPUT, X, MODE), stacked)}
        return dataset(variables, {**coords, OUTPUT: modes[OUTPUT].values}).eigenfunction
    values, functions, law = parts_of(modes)
    training = Labels("modes", labels_of(modes.eigenfunction.transpose(X, ...)))
    if is_operator(cross_kernel):
        cross, new = as_cross_operator(cross_kernel, "cross_kernel", training, len(functions))
    else:
        one = each_kernel(cross_kernel, "cross_kernel", square=False, outputs=1)[0]
        cross, new = as_cross_kernel(one, "cross_kernel", training, len(functions))
    level = positive_number("modes.attrs['rounding_level']", modes.attrs["rounding_level"], zero=True)
    noise = np.flatnonzero(values <= level)
    if len(noise):
        raise KernelError(
            f"modes: {len(noise)} of {len(values)} eigenvalues are at rounding level ({values[noise[0]]:.3g} "
            f"<= {level:.3g}), so their eigenfunctions cannot be extended; keep the first {noise[0]}: "
            f"modes.isel(mode=slice({noise[0]}))."
        )
    extended = cross @ (law[:, None] * functions / values)
    mode = np.atleast_1d(modes[MODE].values) if MODE in modes.coords else np.arange(1, len(values) + 1)
    coords = {MODE: mode} if new.values is None else {MODE: mode, X: new.values}
    return dataset({"eigenfunction": ((X, MODE), extended)}, coords=coords).eigenfunction


def _of_output(modes: xr.Dataset, output: int) -> xr.Dataset:
    one = modes.isel({OUTPUT: output}, drop=True)
    return one.assign_attrs(rounding_level=float(one.rounding_level))


def parts_of(modes: xr.Dataset) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Eigenvalues (modes,), eigenfunctions (N, modes) and the sample's law (N,) of what `spectrum` returned.

    Raises InputError when ``modes`` is something else.
    """
    if (
        not {"eigenvalue", "eigenfunction"} <= set(getattr(modes, "data_vars", ()))
        or "rounding_level" not in modes.attrs
    ):
        raise InputError(
            "modes: expected the Dataset that spectrum() returns; pass it unchanged or with modes selected."
        )
    if not modes.eigenfunction.size or X not in modes.eigenfunction.dims:
        raise InputError('modes: expected at least one mode, over inputs "x", as spectrum() returns them.')
    if any(modes[one].dtype.kind != "f" for one in ("eigenvalue", "eigenfunction")):
        raise InputError(f"modes: expected real eigenvalues and eigenfunctions, got {modes.eigenfunction.dtype}.")
    values = np.atleast_1d(modes.eigenvalue.values)
    functions = modes.eigenfunction.values.reshape(-1, len(values))
    refuse_infinite("modes", functions, "compute the spectrum again")
    law = modes.weight.values if "weight" in modes else np.full(len(functions), 1 / len(functions))
    return values, functions, law


def _checked_range(fit_range: tuple[int, int], wanted: int) -> tuple[int, int]:
    try:
        first, last = (operator.index(k) for k in fit_range)
    except (TypeError, ValueError):
        raise InputError(f"fit_range: expected (first, last) mode, got {shown(fit_range)}.") from None
    if not 1 <= first < last - 1 or last > wanted:
        raise InputError(
            f"fit_range: expected at least three modes between 1 and {wanted} (those computed), got {shown(fit_range)}."
        )
    return first, last


def precision_of(kernel: ArrayLike | xr.DataArray) -> float:
    """The unit of rounding the kernel was computed with: float32 kernels are symmetric to float32 only."""
    dtype = np.asarray(kernel).dtype
    return float(np.finfo(dtype if dtype in (np.float16, np.float32) else np.float64).eps)


def _with_fixed_signs(vectors: FloatArray) -> FloatArray:
    """Make the first of the entries of largest magnitude positive; ties within 1e-6 count as ties."""
    size = np.abs(vectors)
    leading = np.argmax(size >= (1 - 1e-6) * size.max(axis=0), axis=0)
    return np.asarray(vectors * np.sign(vectors[leading, np.arange(vectors.shape[1])]))


def _decay(values: FloatArray, size: int, rounding: float, fitted: tuple[int, int] | None) -> dict[str, object]:
    above = int(np.sum(values > rounding))
    if fitted is None:
        first, last = 2, min(len(values), max(size // _FIT_SHARE, 4), above)
        if last < 4:
            return {}
    else:
        first, last = fitted
        if last > above:
            raise InputError(
                f"fit_range: mode {above + 1} is at rounding level ({values[above]:.3g}); end the range at {above}."
            )
    log_mode, log_value = np.log(np.arange(first, last + 1)), np.log(values[first - 1 : last])
    centred = log_mode - log_mode.mean()
    slope = float(centred @ log_value / (centred @ centred))
    scatter = log_value - log_value.mean() - slope * centred
    error = float(np.sqrt(scatter @ scatter / (len(centred) - 2) / (centred @ centred)))
    return {"decay_exponent": -slope, "decay_error": error, "decay_range": (first, last)}
