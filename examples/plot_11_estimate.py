"""
A graphon from one mask, beside its null
========================================

Any one mask shows some structure. The null says how much a mask without any would show.
"""

import matplotlib.pyplot as plt

import graphon_theory as gt

truth = gt.AnalyticGraphon("0.1 + 0.7*exp(-3*u)*(1 - v)")
structured = truth.sample(300, 300, rng=0)
even = gt.ConstantGraphon(truth.mean()).sample(300, 300, rng=1)

# %%
# Both estimates, on one scale.

figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
gt.plots.graphon(truth, ax=axes[0], limits=(0, 0.8)).set_title("the truth")
for ax, mask, name in ((axes[1], structured, "estimated"), (axes[2], even, "of a mask without structure")):
    found = gt.estimate_graphon(mask, bins=12)
    gt.plots.graphon(found, ax=ax, limits=(0, 0.8)).set_title(name)
    print(f"{name}: z = {found.null.z:.1f}, off by {gt.l2_distance(found, truth):.3f}")
