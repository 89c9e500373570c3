"""Errors that users can act on.

Every message says which argument was wrong, what was expected, what came, and what to change.
All of them are ``ValueError`` as well, so a caller who does not know this package can still catch them.
"""

from typing import Any

__all__ = [
    "ActivationError",
    "ClosedFormError",
    "ConnectivityError",
    "ConvergenceError",
    "ExpressionError",
    "GraphonError",
    "InputError",
    "KernelError",
    "NetworkError",
    "QuadratureError",
    "SpecError",
]


class GraphonError(ValueError):
    """Base class: something about a graphon, a network or their data is not as it must be."""


class ExpressionError(GraphonError):
    """A text or SymPy expression uses something outside the whitelist, or is too large."""


class ConnectivityError(GraphonError):
    """(W, V, D) of a layer contradict each other or leave their range (THEORY §2)."""


class NetworkError(GraphonError):
    """The layers, widths or variances of a network do not fit together."""


class ActivationError(GraphonError):
    """An activation is unknown, or outside the theory's reach."""


class ClosedFormError(GraphonError):
    """There is no finite or exact form, or none that is found; the message says why and what to use instead."""


class InputError(GraphonError):
    """Input data have the wrong shape, type or values."""


class KernelError(GraphonError):
    """A kernel matrix is not what the operation needs (symmetric, positive semi-definite, finite)."""


class ConvergenceError(GraphonError):
    """An iteration did not reach its tolerance within its budget."""


class QuadratureError(ConvergenceError):
    """The quadrature did not reach the tolerance; the message names the layer and what would help."""


class SpecError(GraphonError):
    """A spec file or TOML text cannot be read, or a network cannot be written as one."""


def shown(value: Any, length: int = 80) -> str:
    """A value as messages show it: short, and never by way of what could take for ever or print itself.

    Numbers of thousands of digits refuse to be printed, formulas with shared parts would print for ever.
    """
    if hasattr(type(value), "free_symbols"):
        return f"a SymPy {type(value).__name__}"
    if isinstance(value, list | tuple) and any(hasattr(type(one), "free_symbols") for one in value[:length]):
        text = ", ".join(shown(one, length) for one in value[:length])
        return shown_text(f"[{text}]" if isinstance(value, list) else f"({text})", length)
    try:
        text = repr(value[:length] if isinstance(value, str | bytes) else value)
    except Exception:
        return f"a value of type {type(value).__name__}"
    return shown_text(text, length)


def shown_text(text: str, length: int = 160) -> str:
    """Text on one line, cut where it is longer."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 3]}..."
