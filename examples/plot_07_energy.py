"""
Energy against sparsity
=======================

As layers lose connections, fewer modes hold the kernel's trace; how fast depends on the rule.
"""

import matplotlib.pyplot as plt
import numpy as np

import graphon_theory as gt

x = np.random.default_rng(0).standard_normal((120, 8))
densities = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05)


def path(rule):
    return [gt.Network([1.0, rule(p), rule(p), 1.0], bias_variance=0.1) for p in densities]


# %%
# Random masks let less through than magnitude masks of the same density, so that biases weigh more.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
for ax, rule in zip(axes, (gt.random_pruning, gt.magnitude_pruning), strict=True):
    gt.plots.energy(gt.spectrum_path(path(rule), x), ax=ax)
    ax.set_title(rule.__name__.replace("_", " "))
