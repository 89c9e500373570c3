"""Pruning: laws from scores to connectivity, and the limit of pruning by a data-fed saliency."""

from graphon_theory.pruning.laws import INITS

__all__ = ["INITS"]
