"""Activations: phi, where it is not smooth, and the way to its duals (THEORY §4).

    C = E[phi(f) phi(f')],   Cdot = E[phi'(f) phi'(f')],   (f, f') ~ N((mu, mu'), [[q11, q12], [q12, q22]])

There are three ways, tried in this order: a closed form (:mod:`graphon_theory.closed_duals`), a Hermite series about
each mean for smooth phi (:mod:`graphon_theory.hermite_series`), and the heat flow of phi for everything else
(:mod:`graphon_theory.heat_flows`). The last two report a bound of their error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import ArrayLike, NDArray
from scipy.special import erf, expit, ndtr

from graphon_theory import closed_duals, expressions
from graphon_theory.closed_duals import ClosedForm
from graphon_theory.errors import ActivationError, ExpressionError
from graphon_theory.hermite_series import HermiteSeries, hermite_block

FloatArray = NDArray[np.float64]
Function = Callable[[FloatArray], FloatArray]

_EPS = 2.0**-52
_RANGE = 1e6  # kinks of an expression are looked for in [-_RANGE, _RANGE]
_MOST_KINKS = 64
_STEPS = 4.0  # variances and means are rounded up to powers of 2^(1/_STEPS), so that few series and tables are made


@dataclass(frozen=True)
class DualPass:
    """The duals of one layer, ready for inputs whose means and variances stay below given bounds.

    ``features(mean, q)``: (P, F, N) of means (or 0.0) and variances (P, N), read by the compiled ``block``.
    ``mean(mean, q)``: E[phi] of arrays; ``diagonal(mean, q)``: E[phi^2] and E[phi'^2]. ``error`` bounds the error of C
    and Cdot relative to sqrt(C11 C22) and sqrt(Cdot11 Cdot22); 0 for closed forms, which are right to rounding.
    """

    block: Callable[..., None]
    features: Callable[[ArrayLike, FloatArray], FloatArray]
    diagonal: Callable[[ArrayLike, FloatArray], tuple[FloatArray, FloatArray]]
    mean: Callable[[ArrayLike, FloatArray], FloatArray]
    own: FloatArray
    error: float = 0.0

    def parameters(self, terms: int, eps: float = _EPS) -> FloatArray:
        """Parameters of the compiled pass for moments that are sums of ``terms`` products.

        |rho| within max(4, sqrt(terms)) roundings ``eps`` of 1 counts as 1.
        """
        return np.array([max(4.0, math.sqrt(terms)) * eps, *self.own])


class Activation:
    """A nonlinearity phi, applied after every layer but the last.

    Parameters
    ----------
    function:
        A SymPy expression in z (or its text), whose kinks and jumps are found and whose derivative is taken; or a
        vectorised Python callable, whose derivative is taken numerically between its kinks if it is not given.
    kinks:
        Of a callable: every place where phi, phi' or phi'' jumps. A jump of phi that is not declared is refused when
        the duals are made.
    derivative:
        Of a callable: phi', almost everywhere.
    name:
        What results and files call it; by default the expression's text or the function's name.

    Calling it applies phi elementwise; ``derivative`` applies phi'.

    Raises ActivationError for anything else, ExpressionError for an expression outside the whitelist. An activation
    that grows faster than the Gaussian integrates at the variances met is refused when its duals are asked for.
    """

    name: str

    def __init__(
        self,
        function: str | sp.Expr | Function,
        kinks: Iterable[float] = (),
        *,
        derivative: Function | None = None,
        name: str | None = None,
    ) -> None:
        self.expression: sp.Expr | None = None
        self._closed: ClosedForm | None = None
        self.homogeneous = False
        if callable(function) and not isinstance(function, sp.Basic):
            self.phi = _vectorised(function)
            self._derivative = None if derivative is None else _vectorised(derivative)
            self.kinks = _sorted_kinks(kinks)
            self.name = name or str(getattr(function, "__name__", type(function).__name__))
        elif isinstance(function, (str, sp.Basic)):
            if tuple(kinks) or derivative is not None:
                raise ActivationError(
                    "kinks, derivative: an expression's own are found; leave them out, or pass a callable."
                )
            self._from_expression(expressions.parse(function, ("z",)), name)
        else:
            raise ActivationError(
                f"function: expected a SymPy expression in z, its text, or a callable, got {type(function).__name__}."
            )
        self._prepare()

    def _from_expression(self, expr: sp.Expr, name: str | None) -> None:
        self.expression = expr
        self.name = name or str(expressions.text(expr))
        self.kinks = _kinks_of(expr)
        slope = _derivative_of(expr)
        self.phi = _evaluator(expr)
        self._derivative = _evaluator(slope)
        slopes = _rectifier_slopes(expr)
        if slopes is not None:
            self._closed = closed_duals.rectifier(*slopes)
            self.homogeneous = True

    def _prepare(self) -> None:
        self._heat: Any = None
        self._made: dict[tuple[float, float], DualPass] = {}
        probes = np.array([-1.0, 0.0, 0.5])
        for what, function in (("phi", self.phi), ("phi'", self.derivative)):
            values = function(probes)
            if values.shape != probes.shape:
                raise ActivationError(
                    f"function: {self.name!r} must be vectorised: {what} of an array of shape {probes.shape} has shape "
                    f"{values.shape}."
                )
        self.kinked = any(self._jumps(k) for k in self.kinks)

    @classmethod
    def _named(
        cls,
        name: str,
        phi: Function,
        derivative: Function,
        closed: ClosedForm | None = None,
        kinks: tuple[float, ...] = (),
        homogeneous: bool = False,
    ) -> Activation:
        made = cls(phi, kinks, derivative=derivative, name=name)
        made._closed, made.homogeneous = closed, homogeneous
        return made

    def __call__(self, z: ArrayLike) -> FloatArray:
        """phi(z), elementwise."""
        return self.phi(np.asarray(z, dtype=float))

    def derivative(self, z: ArrayLike) -> FloatArray:
        """phi'(z), elementwise; almost everywhere."""
        z = np.asarray(z, dtype=float)
        return self._heat_flow.derivative(z) if self._derivative is None else self._derivative(z)

    def __repr__(self) -> str:
        return f"Activation({self.name!r})"

    @property
    def named(self) -> bool:
        """Whether it is one of the named activations, which :func:`as_activation` knows."""
        return _NAMED.get(self.name) is self

    @property
    def parameters(self) -> tuple[float, ...]:
        """Of the closed form, if there is one."""
        return () if self._closed is None else self._closed.parameters

    @property
    def bounded(self) -> bool:
        """Whether one pass serves all variances about zero: a closed form that cannot overflow."""
        return self._closed is not None and math.isinf(self._closed.largest)

    @property
    def route(self) -> str:
        """How the centred duals are computed: "closed form", "Hermite series" (small variances) or "heat flow"."""
        if self._closed is not None:
            return "closed form"
        return "heat flow" if self.kinks else "Hermite series, heat flow at large variances"

    def prepared(self, largest_mean: float = 0.0, largest_variance: float = math.inf) -> DualPass:
        """The compiled duals for means up to ``largest_mean`` in size and variances up to ``largest_variance``.

        Raises ActivationError where phi grows too fast for them, naming the largest variance that works.
        """
        closed = self._closed
        if closed is not None:
            if largest_mean + largest_variance > closed.largest and not math.isinf(largest_variance):
                raise ActivationError(
                    f"activation {self.name!r}: E[phi^2] overflows at mean {largest_mean:.4g} and variance "
                    f"{largest_variance:.4g}; their sum must stay below {closed.largest:g}. Lower weight_variance, or "
                    "rescale the inputs."
                )
            if largest_mean == 0 or closed.takes_means:
                return _closed_pass(closed)
            if closed.about_means is not None:
                return _closed_pass(closed.about_means)
        bounds = _rounded_up(largest_mean), _rounded_up(largest_variance)
        if bounds not in self._made:
            self._made[bounds] = self._numerical(*bounds)
        return self._made[bounds]

    def _numerical(self, largest_mean: float, largest_variance: float) -> DualPass:
        if not math.isfinite(largest_variance):
            raise ActivationError(f"activation {self.name!r}: expected finite variances, got {largest_variance}.")
        if not self.kinks:
            series = HermiteSeries.fitting(self.phi, self.derivative, largest_mean, largest_variance)
            if series is not None:
                own = np.array([series.stride, series.offset], dtype=float)
                return DualPass(hermite_block, series.features, series.diagonal, series.mean, own, series.error)
        from graphon_theory.heat_flows import heat_flow_block

        flow = self._heat_flow
        table = flow.prepared(largest_mean, largest_variance)

        return DualPass(heat_flow_block, table.features, flow.diagonal, flow.means, table.parameters, table.error)

    @property
    def _heat_flow(self) -> Any:
        if self._heat is None:
            from graphon_theory.heat_flows import HeatFlow

            jumps = tuple(k for k in self.kinks if self._jumps(k, self.phi))
            self._heat = HeatFlow(self.phi, self._derivative, self.kinks, jumps)
        return self._heat

    def _jumps(self, where: float, function: Function | None = None) -> bool:
        """Whether phi or phi' (or the given function) has different limits on the two sides of a kink."""
        near = 1e-7 * max(1.0, abs(where))
        both = np.array([where - near, where + near])
        functions = (self.phi, self.derivative) if function is None else (function,)
        scale = np.abs(self.phi(where + np.array([-1.0, -0.5, 0.5, 1.0]))).max() + 1e-300
        return any(abs(float(np.diff(f(both))[0])) > 1e-4 * scale for f in functions)

    def moments(self, q12: FloatArray, q11: FloatArray, q22: FloatArray) -> tuple[FloatArray, FloatArray]:
        """C and Cdot about zero means of arrays of one shape that are known to be moments; see :meth:`duals`."""
        if self._closed is not None:
            return self._closed.moments(q12, q11, q22)
        zero = np.zeros_like(q12)
        return self._elementwise(zero, zero, q12, q11, q22)

    def duals(
        self,
        q12: ArrayLike,
        q11: ArrayLike,
        q22: ArrayLike,
        mean1: ArrayLike = 0.0,
        mean2: ArrayLike = 0.0,
    ) -> tuple[FloatArray, FloatArray]:
        """C and Cdot at covariance q12, variances q11, q22 and means (broadcast).

        Closed forms keep full precision up to |rho| = 1: the determinant q11 q22 - q12^2 is formed by two-products.
        The numerical ones stay below ``prepared(...).error`` of their scale. Raises ActivationError for negative
        variances, for |q12| > sqrt(q11 q22) beyond rounding, and where phi grows too fast.
        """
        arrays = np.broadcast_arrays(*(np.asarray(q, dtype=float) for q in (q12, q11, q22, mean1, mean2)))
        cross, first, second, mean, other = (np.array(a) for a in arrays)
        if not all(np.isfinite(a).all() for a in (cross, first, second, mean, other)):
            raise ActivationError("q12, q11, q22: expected finite moments, got NaN or infinity.")
        if (first < 0).any() or (second < 0).any():
            low = min(float(first.min()), float(second.min()))
            raise ActivationError(f"q11, q22: variances cannot be negative, got {low:.6g}.")
        excess = np.abs(cross) - np.sqrt(first) * np.sqrt(second) * (1 + 1e-7)
        if (excess > 0).any():
            raise ActivationError(
                f"q12: |q12| exceeds sqrt(q11 q22) by {float(excess.max()):.3g}; these are no moments of a Gaussian."
            )
        if not cross.size:
            return cross, cross.copy()
        if not mean.any() and not other.any():
            if self._closed is not None:
                self.prepared(0.0, float(max(first.max(), second.max())))
            return self.moments(cross, first, second)
        return self._elementwise(mean, other, cross, first, second)

    def mean(self, mean: ArrayLike, q: ArrayLike) -> FloatArray:
        """E[phi(mean + sqrt(q) z)], broadcast."""
        mu, variance = (np.array(a, dtype=float) for a in np.broadcast_arrays(mean, q))
        if self._closed is not None:
            return np.asarray(self._closed.mean(mu, variance))
        bounds = float(np.abs(mu).max(initial=0.0)), float(variance.max(initial=0.0))
        return self.prepared(*bounds).mean(mu, variance)

    def _elementwise(
        self, mean1: FloatArray, mean2: FloatArray, q12: FloatArray, q11: FloatArray, q22: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """The compiled pass on single pairs: every pair a position of its own."""
        largest_mean = float(max(np.abs(mean1).max(initial=0.0), np.abs(mean2).max(initial=0.0)))
        made = self.prepared(largest_mean, float(max(q11.max(initial=0.0), q22.max(initial=0.0))))
        if made.block is not hermite_block and self._closed is None:
            return self._heat_flow.moments(mean1, mean2, q12, q11, q22)
        shape, count = q12.shape, q12.size
        state = np.ones((count, 2, 1, 1))
        state[:, 0, 0, 0] = q12.ravel()
        out, none = np.empty_like(state), np.zeros((count, 1, 1))
        f1, f2 = (
            np.ascontiguousarray(made.features(m.reshape(count, 1), q.reshape(count, 1)))
            for m, q in ((mean1, q11), (mean2, q22))
        )
        made.block(state, none, False, 0.0, 0.0, f1, f2, 0, 0, out, made.parameters(1))
        return out[:, 0].reshape(shape), out[:, 1].reshape(shape)


def _closed_pass(closed: ClosedForm) -> DualPass:
    def diagonal(mean: ArrayLike, q: FloatArray) -> tuple[FloatArray, FloatArray]:
        mu = np.broadcast_to(np.asarray(mean, dtype=float), q.shape)
        if not mu.any():
            return closed.moments(q, q, q)
        state = np.ones((q.size, 2, 1, 1))
        state[:, 0, 0, 0] = q.ravel()
        out, none = np.empty_like(state), np.zeros((q.size, 1, 1))
        f = np.ascontiguousarray(closed.features(mu.reshape(-1, 1), q.reshape(-1, 1)))
        closed.block(state, none, False, 0.0, 0.0, f, f, 0, 0, out, np.array([4 * _EPS, *closed.parameters]))
        return out[:, 0].reshape(q.shape), out[:, 1].reshape(q.shape)

    def mean_of(mean: ArrayLike, q: FloatArray) -> FloatArray:
        return np.asarray(closed.mean(np.asarray(mean, dtype=float), q))

    return DualPass(closed.block, closed.features, diagonal, mean_of, np.array(closed.parameters))


def _rounded_up(value: float) -> float:
    if value <= 0 or not math.isfinite(value):
        return value
    return float(2.0 ** (math.ceil(_STEPS * math.log2(value) - 1e-9) / _STEPS))


def _vectorised(function: Callable[..., Any]) -> Function:
    def phi(z: FloatArray) -> FloatArray:
        return np.asarray(function(z), dtype=float)

    return phi


def _sorted_kinks(kinks: Iterable[float]) -> tuple[float, ...]:
    try:
        places = sorted({float(k) for k in kinks})
    except (TypeError, ValueError):
        raise ActivationError(f"kinks: expected numbers, got {kinks!r}.") from None
    if not all(map(math.isfinite, places)):
        raise ActivationError(f"kinks: expected finite places, got {places}.")
    return tuple(places)


# --- expressions ------------------------------------------------------------------------------------------------------


def _evaluator(expr: sp.Expr) -> Function:
    def phi(z: FloatArray) -> FloatArray:
        return np.asarray(expressions.evaluate(expr, {"z": z}), dtype=float) + 0.0 * z

    return phi


def _derivative_of(expr: sp.Expr) -> sp.Expr:
    """phi', almost everywhere: what happens at single points is left out."""
    slope = sp.diff(expr, expressions.symbol("z"))
    slope = slope.replace(sp.DiracDelta, lambda *_: sp.S.Zero)
    slope = slope.replace(sp.sign, lambda x: 2 * sp.Heaviside(x) - 1)
    try:
        return expressions.parse(slope, ("z",))
    except ExpressionError as error:
        raise ActivationError(
            f"function: the derivative of {expr} cannot be taken ({error}); pass a callable."
        ) from None


def _rectifier_slopes(expr: sp.Expr) -> tuple[float, float] | None:
    """(alpha, beta) if phi(z) = alpha z below 0 and beta z above: derived by SymPy on either side."""
    size = sp.Symbol("size", positive=True)
    slopes = []
    for side in (-size, size):
        ratio = expr.subs(expressions.symbol("z"), side) / side
        ratio = sp.simplify(ratio) if ratio.free_symbols else ratio
        if not ratio.is_number or not ratio.is_finite:
            return None
        slopes.append(float(ratio))
    return (slopes[0], slopes[1]) if any(slopes) else None


def _kinks_of(expr: sp.Expr) -> tuple[float, ...]:
    """Zeros of every function whose sign phi hangs on."""
    z = expressions.symbol("z")
    found: set[float] = set()
    for switch in expressions.switches(expr):
        if switch.is_polynomial(z):
            roots = [complex(root) for root in sp.Poly(switch, z).nroots(n=30, maxsteps=200)]
            found.update(r.real for r in roots if abs(r.imag) <= 1e-12 * max(1.0, abs(r)))
        else:
            found.update(_sign_changes(_evaluator(switch)))
    merged: list[float] = []
    for place in sorted(found):
        if not merged or place - merged[-1] > 1e-12 * max(1.0, abs(place)):
            merged.append(place)
    if len(merged) > _MOST_KINKS:
        raise ActivationError(
            f"function: {expr} has more than {_MOST_KINKS} kinks; the duals of so many are out of reach."
        )
    return tuple(merged)


def _sign_changes(function: Function) -> list[float]:
    """Zeros of a function on [-1e6, 1e6], from a grid that is finest near 0."""
    steps = np.linspace(0.0, np.arcsinh(_RANGE * 1e3), 20_011)[1:]
    grid = 1e-3 * np.sinh(steps)
    grid = np.concatenate([-grid[::-1], [0.0], grid])
    values = function(grid)
    zeros = grid[values == 0].tolist()
    sign = np.sign(np.where(np.isfinite(values), values, 0.0))
    at = np.flatnonzero(sign[1:] * sign[:-1] < 0)
    low, high, below = grid[at], grid[at + 1], sign[at]
    for _ in range(80):
        middle = 0.5 * (low + high)
        left = np.sign(function(middle)) == below
        low, high = np.where(left, middle, low), np.where(left, high, middle)
    return [*zeros[: _MOST_KINKS + 1], *(0.5 * (low + high)).tolist()]


# --- by name ----------------------------------------------------------------------------------------------------------


def _softplus(z: FloatArray) -> FloatArray:
    return np.logaddexp(0.0, z)


def _elu(z: FloatArray) -> FloatArray:
    return np.where(z > 0, z, np.expm1(np.minimum(z, 0.0)))


def _normal_density(z: FloatArray) -> FloatArray:
    return np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def _sech2(z: FloatArray) -> FloatArray:
    e = np.exp(-2 * np.abs(z))
    return 4 * e / (1 + e) ** 2


def _piecewise_linear(alpha: float, beta: float) -> tuple[Function, Function]:
    return lambda z: np.where(z > 0, beta * z, alpha * z), lambda z: np.where(z > 0, beta, alpha)


_NAMED = {
    a.name: a
    for a in (
        *(
            Activation._named(name, *_piecewise_linear(*slopes), closed_duals.rectifier(*slopes), (0.0,), True)
            for name, slopes in (("relu", (0.0, 1.0)), ("leaky_relu", (0.01, 1.0)), ("abs", (-1.0, 1.0)))
        ),
        Activation._named("identity", lambda z: z + 0.0, np.ones_like, closed_duals.IDENTITY, homogeneous=True),
        Activation._named("step", lambda z: np.where(z > 0, 1.0, 0.0), np.zeros_like, closed_duals.STEP, (0.0,)),
        Activation._named("erf", erf, lambda z: (2 / math.sqrt(math.pi)) * np.exp(-z * z), closed_duals.ERF),
        Activation._named("gelu", lambda z: z * ndtr(z), lambda z: ndtr(z) + z * _normal_density(z), closed_duals.GELU),
        Activation._named("sin", np.sin, np.cos, closed_duals.SIN),
        Activation._named("cos", np.cos, lambda z: -np.sin(z), closed_duals.COS),
        Activation._named("exp", np.exp, np.exp, closed_duals.EXP),
        Activation._named(
            "gaussian", lambda z: np.exp(-0.5 * z * z), lambda z: -z * np.exp(-0.5 * z * z), closed_duals.GAUSSIAN
        ),
        Activation._named("tanh", np.tanh, _sech2),
        Activation._named("sigmoid", expit, lambda z: 0.25 * _sech2(0.5 * z)),
        Activation._named(
            "silu", lambda z: z * expit(z), lambda z: expit(z) + 0.25 * z * _sech2(0.5 * z)
        ),
        Activation._named("softplus", _softplus, expit),
        Activation._named("elu", _elu, lambda z: np.exp(np.minimum(z, 0.0)), kinks=(0.0,)),
    )
}  # fmt: skip


def as_activation(obj: Any) -> Activation:
    """An Activation from its name, or itself. Raises ActivationError for an unknown name."""
    if isinstance(obj, Activation):
        return obj
    if isinstance(obj, str) and obj in _NAMED:
        return _NAMED[obj]
    raise ActivationError(f"activation: expected an Activation or one of {', '.join(map(repr, _NAMED))}, got {obj!r}.")
