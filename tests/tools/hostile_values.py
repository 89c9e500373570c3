"""Values that no argument expects, and plain ones spoilt: what :mod:`tests.tools.fuzz` puts in an argument's place.

All are functions of a generator and of the argument's plain value, so that a seed gives the same case again.
"""

from __future__ import annotations

import copy
import datetime
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sympy as sp
import xarray as xr

import graphon_theory as gt
from tests.tools.hostile_callables import Rng, hostile_callable
from tests.tools.hostile_texts import SYMBOLS, TEXTS

try:
    import torch
except ModuleNotFoundError:  # the theory is tested without it
    torch = None  # type: ignore[assignment]


def _plain_tensor(rng: Rng) -> Any:
    return torch.from_numpy(rng.standard_normal((3, 2)))


def _tensor(rng: Rng, plain: Any) -> Any:
    """A tensor of some kind: of the plain value's numbers where it has them."""
    if torch is None:
        return memoryview(b"123456")
    try:
        made = torch.as_tensor(np.array(plain, dtype=float))
    except (TypeError, ValueError):
        made = _plain_tensor(rng)
    kinds: list[Callable[[], Any]] = [
        lambda: made.clone().requires_grad_(),
        lambda: made.float(),
        lambda: made.bfloat16(),
        lambda: made.half(),
        lambda: made.to(torch.complex64),
        lambda: made.to(torch.int32),
        lambda: made.to_sparse(),
        lambda: made.to("meta"),
        lambda: torch.nn.Parameter(made.clone()),
        lambda: made.clone().requires_grad_() * 2,
        lambda: made.to(torch.complex128).conj(),
        lambda: torch.full_like(made, torch.nan),
        lambda: torch.quantize_per_tensor(made.float(), 0.1, 0, torch.qint8),
        lambda: made[..., None].expand(*made.shape, 2),
        lambda: torch.empty(0),
        lambda: torch.nn.Linear(2, 1),
        lambda: torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1)),
        lambda: [made, made],
        lambda: torch.device("cpu"),
        lambda: torch.float16,
    ]
    return kinds[rng.integers(len(kinds))]()


_NUMBERS: tuple[Any, ...] = (
    0,
    -1,
    1,
    2,
    3,
    10**6,
    10**9,
    10**19,
    10**30,
    10**5_000,
    -(10**400),
    -0.0,
    0.5,
    -1.5,
    1.0,
    float("nan"),
    float("inf"),
    -float("inf"),
    1e308,
    1e200,
    1e16,
    5e-324,
    1e-300,
    1e-17,
    1j,
    Fraction(1, 3),
    Fraction(10**400, 3),
    Decimal("0.5"),
    Decimal("NaN"),
    Decimal("1e999"),
    np.float32(0.5),
    np.float16(0.1),
    np.longdouble(0.5),
    np.int8(3),
    np.uint64(2**63),
    np.bool_(True),
    np.float64("nan"),
    np.complex128(1j),
)
_THINGS: tuple[Callable[[], Any], ...] = (
    lambda: None,
    lambda: True,
    lambda: False,
    lambda: "relu",
    lambda: "text",
    lambda: b"bytes",
    lambda: bytearray(b"12"),
    list,
    lambda: (),
    dict,
    lambda: set(),
    lambda: {1.0, 2.0},
    lambda: {"x": 1.0},
    lambda: [[]],
    lambda: [1, [2, 3]],
    lambda: [[1, 2], [3]],
    lambda: [None],
    lambda: [None, 1.0],
    lambda: ["1", "2"],
    lambda: [float("nan")],
    lambda: [[[[1.0]]]],
    lambda: iter([1.0, 2.0]),
    lambda: (k / 4 for k in range(3)),
    lambda: range(3),
    lambda: range(10**9),
    lambda: slice(3),
    lambda: object(),
    lambda: int,
    lambda: np,
    lambda: Path("x.npy"),
    lambda: Path("\0"),
    lambda: NotImplemented,
    lambda: ...,
    lambda: datetime.datetime(2020, 1, 1),
    lambda: datetime.timedelta(1),
    lambda: Exception("as a value"),
    lambda: np.array([]),
    lambda: np.zeros((0, 2)),
    lambda: np.zeros((3, 0)),
    lambda: np.array(0.5),
    lambda: np.zeros((2, 2, 2)),
    lambda: np.ones((3, 2)),
    lambda: np.full((3, 3), np.nan),
    lambda: np.array([1.0, None], dtype=object),
    lambda: np.array([[1, 2], [3, 4]], dtype=object),
    lambda: np.array(["a", "b"]),
    lambda: np.array([1j, 2]),
    lambda: np.array(["2020-01-01"], dtype="datetime64[D]"),
    lambda: np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]),
    lambda: np.ma.masked_invalid([[1.0, np.nan], [0.5, 2.0], [1.0, 1.0]]),
    lambda: np.matrix([[1.0, 2.0], [2.0, 5.0]]),
    lambda: np.arange(6.0)[::-2],
    lambda: np.broadcast_to(0.5, (10**9,)),
    lambda: np.random.default_rng(0),
    lambda: np.dtype("float32"),
    lambda: pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [0.0, 1.0, 0.5]}),
    lambda: pd.DataFrame({"a": ["x", "y"]}),
    lambda: pd.DataFrame(),
    lambda: pd.Series([1.0, 2.0, 3.0], index=["a", "b", "c"]),
    lambda: pd.NA,
    lambda: pd.NaT,
    lambda: pd.array([1, None, 3]),
    lambda: pd.Categorical(["a", "b"]),
    lambda: xr.DataArray(np.ones((3, 2)), dims=("b", "a")),
    lambda: xr.DataArray(0.5),
    lambda: xr.Dataset(),
    lambda: xr.Dataset({"ntk": (("x", "x2"), np.eye(3))}),
    lambda: gt.Network([1.0, 0.5, 1.0]),
    lambda: gt.Network([1.0, gt.Connectivity(0.5, drift=0.3), 1.0], "erf", outputs=2),
    lambda: gt.StepGraphon([[0.9, 0.1], [0.2, 0.6]]),
    lambda: gt.ConstantGraphon(-3.0),
    lambda: gt.AnalyticGraphon("exp(-3*(u - v)**2)"),
    lambda: gt.Connectivity(0.5),
    lambda: gt.Activation("tanh(z)"),
    lambda: gt.Saliency(),
)


def _thing(rng: Rng, _: Any) -> Any:
    return _THINGS[rng.integers(len(_THINGS))]()


def _number(rng: Rng, _: Any) -> Any:
    return _NUMBERS[rng.integers(len(_NUMBERS))]


def _text(rng: Rng, _: Any) -> Any:
    return TEXTS[rng.integers(len(TEXTS))]


def _symbol(rng: Rng, _: Any) -> Any:
    return SYMBOLS[rng.integers(len(SYMBOLS))]


def _spoilt_array(rng: Rng, plain: Any) -> Any:
    """The numbers of an array in another form, or with one of them spoilt."""
    a = np.array(plain, dtype=float)
    spoilt = a.copy()
    if spoilt.size:
        at = tuple(int(rng.integers(n)) for n in a.shape)
        spoilt[at] = [np.nan, np.inf, -np.inf, 1e308, 1e200, -1e155, 5e-324, 1e-200, -3.0][rng.integers(9)]
    labels = [f"row {k}" for k in range(len(a))] if a.ndim else []
    dims = tuple(["x", "x2", "target", "output"][k] for k in rng.permutation(4)[: a.ndim]) if a.ndim <= 4 else ()
    kinds: list[Callable[[], Any]] = [
        lambda: spoilt,
        lambda: spoilt,
        lambda: spoilt,
        lambda: a.tolist(),
        lambda: a.T,
        lambda: a[..., None],
        lambda: a[None],
        lambda: a[:-1] if a.ndim else a,
        lambda: np.concatenate([a, a]) if a.ndim else a,
        lambda: a[:0] if a.ndim else a,
        lambda: a[..., :0] if a.ndim else a,
        lambda: a * 1e160,
        lambda: a * 1e-170,
        lambda: a * 0,
        lambda: -a,
        lambda: a * 0 + 1,
        lambda: a.astype(np.float16),
        lambda: a.astype(">f4"),
        lambda: a.astype(np.longdouble),
        lambda: a.astype(complex),
        lambda: a.astype(str),
        lambda: a.astype(object),
        lambda: a.astype(np.int64),
        lambda: a > 0,
        lambda: np.asfortranarray(a),
        lambda: np.ma.masked_greater(a, 0),
        lambda: np.ma.array(a),
        lambda: [*a.tolist()[:-1], a.tolist()[-1][:-1]] if a.ndim == 2 and a.size else [[1.0], a],
        lambda: [list(map(str, row)) for row in a.tolist()] if a.ndim == 2 else str(a),
        lambda: pd.DataFrame(a, index=labels) if a.ndim == 2 else pd.Series(a.ravel()),
        lambda: pd.DataFrame(a.astype(object)) if a.ndim == 2 else pd.Series(a.ravel(), dtype="Float64"),
        lambda: xr.DataArray(a, dims=dims),
        lambda: xr.DataArray(a, dims=dims, coords={dims[0]: labels}) if a.ndim else xr.DataArray(a),
        lambda: xr.Dataset({"x": (dims, a)}),
        lambda: tuple(map(tuple, a.tolist())) if a.ndim == 2 else tuple(a.ravel()),
        lambda: np.ascontiguousarray(a).data,
        lambda: np.broadcast_to(a, a.shape),
        lambda: [a, a],
        lambda: (Fraction(str(float(x))) for x in np.nan_to_num(a.ravel())),
    ]
    return kinds[rng.integers(len(kinds))]()


def _spoilt_number(rng: Rng, plain: Any) -> Any:
    kinds: list[Callable[[], Any]] = [
        lambda: -plain,
        lambda: plain * 1e9,
        lambda: str(plain),
        lambda: [plain],
        lambda: np.array([plain]),
        lambda: np.array(plain),
        lambda: np.ma.masked,
        lambda: plain + 0.5,
        lambda: float(plain),
        lambda: np.float32(plain),
        lambda: Fraction(plain),
        lambda: Decimal(str(plain)),
        lambda: sp.Float(plain),
        lambda: complex(plain),
        lambda: plain * 1e-9,
        lambda: xr.DataArray(plain),
        lambda: [plain, plain],
        lambda: {plain: plain},
    ]
    return kinds[rng.integers(len(kinds))]()


def _spoilt_text(rng: Rng, plain: str) -> Any:
    at = int(rng.integers(len(plain) + 1))
    return [
        plain.upper(),
        plain.encode(),
        f" {plain}",
        plain[:at],
        plain[:at] + "\0" + plain[at:],
        plain[:at] + "€" + plain[at:],
        [plain],
        np.str_(plain),
        plain * 1000,
        plain.replace("0", "9" * 5000),
        plain.replace("[", "[" * 2000),
        plain.replace("=", "= " + "{a=" * 500),
    ][rng.integers(12)]


def _spoilt_bytes(rng: Rng, plain: bytes) -> bytes:
    at = int(rng.integers(len(plain) + 1))
    flipped = bytearray(plain)
    for place in rng.integers(len(plain), size=3):
        flipped[place] ^= 1 << int(rng.integers(8))
    return [
        plain[:at],
        plain[:at],
        bytes(flipped),
        bytes(flipped),
        b"",
        plain[at:],
        plain + b"\n1,2\n",
        b"\xef\xbb\xbf" + plain,
        plain.replace(b"0", b"9" * 5_000),
        plain.replace(b"[", b"[" * 3_000),
        b"a = " + b"[" * 100_000,
        b"a = " + b"{a = " * 2_000,
        b"outputs = 1e9\n" + plain,
        b"outputs = 1000000000\n" + plain,
        b"weight_varianse = 1.0\n" + plain,
        b"name,other\n" + plain,
        b"PK\x03\x04" + plain,
        b"\x93NUMPY\x01\x00" + plain,
        b"CDF\x01" + b"\xff" * 60,
        rng.bytes(64),
    ][rng.integers(20)]


def _spoilt_list(rng: Rng, plain: Any) -> Any:
    many = list(plain)
    at = int(rng.integers(max(1, len(many))))
    odd = hostile(rng, many[at] if many else None)
    return [
        many[:-1],
        [*many, *many],
        [],
        many[::-1],
        tuple(many),
        iter(many),
        dict(enumerate(many)),
        [many],
        str(many),
        many[0] if many else None,
        [*many[:at], odd, *many[at + 1 :]],
        [*many[:at], odd, *many[at + 1 :]],
        [*many[:at], odd, *many[at + 1 :]],
        [*many[:at], odd, *many[at + 1 :]],
    ][rng.integers(14)]


def _spoilt_dataset(rng: Rng, plain: xr.Dataset) -> Any:
    names = list(plain.data_vars)
    one = names[rng.integers(len(names))] if names else None
    dims = list(plain.dims)
    dim = dims[rng.integers(len(dims))] if dims else None
    kinds: list[Callable[[], Any]] = [
        lambda: plain.drop_vars(str(one)),
        lambda: plain.rename({one: "other"}),
        lambda: plain.assign({one: plain[one] * np.nan}) if plain[one].dtype.kind == "f" else plain,
        lambda: plain.assign({one: plain[one].astype(str)}),
        lambda: plain.assign({one: plain[one].astype(object)}),
        lambda: plain.isel({dim: slice(0)}),
        lambda: plain.isel({dim: slice(0, 1)}),
        lambda: plain.isel({dim: 0}),
        lambda: plain.rename({dim: "elsewhere"}),
        lambda: plain.isel({dim: slice(None, None, -1)}),
        lambda: plain.transpose(*dims[::-1]),
        lambda: plain.drop_attrs(),
        lambda: plain.assign_attrs(dict.fromkeys(plain.attrs, "text")),
        lambda: plain.assign_attrs(dict.fromkeys(plain.attrs, np.nan)),
        lambda: plain.reset_coords(),
        lambda: plain.drop_vars(list(plain.coords)),
        lambda: plain[one],
        lambda: plain.to_array(),
        lambda: plain.to_dict(),
        lambda: plain.expand_dims("more"),
        lambda: plain * -1 if all(v.dtype.kind == "f" for v in plain.values()) else plain,
        lambda: plain * 1e200 if all(v.dtype.kind == "f" for v in plain.values()) else plain,
    ]
    return kinds[rng.integers(len(kinds))]()


def spoilt(rng: Rng, plain: Any) -> Any:
    """The plain value in another form, or a little wrong."""
    if isinstance(plain, str):
        return _spoilt_text(rng, plain)
    if isinstance(plain, bytes):
        return _spoilt_bytes(rng, plain)
    if isinstance(plain, bool) or plain is None:
        return _thing(rng, plain)
    if isinstance(plain, int | float):
        return _spoilt_number(rng, plain)
    if isinstance(plain, xr.Dataset):
        return _spoilt_dataset(rng, copy.deepcopy(plain))
    if isinstance(plain, np.ndarray | xr.DataArray):
        return _spoilt_array(rng, plain)
    if isinstance(plain, list | tuple):
        numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in plain)
        return _spoilt_array(rng, plain) if numbers and plain and rng.random() < 0.5 else _spoilt_list(rng, plain)
    return _thing(rng, plain)


KINDS: dict[str, tuple[float, Callable[[Rng, Any], Any]]] = {
    "spoilt": (0.34, spoilt),
    "thing": (0.24, _thing),
    "number": (0.16, _number),
    "text": (0.06, _text),
    "symbol": (0.05, _symbol),
    "callable": (0.05, hostile_callable),
    "tensor": (0.10, _tensor),
}
_NAMES = list(KINDS)
_SHARES = np.array([share for share, _ in KINDS.values()])


def hostile(rng: Rng, plain: Any) -> Any:
    """One hostile value in place of ``plain``."""
    return KINDS[_NAMES[rng.choice(len(_NAMES), p=_SHARES / _SHARES.sum())]][1](rng, plain)
