"""
A limit kernel on digits
========================

The NTK of a sparse network on handwritten digits, sorted by class: blocks on the diagonal are what it tells apart.
"""

import numpy as np
from sklearn.datasets import load_digits

import graphon_theory as gt

images, labels = load_digits(return_X_y=True)
images, labels = images[:300] - images[:300].mean(axis=0), labels[:300]
images /= np.sqrt(np.mean(images**2))

# %%
# One layer of hubs between a dense input layer and a dense readout.

hubs = gt.AnalyticGraphon("0.8*exp(-3*u - 3*v) + 0.05")
network = gt.Network([1.0, hubs, 1.0], activation="relu", bias_variance=0.1)
kernels = gt.limit_kernel(network, images)
ax = gt.plots.kernel(kernels, order=labels)

# %%
# The result is labelled, and says how far it may be off.

print(kernels.attrs["quadrature_error"])
kernels
