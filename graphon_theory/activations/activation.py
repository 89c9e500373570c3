"""Activations: phi, where it is not smooth, and the way to its duals (THEORY §4).

    C = E[phi(f) phi(f')],   Cdot = E[phi'(f) phi'(f')],   (f, f') ~ N((mu, mu'), [[q11, q12], [q12, q22]])

There are three ways, tried in this order: a closed form (``closed/closed_duals``), a Hermite series about each mean for
smooth phi (``series/hermite_series``), and the heat flow of phi for everything else (``heat/heat_flows``). The last two
report a bound of their error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import ArrayLike
from scipy.special import erf, expit, ndtr

from graphon_theory.activations.closed import closed_duals
from graphon_theory.activations.closed.closed_duals import ClosedForm
from graphon_theory.activations.dual_passes import DualPass, closed_pass, self_slopes
from graphon_theory.activations.kinks import derivative_of, evaluator, kinks_of, sorted_kinks
from graphon_theory.activations.series.hermite_series import HermiteSeries, hermite_back, hermite_block
from graphon_theory.activations.variants import variant_of
from graphon_theory.arrays import FloatArray, Function
from graphon_theory.data.checks import real_array
from graphon_theory.data.function_checks import check_elementwise, real_values
from graphon_theory.errors import ActivationError, shown
from graphon_theory.numerics import expressions
from graphon_theory.values import Record, Value

_PROBES = (np.array([-1.0, 0.0, 0.5, -0.7, 2.6, -3.3, 41.0, -57.0]),)  # where a callable is tried
_STEPS = 4.0  # variances and means are rounded up to powers of 2^(1/_STEPS), so that few series and tables are made


class Activation(Value):
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

    def __init__(
        self,
        function: str | sp.Expr | Function,
        kinks: Iterable[float] = (),
        *,
        derivative: Function | None = None,
        name: str | None = None,
    ) -> None:
        if not (name is None or isinstance(name, str)):
            raise ActivationError(f"name: expected text or None, got {shown(name)}.")
        places = sorted_kinks(kinks)
        if isinstance(function, (str, sp.Basic)):
            if places or derivative is not None:
                raise ActivationError(
                    "kinks, derivative: an expression's own are found; leave them out, or pass a callable."
                )
            parts = _of_expression(expressions.parse(function, ("z",)), name)
        elif callable(function):
            if derivative is not None and not callable(derivative):
                raise ActivationError(f"derivative: expected a callable or None, got {type(derivative).__name__}.")
            for what, one in (("function", function), ("derivative", derivative)):
                if one is not None:
                    check_elementwise(what, one, _PROBES, ActivationError)
            parts = _of_callable(function, derivative, places, name)
        else:
            raise ActivationError(
                f"function: expected a SymPy expression in z, its text, or a callable, got {type(function).__name__}."
            )
        _check_parts(parts)
        self._parts = parts

    @classmethod
    def _of(cls, parts: _Parts) -> Activation:
        made = cls.__new__(cls)
        made._parts = parts
        return made

    @property
    def name(self) -> str:
        """What results and files call it."""
        return self._parts.name

    @property
    def phi(self) -> Function:
        """phi as a function of float64 arrays."""
        return self._parts.phi

    @property
    def kinks(self) -> tuple[float, ...]:
        """Where phi, phi' or phi'' jumps."""
        return self._parts.kinks

    @property
    def expression(self) -> sp.Expr | None:
        """phi(z) in SymPy, if it was given as an expression."""
        return self._parts.expression

    @property
    def homogeneous(self) -> bool:
        """Whether phi(t z) = t phi(z) for t > 0 is known."""
        return self._parts.homogeneous

    @property
    def levels(self) -> tuple[float, float] | None:
        """The values on either side of 0 of a phi that is known to have no others."""
        return self._parts.levels

    @cached_property
    def kinked(self) -> bool:
        """Whether phi or phi' jumps, not a higher derivative only."""
        return any(_jumps(where, self.phi, self.phi, self.derivative) for where in self.kinks)

    @cached_property
    def jumps(self) -> bool:
        """Whether phi itself jumps."""
        return any(_jumps(where, self.phi, self.phi) for where in self.kinks)

    def __call__(self, z: ArrayLike) -> FloatArray:
        """phi(z), elementwise."""
        return self.phi(real_array("z", z, error=ActivationError).astype(float, copy=False))

    def derivative(self, z: ArrayLike) -> FloatArray:
        """phi'(z), elementwise; almost everywhere."""
        z = real_array("z", z, error=ActivationError).astype(float, copy=False)
        given = self._parts.derivative
        return self._heat_flow.derivative(z) if given is None else given(z)

    @property
    def _key(self) -> tuple[Any, ...]:
        """Named ones are themselves; others are their expression, or their callables and kinks. Names are labels."""
        if self.named:
            return Activation, self.name
        if self.expression is not None:
            return Activation, self.expression
        return Activation, self.phi, self._parts.derivative, self.kinks

    def __reduce__(self) -> tuple[Any, ...]:
        if self.named:
            return as_activation, (self.name,)
        if self.expression is not None:
            return partial(type(self), name=self.name), (self.expression,)
        phi, derivative = (getattr(one, "function", None) for one in (self.phi, self._parts.derivative))
        return partial(type(self), derivative=derivative, name=self.name), (phi, self.kinks)

    def __repr__(self) -> str:
        return f"Activation({self.name!r})"

    @property
    def named(self) -> bool:
        """Whether it is one of the named activations, which :func:`as_activation` knows."""
        return _NAMED.get(self.name) is self

    @property
    def parameters(self) -> tuple[float, ...]:
        """Of the closed form, if there is one."""
        return () if self._parts.closed is None else self._parts.closed.parameters

    @property
    def bounded(self) -> bool:
        """Whether one pass serves all variances about zero: a closed form that cannot overflow."""
        return self._parts.closed is not None and math.isinf(self._parts.closed.largest)

    @property
    def route(self) -> str:
        """How the centred duals are computed: "closed form", "Hermite series" (small variances) or "heat flow"."""
        if self._parts.closed is not None:
            return "closed form"
        return "heat flow" if self.kinks else "Hermite series, heat flow at large variances"

    def prepared(self, largest_mean: float = 0.0, largest_variance: float = math.inf) -> DualPass:
        """The compiled duals for means up to ``largest_mean`` in size and variances up to ``largest_variance``.

        Raises ActivationError where phi grows too fast for them, naming the largest variance that works.
        """
        closed = self._parts.closed
        if closed is not None:
            if not math.isinf(largest_variance) and not closed.holds(largest_mean, largest_variance):
                most = closed.largest / closed.stretch**2
                limit = "their sum" if closed.takes_means and closed.stretch == 1 else "about zero, the variance"
                raise ActivationError(
                    f"activation {self.name!r}: E[phi^2] overflows at mean {largest_mean:.4g} and variance "
                    f"{largest_variance:.4g}; {limit} must stay below {most:g}. Lower weight_variance, or "
                    "rescale the inputs."
                )
            if largest_mean == 0 or closed.takes_means:
                return closed_pass(closed)
            if closed.about_means is not None:
                return closed_pass(closed.about_means)
        bounds = _rounded_up(largest_mean), _rounded_up(largest_variance)
        if bounds not in self._passes:
            self._passes[bounds] = self._numerical(*bounds)
        return self._passes[bounds]

    @cached_property
    def _passes(self) -> dict[tuple[float, float], DualPass]:
        """Those made so far, by the bounds they are good for."""
        return {}

    def _numerical(self, largest_mean: float, largest_variance: float) -> DualPass:
        if not math.isfinite(largest_variance):
            raise ActivationError(f"activation {self.name!r}: expected finite variances, got {largest_variance}.")
        if not self.kinks:
            series = HermiteSeries.fitting(self.phi, self.derivative, largest_mean, largest_variance)
            if series is not None:
                own = np.array([series.stride, series.offset], dtype=float)
                return DualPass(
                    hermite_block,
                    series.features,
                    series.diagonal,
                    series.mean,
                    own,
                    hermite_back,
                    np.append(own, float(largest_mean > 0)),
                    partial(_series_slopes, series),
                    series.error,
                )
        from graphon_theory.activations.heat.heat_flows import heat_flow_back, heat_flow_block

        flow = self._heat_flow
        table = flow.prepared(largest_mean, largest_variance)

        own = table.parameters
        return DualPass(
            heat_flow_block,
            table.features,
            flow.diagonal,
            flow.means,
            own,
            heat_flow_back,
            own,
            table.slopes,
            table.error,
        )

    @cached_property
    def _heat_flow(self) -> Any:
        return self._parts.heat_flow()

    def moments(self, q12: FloatArray, q11: FloatArray, q22: FloatArray) -> tuple[FloatArray, FloatArray]:
        """C and Cdot about zero means of arrays of one shape that are known to be moments; see :meth:`duals`."""
        if self._parts.closed is not None:
            return self._parts.closed.moments(q12, q11, q22)
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
        given = {"q12": q12, "q11": q11, "q22": q22, "mean1": mean1, "mean2": mean2}
        moments = [real_array(name, q, error=ActivationError).astype(float) for name, q in given.items()]
        try:
            arrays = np.broadcast_arrays(*moments)
        except ValueError as error:
            raise ActivationError(f"{', '.join(given)}: expected shapes that broadcast ({error}).") from None
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
            if self._parts.closed is not None:
                self.prepared(0.0, float(max(first.max(), second.max())))
            return self.moments(cross, first, second)
        return self._elementwise(mean, other, cross, first, second)

    def mean(self, mean: ArrayLike, q: ArrayLike) -> FloatArray:
        """E[phi(mean + sqrt(q) z)], broadcast."""
        mu, variance = (np.array(a, dtype=float) for a in np.broadcast_arrays(mean, q))
        if self._parts.closed is not None:
            return np.asarray(self._parts.closed.mean(mu, variance))
        bounds = float(np.abs(mu).max(initial=0.0)), float(variance.max(initial=0.0))
        return self.prepared(*bounds).mean(mu, variance)

    def _elementwise(
        self, mean1: FloatArray, mean2: FloatArray, q12: FloatArray, q11: FloatArray, q22: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """The compiled pass on single pairs: every pair a position of its own."""
        largest_mean = float(max(np.abs(mean1).max(initial=0.0), np.abs(mean2).max(initial=0.0)))
        made = self.prepared(largest_mean, float(max(q11.max(initial=0.0), q22.max(initial=0.0))))
        if made.block is not hermite_block and self._parts.closed is None:
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


def _series_slopes(series: HermiteSeries, mean: FloatArray, q: FloatArray) -> FloatArray:
    """The derivatives in q and mu of E[phi^2], E[phi'^2] and E[phi]."""
    own = np.array([series.stride, series.offset, 1.0 if mean.any() else 0.0])
    return np.concatenate([self_slopes(hermite_back, series.features, own, mean, q), series.mean_slopes(mean, q)])


def _rounded_up(value: float) -> float:
    if value <= 0 or not math.isfinite(value):
        return value
    return float(2.0 ** (math.ceil(_STEPS * math.log2(value) - 1e-9) / _STEPS))


# --- what one is made of ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Parts:
    """phi, its derivative (None: taken numerically) and where it is not smooth; a closed form of its duals if known."""

    name: str
    phi: Function
    derivative: Function | None
    kinks: tuple[float, ...] = ()
    closed: ClosedForm | None = None
    homogeneous: bool = False
    expression: sp.Expr | None = None
    levels: tuple[float, float] | None = None

    def heat_flow(self) -> Any:
        from graphon_theory.activations.heat.heat_flows import HeatFlow

        return HeatFlow(self.phi, self.derivative, self.kinks)


def _of_expression(expr: sp.Expr, name: str | None) -> _Parts:
    kinks, derivative = kinks_of(expr), derivative_of(expr)  # refused by these before anything is simplified
    phi = evaluator(expr)
    known = variant_of(expr, phi)
    label = name or str(expressions.text(expr))
    if known is None:
        return _Parts(label, phi, evaluator(derivative), kinks, expression=expr)
    return _Parts(label, phi, evaluator(derivative), kinks, known.form, known.homogeneous, expr, known.levels)


def _of_callable(
    function: Function, derivative: Function | None, kinks: tuple[float, ...] = (), name: str | None = None
) -> _Parts:
    return _Parts(
        name or str(getattr(function, "__name__", type(function).__name__)),
        _Elementwise(function),
        None if derivative is None else _Elementwise(derivative),
        kinks,
    )


@dataclass(frozen=True, eq=False)
class _Elementwise(Record):
    """A callable whose values are taken as float64 arrays."""

    function: Callable[..., Any]

    def __call__(self, z: FloatArray) -> FloatArray:
        return real_values("function", self.function, self.function(z), ActivationError)


def _check_parts(parts: _Parts) -> None:
    """Refuse a phi that is not finite near 0, or whose derivative cannot be had there."""
    near = _PROBES[0][np.abs(_PROBES[0]) <= 1]
    with np.errstate(all="ignore"):
        for z, value in zip(near, parts.phi(near), strict=True):
            if not math.isfinite(value):
                raise ActivationError(f"function: {parts.name!r} is {value} at {z:g}; phi must be finite everywhere.")
        (parts.heat_flow().derivative if parts.derivative is None else parts.derivative)(near)


def _jumps(where: float, phi: Function, *functions: Function) -> bool:
    """Whether one of the functions has different limits on the two sides of a kink of phi."""
    near = 1e-7 * max(1.0, abs(where))
    both = np.array([where - near, where + near])
    scale = np.abs(phi(where + np.array([-1.0, -0.5, 0.5, 1.0]))).max() + 1e-300
    return any(abs(float(np.diff(f(both))[0])) > 1e-4 * scale for f in functions)


# --- by name ----------------------------------------------------------------------------------------------------------


def _softplus(z: FloatArray) -> FloatArray:
    return np.logaddexp(0.0, z)


def _elu(z: FloatArray) -> FloatArray:
    return np.where(z > 0, z, np.expm1(np.minimum(z, 0.0)))


def _step(z: FloatArray) -> FloatArray:
    return np.where(z > 0, 1.0, 0.0)


def _normal_density(z: FloatArray) -> FloatArray:
    return np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def _sech2(z: FloatArray) -> FloatArray:
    e = np.exp(-2 * np.abs(z))
    return 4 * e / (1 + e) ** 2


def _piecewise_linear(alpha: float, beta: float) -> tuple[Function, Function]:
    return lambda z: np.where(z > 0, beta * z, alpha * z), lambda z: np.where(z > 0, beta, alpha)


def _named(
    name: str,
    phi: Function,
    derivative: Function,
    closed: ClosedForm | None = None,
    kinks: tuple[float, ...] = (),
    homogeneous: bool = False,
    levels: tuple[float, float] | None = None,
) -> Activation:
    parts = _of_callable(phi, derivative, kinks, name)
    return Activation._of(replace(parts, closed=closed, homogeneous=homogeneous, levels=levels))


_NAMED = {
    a.name: a
    for a in (
        *(
            _named(name, *_piecewise_linear(*slopes), closed_duals.rectifier(*slopes), (0.0,), True)
            for name, slopes in (("relu", (0.0, 1.0)), ("leaky_relu", (0.01, 1.0)), ("abs", (-1.0, 1.0)))
        ),
        _named("identity", lambda z: z + 0.0, np.ones_like, closed_duals.IDENTITY, homogeneous=True),
        _named("step", _step, np.zeros_like, closed_duals.STEP, (0.0,), levels=(0.0, 1.0)),
        _named("erf", erf, lambda z: (2 / math.sqrt(math.pi)) * np.exp(-z * z), closed_duals.ERF),
        _named("gelu", lambda z: z * ndtr(z), lambda z: ndtr(z) + z * _normal_density(z), closed_duals.GELU),
        _named("sin", np.sin, np.cos, closed_duals.SIN),
        _named("cos", np.cos, lambda z: -np.sin(z), closed_duals.COS),
        _named("exp", np.exp, np.exp, closed_duals.EXP),
        _named(
            "gaussian", lambda z: np.exp(-0.5 * z * z), lambda z: -z * np.exp(-0.5 * z * z), closed_duals.GAUSSIAN
        ),
        _named("tanh", np.tanh, _sech2),
        _named("sigmoid", expit, lambda z: 0.25 * _sech2(0.5 * z)),
        _named(
            "silu", lambda z: z * expit(z), lambda z: expit(z) + 0.25 * z * _sech2(0.5 * z)
        ),
        _named("softplus", _softplus, expit),
        _named("elu", _elu, lambda z: np.exp(np.minimum(z, 0.0)), kinks=(0.0,)),
    )
}  # fmt: skip


def as_activation(obj: Any) -> Activation:
    """An Activation from its name, or itself. Raises ActivationError for an unknown name."""
    if isinstance(obj, Activation):
        return obj
    if isinstance(obj, str) and obj in _NAMED:
        return _NAMED[obj]
    raise ActivationError(
        f"activation: expected an Activation or one of {', '.join(map(repr, _NAMED))}, got {shown(obj)}."
    )
