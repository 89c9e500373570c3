"""
Four ways to write a graphon
============================

A number, a table, a formula, a function: anything that says how dense the connections from v to u are.
"""

import matplotlib.pyplot as plt
import numpy as np

import graphon_theory as gt

# %%
# Tables hold their edges; of formulas, kinks and jumps are found; of functions, jumps must be declared.

table = gt.StepGraphon([[0.9, 0.1], [0.2, 0.6]], u_edges=[0, 0.3, 1], v_edges=[0, 0.5, 1])
formula = gt.AnalyticGraphon("exp(-8*(u - v)**2)")
function = gt.FunctionGraphon(lambda u, v: np.cos(3 * u - v) ** 2)
mixed = 0.5 * table + 0.5 * formula

figure, axes = plt.subplots(2, 2, figsize=(8, 6.6), layout="constrained")
for ax, graphon in zip(axes.flat, (table, formula, function, mixed), strict=True):
    gt.plots.graphon(graphon, ax=ax, limits=(0, 1))

# %%
# Means and degrees are exact, and masks are drawn at any size.

print(table.mean(), gt.exact_mean(table))
degree = formula.degrees(1)  # of a receiver at u
print(degree([0.0, 0.5]))
mask = mixed.sample(300, 200, rng=0)
plt.figure(figsize=(3.4, 4.2))
plt.imshow(mask, aspect="auto", cmap="cividis", interpolation="nearest")
plt.title(f"one mask, density {mask.mean():.3f}")
