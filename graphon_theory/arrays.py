"""Types of plain arrays, and the unit of rounding: what any module may use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]
Function = Callable[[FloatArray], FloatArray]  # elementwise

EPS = 2.0**-52  # distance from 1 to the next float64
