"""
Choosing among methods
======================

Several networks on one data set: how fast, and how well they will do on new inputs.
"""

import numpy as np
from rich import print as show

import graphon_theory as gt

rng = np.random.default_rng(0)
x, x_new = rng.standard_normal((80, 6)), rng.standard_normal((80, 6))
y, y_new = (np.sin(2 * one[:, 0]) + one[:, 1] * one[:, 2] for one in (x, x_new))


def network(layer):
    return gt.Network([1.0, layer, layer, 1.0], bias_variance=0.1)


found = gt.compare_networks(
    {
        "dense": network(1.0),
        "random": network(gt.random_pruning(0.2)),
        "magnitude": network(gt.magnitude_pruning(0.2)),
    },
    x,
    y,
    x_new,
    y_new,
)
show(gt.comparison_table(found))

# %%
# In time, at the same learning rate.

ax = gt.plots.comparison(found)
