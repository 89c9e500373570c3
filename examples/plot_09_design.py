"""
A mask designed for a task
==========================

Two of eight inputs matter, together. The kernel's gradient finds them, before anything is trained.
"""

import numpy as np

import graphon_theory as gt

rng = np.random.default_rng(0)
names = ["age", "height", "weight", "dose", "smoker", "pulse", "iron", "sodium"]
x = rng.standard_normal((100, 8))
y = np.sign(x[:, 0] * x[:, 3])

found = gt.design(
    gt.Network([1.0, 1.0], bias_variance=0.1),
    x,
    y,
    density=0.25,
    widths=(8, 100, 1),
    blocks=4,
    starts=1,
    iterations=20,
)
print(found)

# %%
# What the first layer gives to every input.

ax = gt.plots.design(found, names)

# %%
# Masks with exactly this budget, at these widths.

print([f"{mask.mean():.3f}" for mask in found.masks(rng=0)], found.helps)
