"""
Which layers and which units learn
==================================

The tangent kernel is a sum over layers, and in each layer an integral over connections.
"""

import numpy as np

import graphon_theory as gt

x = np.random.default_rng(0).standard_normal((30, 6))
hubs = gt.AnalyticGraphon("0.9*exp(-2*u - 2*v)")
network = gt.Network([1.0, hubs, hubs, 1.0], bias_variance=0.1)

# %%
# Each layer's share of the trace, and of what different inputs share.

ax = gt.plots.contributions(gt.limit_kernel(network, x, contributions=True))

# %%
# Within the second layer: the density over connections, with its marginals.

density = gt.kernel_density(network, x[0], x[0], layer=2)
ax = gt.plots.density(density)
