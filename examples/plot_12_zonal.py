"""
The spectrum on a sphere, without a sample
==========================================

Where the first layer treats inputs alike, eigenvalues come by degree of harmonics, each with its multiplicity.
"""

import numpy as np

import graphon_theory as gt

spectra = {
    name: gt.zonal_spectrum(gt.Network([1.0, layer, 1.0], bias_variance=0.1), dimension=10, count=8)
    for name, layer in (("dense", 1.0), ("random 0.05", gt.random_pruning(0.05)))
}
ax = gt.plots.spectrum(spectra)

# %%
# A sample of points on that sphere sees the same, blurred.

x = np.random.default_rng(0).standard_normal((500, 10))
x *= np.sqrt(10) / np.linalg.norm(x, axis=1, keepdims=True)
sampled = gt.spectrum(gt.limit_kernel(gt.Network([1.0, 1.0, 1.0], bias_variance=0.1), x).ntk, count=11)
print(spectra["dense"].eigenvalue.values[:2], spectra["dense"].multiplicity.values[:2])
print(sampled.eigenvalue.values[[0, 1, 10]])
