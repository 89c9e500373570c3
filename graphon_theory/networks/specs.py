"""The data that TOML holds of a network: graphons and activations to plain values and back; nothing is evaluated."""

from __future__ import annotations

import hashlib
from difflib import get_close_matches
from typing import Any

from graphon_theory.activations.activation import Activation
from graphon_theory.errors import GraphonError, SpecError, shown, shown_text
from graphon_theory.graphons.analytic import AnalyticGraphon
from graphon_theory.graphons.graphon import ConstantGraphon, Graphon, StepGraphon
from graphon_theory.networks.connectivity import Known
from graphon_theory.numerics import expressions

_MAX_TABLE = 4_096  # entries of an array written to TOML


def activation_spec(activation: Activation) -> Any:
    """An activation as TOML data: its name, or a table with its expression."""
    if activation.named:
        return activation.name
    if activation.expression is None:
        raise SpecError(f"activation: {activation!r}: a callable cannot be written as text; use an expression in z.")
    return {"expression": expressions.text(activation.expression)}


def activation_summary(activation: Activation) -> str:
    return activation.name


def activation_from_spec(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    refuse_unknown(value, {"expression"}, "activation")
    if not isinstance(value.get("expression"), str):
        raise SpecError('activation: expected a name, or a table such as {expression = "Max(z, z**2/10)"}.')
    return Activation(value["expression"])


def graphon_spec(graphon: Graphon) -> Any:
    """A graphon as TOML data: a number, an expression's text, or a table of values and edges."""
    if isinstance(graphon, ConstantGraphon):
        return graphon.p
    if isinstance(graphon, StepGraphon):
        if graphon.values.size > _MAX_TABLE:
            raise SpecError(
                f"{graphon!r}: {graphon.values.size} entries, at most {_MAX_TABLE} are written as text; "
                "save the array itself."
            )
        return {key: getattr(graphon, key).tolist() for key in ("values", "u_edges", "v_edges")}
    if isinstance(graphon, AnalyticGraphon):
        text = expressions.text(graphon.expr)
        try:
            expressions.parse(text, ("u", "v"))
        except GraphonError as error:
            raise SpecError(f"the expression cannot be written as text that would be read back: {error}") from None
        return text
    raise SpecError(f"{graphon!r}: a callable cannot be written as text; use an AnalyticGraphon or a StepGraphon.")


def graphon_summary(graphon: Graphon) -> Any:
    try:
        return graphon_spec(graphon)
    except SpecError:
        return short(graphon)


def short(graphon: Graphon) -> str:
    """A step function by shape and hash, others as they show themselves."""
    if not isinstance(graphon, StepGraphon):
        return repr(graphon)
    data = b"".join(a.tobytes() for a in (graphon.values, graphon.u_edges, graphon.v_edges))
    return f"step function, shape {graphon.values.shape}, sha256 {hashlib.sha256(data).hexdigest()[:16]}"


def known_spec(known: Known) -> Any:
    raise SpecError(
        f"{known!r}: what is known of single units is not written as text; keep what the network came from."
    )


def known_summary(known: Known) -> Any:
    digest = hashlib.sha256()
    for graphon in known.graphons:
        digest.update(str(short(graphon)).encode())
    return f"{len(known.profiles)} profiles, sha256 {digest.hexdigest()[:16]}"


def graphon_from_spec(value: Any, where: str) -> Graphon:
    try:
        if isinstance(value, dict):
            refuse_unknown(value, {"values", "u_edges", "v_edges"}, where)
            if "values" not in value:
                raise SpecError("values are missing from the step function")
            return StepGraphon(**value)
        if isinstance(value, str):
            return AnalyticGraphon(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return ConstantGraphon(value)
        if isinstance(value, list):
            return StepGraphon(value)
    except GraphonError as error:
        raise type(error)(f"{where}: {error}") from None
    except (TypeError, ValueError) as error:
        raise SpecError(f"{where}: {error}.") from None
    raise SpecError(f"{where}: expected a number, an expression's text or a table of values, got {shown(value)}.")


def refuse_unknown(table: Any, known: set[str], where: str) -> None:
    if not isinstance(table, dict):
        raise SpecError(f"{where}: expected a table, got {shown(table)}.")
    unknown = sorted(set(table) - known)
    if unknown:
        near = [(key, found[0]) for key in unknown if (found := get_close_matches(key, known, 1))]
        hint = "".join(f"; did you mean {there} for {key[:40]}?" for key, there in near[:1])
        names = shown_text(", ".join(unknown))
        raise SpecError(f"{where}: unknown keys {names}; known are {', '.join(sorted(known))}{hint or '.'}")
