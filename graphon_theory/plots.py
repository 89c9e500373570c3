"""Figures of results: the public face of ``reports/figures``."""

from graphon_theory.reports.figures import (
    contributions_figure,
    density_figure,
    quickstart_figure,
    save_figure,
)

__all__ = ["contributions_figure", "density_figure", "quickstart_figure", "save_figure"]
