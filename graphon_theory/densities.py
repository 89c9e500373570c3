"""Who learns: a kernel density summed over one side of the connections (THEORY §3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphon_theory.errors import InputError
from graphon_theory.results import U, V, dataset

if TYPE_CHECKING:
    import xarray as xr


def marginals(density: xr.Dataset) -> xr.Dataset:
    """How fast each position learns, from what `kernel_density` returned for one layer.

        receiving(u) = int density(u, v) dmu(v),      sending(v) = int density(u, v) dmu(u)

    are densities of the layer's share of the tangent kernel over receiving and over sending positions: with x = x', of
    the squared gradient, so of the speed at which the weights there move when the output is pushed.

    Returns a Dataset: ``receiving`` ("u",), ``sending`` ("v",), each also divided by the total, ``receiving_share``
    and ``sending_share`` (which then integrate to 1; NaN where the total is zero), the weights ``u_weight`` and
    ``v_weight``; attrs: ``total`` and those of the density.

    Raises InputError when ``density`` is something else.
    """
    if not {"density", "u_weight", "v_weight"} <= set(getattr(density, "data_vars", ())):
        raise InputError("density: expected the Dataset that kernel_density() returns.")
    values = density.density.transpose(U, V).values
    u_weight, v_weight = density.u_weight.values, density.v_weight.values
    receiving, sending = values @ v_weight, u_weight @ values
    total = float(u_weight @ receiving)
    scale = 1 / total if total else np.nan
    return dataset(
        {
            "receiving": ((U,), receiving),
            "sending": ((V,), sending),
            "receiving_share": ((U,), receiving * scale),
            "sending_share": ((V,), sending * scale),
            "u_weight": ((U,), u_weight),
            "v_weight": ((V,), v_weight),
        },
        {U: density[U].values, V: density[V].values},
        {**density.attrs, "total": total},
    )
