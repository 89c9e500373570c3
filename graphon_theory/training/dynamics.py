"""Training in the limit on squared loss, in closed form: gradient flow and gradient descent (THEORY §7)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import (
    checked_like,
    checked_steps,
    checked_times,
    positive_number,
    refuse_infinite,
    refuse_overflow,
    truth,
)
from graphon_theory.data.labels import MODE, TIME, Variables
from graphon_theory.errors import ConvergenceError, InputError, KernelError, shown, shown_text
from graphon_theory.spectra.kernel_spectra import spectrum
from graphon_theory.spectra.linear_operators import is_operator
from graphon_theory.training.kernel_motions import kernel_change, squared_distance
from graphon_theory.training.krylov_training import grid_of, problem_of
from graphon_theory.training.linear_training import Learned, LinearTraining, NewInputs, momentum_matrices
from graphon_theory.training.loss_flows import LossTraining
from graphon_theory.training.output_losses import Loss

if TYPE_CHECKING:
    import xarray as xr

_PER_DECADE = 50  # moments looked at for the best one
_EARLY = 1e-3  # share of the fastest mode's time from which errors of a Krylov space are looked at
_NOISE = 64  # roundings of a test kernel below which a null mode has nothing of it


def gradient_flow(
    kernel: ArrayLike | xr.DataArray,
    y: ArrayLike | xr.DataArray,
    times: ArrayLike,
    *,
    test_kernel: ArrayLike | xr.DataArray | None = None,
    learning_rate: float = 1.0,
    ridge: float = 0.0,
    initial: ArrayLike | xr.DataArray | None = None,
    test_initial: ArrayLike | xr.DataArray | None = None,
    y_test: ArrayLike | xr.DataArray | None = None,
    loss: str | Loss = "squared",
    width: float | None = None,
    nngp: ArrayLike | xr.DataArray | None = None,
    depth: int | None = None,
) -> xr.Dataset:
    """Loss and predictions in time of gradient flow on L = 1/(2N) sum (f - y)^2 from f_0 (THEORY §7).

    With lambda_i, phi_i the modes of the kernel (`spectrum`) and c_i = (1/N) sum_n phi_i(x_n) (y_n - f_0(x_n)),

        f(t) = f_0 + sum_i g_i(t) c_i phi_i,                  L(t) = 1/2 sum_i c_i^2 (1 - g_i(t))^2,
        g_i(t) = lambda_i / (lambda_i + ridge) (1 - exp(-eta (lambda_i + ridge) t)),

    at new inputs with lambda_i phi_i by the test kernel, (1/N) Theta(x, X) phi_i(X). Modes at rounding level
    (``rounding_level`` of `spectrum`) are null: without ridge they count as eigenvalue 0, leave the training inputs
    alone, and move predictions elsewhere by eta t times what the test kernel has of them, until rounding alone could
    have learned them (eta t eps lambda_1 = 1): infinite time is kernel regression by pseudo-inverse, with a ridge
    Theta (Theta + N ridge)^-1. Late times magnify errors of the kernels by eta t.

    Args:
        kernel: (N, N), symmetric positive semi-definite: ``limit_kernel(network, x).ntk``. With a leading "output"
            it is one kernel where the outputs share it, else column o of ``y`` goes with the kernel of output o. Or a
            linear operator such as `kernel_operator` makes: then "modes" are those of the Krylov space of the targets,
            grown until predictions at the training inputs are known to 1e-8 of what is left to learn at all ``times``
            (attrs ``krylov_error``, a bound, in units of the targets, and ``products``); at a new input x the error is
            at most (Theta(x, x) eta t)^1/2 times that, or (Theta(x, x) / ridge)^1/2 if that is less. Without a ridge
            late times take many products, and ``inf`` mostly more than 2,000 dimensions, which are refused.
        y: training targets (N,), or (N, k) for k outputs that share the kernel or have k kernels; the loss sums over
            them.
        times: increasing, not negative, ``inf`` allowed; a unit of time is one small step of gradient descent
            at that learning rate.
        test_kernel: (M, N), new inputs by training inputs: ``limit_kernel(network, x_new, x).ntk``, or such an
            operator.
        learning_rate: eta > 0.
        ridge: weight of 1/2 |theta - theta_0|^2 beside the loss; ``loss`` is reported without it.
        initial, test_initial: f_0 at the training inputs, shaped like ``y``, and at the new ones; 0 if left out.
        y_test: targets of the new inputs, for ``test_loss``. Where it is least is the time to stop
            (`best_stopping_time`).
        loss: "squared", or another: see below.
        width, nngp, depth: for ``kernel_change``: the units of the last hidden layer that an output reads (its width
            times the density of the last mask), ``limit_kernel(network, x).nngp``, and the number of weight layers L.

    *Lazy or not.* A network of n such units moves its parameters by |theta_t - theta_0|^2 = sum_i c_i^2 g_i^2 /
    lambda_i, its ``squared_distance``. In a homogeneous network every layer's weights grow by it, the kernel is a sum
    of products of L - 1 layers, and its largest eigenvalue changes by about

        kernel_change = (1 + L s)^(1 - 1/L) - 1,    s = share squared_distance tr(Theta) / (tr(K) L n),

    share = min(1, 1.5 lambda_1 / sum_i lambda_i) of the growth being in the first mode's directions. An estimate,
    within a factor of 2 of most drawn ReLU networks from changes of 1% to 300%; beyond, it says that the limit is no
    guide; bounded activations change by a half to a third of it. To it come changes of either sign of order
    n^(-1/2) |f_0| / |y|.

    *Other losses.* ``loss="cross_entropy"`` of labels y (N,), L = mean of log sum_o exp(f_o) - f_y, or a function of
    outputs and y that gives the loss and its derivative in the outputs. Then f_t = f_0 + Theta beta_t with d beta / dt
    = -eta (dL/df + ridge beta), which is integrated (SciPy's LSODA). Of outputs with kernels of their own, column o of
    beta goes with the kernel of output o, and a test kernel has as many; times are finite. The Dataset has ``loss``,
    ``prediction``, with a test kernel ``test_prediction`` and ``test_loss``, for labels ``accuracy`` and
    ``test_accuracy``; attrs also ``loss`` and ``integration_error``, by how much a prediction moved at most between
    relative tolerances of 1e-9 and 1e-11. Outputs that no label reaches need an ``initial`` of their shape, zeros or
    draws of the NNGP.

    Returns a Dataset: ``loss`` ("time"), ``prediction`` ("time", "x"[, "target"]), with a test kernel also
    ``test_prediction`` ("time", "x_test"[, "target"]) and ``test_loss`` ("time") = 1/(2M) sum of squares, and over
    "mode" the ``rate`` eta (lambda_i + ridge) (0 for null modes without ridge), the ``floor`` 1 - g_i(inf), and
    ``target_power`` p_i = 1/2 sum_targets c_i^2, so that L(t) = sum_i p_i (floor_i + (1 - floor_i) exp(-rate_i t))^2.
    Where outputs have kernels of their own, modes are those of all outputs, the coordinate "output" says whose. The
    predictions of T times take T * N * k numbers. attrs: ``learning_rate``, ``ridge``, ``null_modes`` (how many).

    Raises KernelError (either kernel) and InputError (all else; also where labels differ, and where losses or
    predictions are beyond the largest number), and for operators ConvergenceError.
    """
    eta, delta = positive_number("learning_rate", learning_rate), positive_number("ridge", ridge, zero=True)
    moments = checked_times(times)
    moved = [name for name, one in (("width", width), ("nngp", nngp), ("depth", depth)) if one is not None]
    if not isinstance(loss, str) or loss != "squared":
        if moved:
            raise InputError(f"{moved[0]}: the estimate of the kernel's change is one for the squared loss.")
        training = LossTraining(kernel, y, loss, initial, test_kernel, test_initial, y_test)
        betas, error = training.flow(moments, eta, delta)
        attrs = {"learning_rate": eta, "ridge": delta, "integration_error": error}
        return training.dataset(moments, betas, attrs)
    if moved and is_operator(kernel):
        raise KernelError(f"{moved[0]}: the kernel's change takes all modes; pass the matrix (limit_kernel) as kernel.")

    def course(problem: LinearTraining) -> Learned:
        return problem.flow(grid_of(moments, _EARLY / (eta * float(problem.rates(delta)[0]))), eta, delta)

    problem, said = problem_of(kernel, y, initial, course)
    variables: Variables = {
        "rate": ((MODE,), eta * problem.rates(delta)),
        "floor": ((MODE,), 1 - problem.share(delta)),
    }
    attrs = {"learning_rate": eta, "ridge": delta, **said}
    learned = problem.flow(moments, eta, delta)
    if moved:
        if width is None or nngp is None or depth is None:
            raise InputError("width, nngp, depth: give all three, or none.")
        distance = squared_distance(problem, learned)
        change = kernel_change(problem, distance, nngp, depth, width)
        variables |= {"squared_distance": ((TIME,), distance), "kernel_change": ((TIME,), change)}
    return problem.dataset(moments, learned, variables, attrs, test_kernel, test_initial, y_test)


def gradient_descent(
    kernel: ArrayLike | xr.DataArray,
    y: ArrayLike | xr.DataArray,
    steps: ArrayLike,
    *,
    learning_rate: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    test_kernel: ArrayLike | xr.DataArray | None = None,
    ridge: float = 0.0,
    initial: ArrayLike | xr.DataArray | None = None,
    test_initial: ArrayLike | xr.DataArray | None = None,
    y_test: ArrayLike | xr.DataArray | None = None,
    loss: str | Loss = "squared",
) -> xr.Dataset:
    """Loss and predictions after whole steps of full-batch gradient descent on the loss of `gradient_flow`.

    In mode i, with z = eta (lambda_i + ridge), what is left to learn obeys

        e_{k+1} = (1 - z + beta) e_k - beta e_{k-1}              heavy ball, e_1 = (1 - z) e_0,
        e_{k+1} = (1 - z) ((1 + beta) e_k - beta e_{k-1})        Nesterov,   e_1 = (1 - (1 + beta) z) e_0,

    which is torch.optim.SGD with that momentum (and ``nesterov``), and weight decay towards theta_0. The recursion is
    not stepped through: powers of its 2 x 2 matrix are taken, so late steps cost no more than early ones. With momentum
    roundings grow like k eps; without, (1 - z)^k is taken by log1p, and they do not.

    With another ``loss`` (see `gradient_flow`) the steps are gone through, 100,000 at most, and the Dataset is that of
    the other losses.

    ``learning_rate`` and ``steps`` (increasing whole numbers) as in training; the rest as in `gradient_flow`. A rate
    above `critical_learning_rate` diverges, and is computed as long as numbers hold it.

    Returns the Dataset of `gradient_flow` with ``time`` counting steps, without ``floor`` and ``rate``; over "mode"
    there is the ``multiplier``, the largest modulus of what one step multiplies e_i by (below 1: stable). attrs:
    ``learning_rate``, ``momentum``, ``nesterov``, ``ridge``, ``null_modes``.

    A linear operator in place of the kernel is taken as there, without momentum and at rates that do not diverge.

    Raises as `gradient_flow`, and ConvergenceError where the numbers overflow.
    """
    counts = checked_steps(steps)
    eta, delta = positive_number("learning_rate", learning_rate), positive_number("ridge", ridge, zero=True)
    beta = _checked_momentum(momentum, nesterov)
    if not isinstance(loss, str) or loss != "squared":
        training = LossTraining(kernel, y, loss, initial, test_kernel, test_initial, y_test)
        found = training.descent(counts, eta, delta, beta, nesterov)
        given = {"learning_rate": eta, "momentum": beta, "nesterov": int(nesterov), "ridge": delta}
        return training.dataset(counts, found, given)
    factor = _growth(kernel, eta, delta, beta) if is_operator(kernel) else 1.0

    def course(problem: LinearTraining) -> Learned:
        return problem.descent(grid_of(counts, 1.0, whole=True), eta, delta)

    problem, said = problem_of(kernel, y, initial, course, factor=factor)
    learned = problem.descent(counts, eta, delta, beta, nesterov)
    with np.errstate(over="ignore", invalid="ignore"):
        held = np.isfinite((1 - learned.fraction) ** 2 @ problem.power + np.abs(learned.response).sum(axis=1))
    if not held.all():
        raise ConvergenceError(
            f"learning_rate: gradient descent diverges and overflows by step {counts[int(np.argmin(held))]:.0f}; stay "
            f"below critical_learning_rate = {_critical(float(problem.values[0]) + delta, beta, nesterov):.6g}."
        )
    variables: Variables = {"multiplier": ((MODE,), _moduli(eta * problem.rates(delta), beta, nesterov))}
    attrs = {"learning_rate": eta, "momentum": beta, "nesterov": int(nesterov), "ridge": delta, **said}
    return problem.dataset(counts, learned, variables, attrs, test_kernel, test_initial, y_test)


def _growth(kernel: Any, eta: float, ridge: float, beta: float) -> float:
    """By how much steps may magnify what the Krylov space misses; refuses momentum and rates that diverge."""
    if beta:
        raise KernelError(
            "momentum: got a linear operator as kernel, for which errors of descent with momentum are not bounded; "
            "leave momentum out, or pass the matrix (limit_kernel)."
        )
    top = float(spectrum(kernel, 1).eigenvalue[0])
    if eta * (top + ridge) >= 2:
        raise ConvergenceError(
            "learning_rate: gradient descent diverges; stay below critical_learning_rate = "
            f"{_critical(top + ridge, 0.0, False):.6g}."
        )
    return max(1.0, eta * top / (2 - eta * (top + ridge)))


def critical_learning_rate(
    kernel: ArrayLike | xr.DataArray, *, momentum: float = 0.0, nesterov: bool = False, ridge: float = 0.0
) -> float:
    """The largest stable step of gradient descent on the loss of `gradient_flow` (THEORY §7).

    2 / lambda_1; with momentum beta 2 (1 + beta) / lambda_1, Nesterov's 2 (1 + beta) / ((1 + 2 beta) lambda_1).
    lambda_1 is the kernel's largest eigenvalue divided by N, plus the ridge; of several kernels of outputs the largest.

    Raises KernelError as `spectrum` does, InputError for the numbers.
    """
    beta = _checked_momentum(momentum, nesterov)
    top = float(spectrum(kernel, 1).eigenvalue.max()) + positive_number("ridge", ridge, zero=True)
    return _critical(top, beta, nesterov)


def time_to_loss(flow: xr.Dataset, level: float) -> float:
    """The time at which the training loss of `gradient_flow` has fallen to ``level``.

    Solved on L(t) = sum_i p_i (floor_i + (1 - floor_i) exp(-rate_i t))^2, not on the flow's own times: 0 if the
    loss starts below the level, infinity if null modes or the ridge keep it above.

    Raises InputError when ``level`` is not a positive number, or ``flow`` is not what `gradient_flow` returned.
    """
    level = positive_number("level", level)
    if not {"rate", "floor", "target_power"} <= set(getattr(flow, "data_vars", ())):
        raise InputError("flow: expected the Dataset that gradient_flow() returns; steps of descent: steps_to_loss().")
    shapes = {(flow[one].dims, flow[one].dtype.kind) for one in ("rate", "floor", "target_power")}
    if shapes != {((MODE,), "f")}:
        raise InputError(f"flow: expected rate, floor and target_power over modes, got {shown_text(str(shapes))}.")
    for one in ("rate", "floor", "target_power"):
        refuse_infinite(f"flow.{one}", flow[one].values, "pass what gradient_flow() returned")
    return _time(flow.rate.values, flow.target_power.values, flow.floor.values, level)


def time_of(problem: LinearTraining, level: float, ridge: float = 0.0) -> float:
    """`time_to_loss` for a problem, at learning rate 1."""
    return _time(problem.rates(ridge), problem.power, 1 - problem.share(ridge), level)


def _time(rates: FloatArray, power: FloatArray, floor: FloatArray, level: float) -> float:
    from scipy.optimize import brentq

    def loss(time: float) -> float:
        return float(power @ (floor + (1 - floor) * np.exp(-rates * time)) ** 2)

    if loss(0.0) <= level:
        return 0.0
    if power @ floor**2 >= level:
        return math.inf
    # no mode falls faster than the fastest, so the loss is above its start times exp(-2 rate t)
    early = math.log(level / loss(0.0)) / (-2 * rates.max())
    late = 2 * early
    while loss(late) > level:
        early, late = late, 2 * late
    if loss(early) <= level:
        return early
    log_time = brentq(lambda s: loss(math.exp(s)) / level - 1, math.log(early), math.log(late), xtol=1e-13)
    return math.exp(float(log_time))


def best_stopping_time(
    kernel: ArrayLike | xr.DataArray,
    y: ArrayLike | xr.DataArray,
    test_kernel: ArrayLike | xr.DataArray,
    y_test: ArrayLike | xr.DataArray,
    *,
    learning_rate: float = 1.0,
    ridge: float = 0.0,
) -> tuple[float, float]:
    """When to stop gradient flow from f_0 = 0: the time of the least test loss 1/(2M) sum (f_t - y_test)^2, and it.

    The best of times spread over all rates, then refined between its neighbours: a local least that is narrower than a
    fiftieth of a decade may be missed. 0 where training never helps, infinity where it is best to the end. Arguments as
    in `gradient_flow`.

    Raises KernelError and InputError as `gradient_flow`.
    """
    problem = LinearTraining.of(kernel, y)
    eta, delta = positive_number("learning_rate", learning_rate), positive_number("ridge", ridge, zero=True)
    new = problem.at_new(test_kernel)
    count = len(new.projections)
    wanted = checked_like(y_test, (count, *problem.shape), "y_test", new.inputs, problem.targets).reshape(count, -1)
    time, loss = best_stop_of(problem, new, wanted, delta)
    refuse_overflow(loss, "the test loss")
    return time / eta, loss


def best_stop_of(
    problem: LinearTraining, new: NewInputs, wanted: FloatArray, ridge: float = 0.0
) -> tuple[float, float]:
    """`best_stopping_time` for a problem, its modes at new inputs and their targets, at learning rate 1."""
    from scipy.optimize import minimize_scalar

    projections, rates = new.projections, problem.rates(ridge)
    slowest = rates.min()
    if not problem.ridged(ridge):
        # a rounding that grows with time is no reason to stop
        noise = _NOISE * problem.rounding / problem.values[0] * np.linalg.norm(projections, axis=1, keepdims=True)
        projections = np.where(problem.learns | (np.abs(projections) > noise), projections, 0.0)
        slowest = problem.rounding if projections[:, ~problem.learns].any() else rates[problem.learns].min()

    def loss(time: float) -> float:
        learned = problem.flow(np.array([time]), 1.0, ridge).response[0]
        missed = projections @ (learned[:, None] * problem.coefficients) - wanted
        with np.errstate(over="ignore"):
            return float(np.sum(missed**2)) / (2 * len(wanted))

    low, high = math.log10(1e-3 / rates.max()), math.log10(50 / slowest)
    places = np.linspace(low, high, 2 + math.ceil(_PER_DECADE * (high - low)))
    losses = [loss(10**place) for place in places]
    best = int(np.argmin(losses))
    ends = float(places[max(best - 1, 0)]), float(places[min(best + 1, len(places) - 1)])
    refined = minimize_scalar(lambda place: loss(10**place), bounds=ends, method="bounded", options={"xatol": 1e-7})
    found = [(0.0, loss(0.0)), (10 ** float(refined.x), float(refined.fun)), (math.inf, loss(math.inf))]
    # an end of the range is as good as the end itself
    least = min(value for _, value in found)
    return next(one for one in (found[0], found[2], found[1]) if one[1] <= least * (1 + 1e-12))


def steps_to_loss(
    kernel: ArrayLike | xr.DataArray,
    y: ArrayLike | xr.DataArray,
    level: float,
    learning_rate: float,
    *,
    ridge: float = 0.0,
    initial: ArrayLike | xr.DataArray | None = None,
) -> float:
    """The number of plain gradient descent steps after which the training loss is at most ``level``.

    Least k with 1/2 sum_i c_i^2 (1 - g_i (1 - (1 - eta (lambda_i + ridge))^k))^2 <= level, g_i = lambda_i / (lambda_i +
    ridge); infinity if null modes or the ridge keep the loss above. ``ridge`` and ``initial`` as in `gradient_flow`.

    Raises KernelError, and InputError also for a learning rate that is not below `critical_learning_rate`.
    """
    problem = LinearTraining.of(kernel, y, initial)
    level, eta = positive_number("level", level), positive_number("learning_rate", learning_rate)
    delta = positive_number("ridge", ridge, zero=True)
    critical = _critical(float(problem.values[0]) + delta, 0.0, False)
    if eta >= critical:
        raise InputError(
            f"learning_rate: {eta:.6g} is not below critical_learning_rate = {critical:.6g}; training diverges."
        )
    return steps_of(problem, level, eta, delta)


def steps_of(problem: LinearTraining, level: float, eta: float, ridge: float = 0.0) -> float:
    """`steps_to_loss` for a problem and a stable rate."""
    power = problem.power

    def reached(steps: int) -> bool:
        learned = problem.descent(np.array([float(steps)]), eta, ridge).fraction[0]
        return float(power @ (1 - learned) ** 2) <= level

    if reached(0):
        return 0.0
    if power @ (1 - problem.share(ridge)) ** 2 >= level:
        return math.inf
    low, high = 0, 1
    while not reached(high):
        low, high = high, 2 * high
        if high > 2**1000:
            raise InputError(f"learning_rate: {eta:.3g} is too small, even 2^1000 steps do not reach the level.")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return float(high)


def _critical(top: float, beta: float, nesterov: bool) -> float:
    return 2 * (1 + beta) / ((1 + 2 * beta) * top if nesterov else top)


def _moduli(z: FloatArray, beta: float, nesterov: bool) -> FloatArray:
    if beta == 0.0:
        return np.abs(1 - z)
    return np.asarray(np.abs(np.linalg.eigvals(momentum_matrices(z, beta, nesterov))).max(axis=1))


def _checked_momentum(momentum: float, nesterov: bool) -> float:
    beta = positive_number("momentum", momentum, zero=True)
    if beta >= 1:
        raise InputError(f"momentum: expected a number from 0 to below 1, got {shown(momentum)}.")
    if truth("nesterov", nesterov) and beta == 0.0:
        raise InputError("nesterov: it changes nothing without momentum; give momentum, or leave it out.")
    return beta
