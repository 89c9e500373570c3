"""Pictures of what the package returns: each takes a result, accepts ``ax=`` and returns the Axes.

``draw`` chooses by what it is given, ``save`` writes the picture to a file. One style, put on for the time of drawing:
your own matplotlib settings stay as they are. Needs matplotlib (the ``examples`` extra), which loads when first drawn
with.
"""

from graphon_theory.plots.choices import draw, save, save_figure
from graphon_theory.plots.curves import comparison, contributions, energy, learning_curve, spectrum
from graphon_theory.plots.heat_maps import connectivity, density, design, graphon, kernel
from graphon_theory.plots.quickstart_figures import quickstart_figure
from graphon_theory.plots.training_curves import training

__all__ = [
    "comparison",
    "connectivity",
    "contributions",
    "density",
    "design",
    "draw",
    "energy",
    "graphon",
    "kernel",
    "learning_curve",
    "quickstart_figure",
    "save",
    "save_figure",
    "spectrum",
    "training",
]
