"""Inverse circular functions as polynomials that a compiler can vectorise.

arctan(z) = z A(z^2); A is smooth on [0, 1] with its nearest singularity at -1, so a polynomial of degree 20
reaches rounding level (its own error is 5e-18). The coefficients interpolate A at the Chebyshev points of [0, 1],
solved for with 80 digits. The angle a = 2 arccos(c / 2) of :func:`acute_ratio` is smoother still: over sin(a / 2) its
nearest singularity in c is at -2, and degree 11 reaches rounding level (1.6e-17).
``tests/activations/test_compiled_duals.py`` holds both against mpmath.
"""

from __future__ import annotations

from graphon_theory.numerics.compilation import njit


@njit(inline="always")
def arctangent_ratio(y: float) -> float:
    """A(y) = arctan(sqrt(y)) / sqrt(y) for y in [0, 1], by Horner's rule, in the precision of ``y``."""
    real = type(y)
    a = real(1.2631178430477426e-05)
    a = a * y - real(0.00014617088163625013)
    a = a * y + real(0.0008033604181626027)
    a = a * y - real(0.0028047655531701315)
    a = a * y + real(0.007038646202989813)
    a = a * y - real(0.013674139288399478)
    a = a * y + real(0.021740213830758134)
    a = a * y - real(0.02970071773623423)
    a = a * y + real(0.03651081352721035)
    a = a * y - real(0.042125723963855326)
    a = a * y + real(0.04719723992321112)
    a = a * y - real(0.052527255573225747)
    a = a * y + real(0.05880342002401543)
    a = a * y - real(0.06666371187721098)
    a = a * y + real(0.0769227555520563)
    a = a * y - real(0.09090906605656898)
    a = a * y + real(0.11111110982087126)
    a = a * y - real(0.14285714281592693)
    a = a * y + real(0.19999999999929946)
    a = a * y - real(0.3333333333333286)
    return a * y + real(1.0)


@njit(inline="always")
def acute_ratio(c: float) -> float:
    """2 arccos(c / 2) / sqrt(1 - c^2 / 4) for c in [sqrt(2), 2], by Horner's rule in (2 - c)^2.

    Even and odd powers go side by side: twice a Horner of half the length waits less for itself. In the precision of
    ``c``.
    """
    real = type(c)
    z = real(2.0) - c
    y = z * z
    even = real(1.9691285390178196e-07)
    even = even * y + real(8.963678777385599e-06)
    even = even * y + real(0.00016648314672870374)
    even = even * y + real(0.0031746028829011995)
    even = even * y + real(0.06666666666610403)
    even = even * y + real(2.0)
    odd = real(3.011667283501826e-07)
    odd = odd * y + real(2.4681965501386863e-06)
    odd = odd * y + real(3.89176387645689e-05)
    odd = odd * y + real(0.000721503525810081)
    odd = odd * y + real(0.014285714303560501)
    odd = odd * y + real(0.33333333333334025)
    return odd * z + even
