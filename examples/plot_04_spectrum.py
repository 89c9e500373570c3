"""
What is learned first: the spectrum
===================================

Sparsity makes the spectrum steeper where biases weigh more: fewer modes hold the trace.
"""

import numpy as np

import graphon_theory as gt

x = np.random.default_rng(0).standard_normal((250, 6))

# %%
# Three densities of two hidden layers, and the decay fitted to each.

spectra = {}
for density in (1.0, 0.2, 0.05):
    layer = gt.random_pruning(density)
    network = gt.Network([1.0, layer, layer, 1.0], bias_variance=0.1)
    spectra[f"density {density:g}"] = gt.spectrum(gt.limit_kernel(network, x).ntk)
ax = gt.plots.spectrum(spectra)

# %%
# The share of the trace in the leading modes.

ax = gt.plots.energy(spectra)
for name, modes in spectra.items():
    print(name, f"effective rank {modes.attrs['effective_rank']:.2f}")
