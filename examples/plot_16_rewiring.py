"""
Two masks that learn
====================

RigL drops small weights and grows where the gradient is large; ``gt.graphon_flow`` follows the gradient of what the
limit kernel expects of a mask, before there are weights. Where do both send the connections of the first layer?
"""

import matplotlib.pyplot as plt
import numpy as np

import graphon_theory as gt
import graphon_validation as gv

rng = np.random.default_rng(0)
x = rng.standard_normal((120, 10))
y = np.sign(x[:, 0]) * x[:, 1]
widths, density = (10, 120, 1), 0.2

# %%
# The flow: connections move continuously, under a fixed budget.

network = gt.Network([1.0, 1.0], bias_variance=0.1)
flow = gt.graphon_flow(network, x, y, density=density, widths=widths, blocks=4, times=np.linspace(0, 0.2, 9))
tables = np.array([one.layers[0].mask.values * one.layers[1].mask.values.T for one in flow.networks])

# %%
# RigL: the same budget, masks of a network that trains.

model = gv.build(gt.balanced(gt.Network([0.2, 0.2], bias_variance=0.1)), widths, 0)
rate = 0.5 * gt.critical_learning_rate(gv.empirical_kernel(model, x).ntk)
plan = gv.Rewiring("rigl", every=50, until=2000, layers=(0,))
seen = gv.train(model, (x, y[:, None]), steps=2000, learning_rate=rate, rewiring=plan, progress=False)
masks = np.array([layers[0] * layers[1].T for layers in gv.mask_history(seen, model)])

# %%
# The share of the first layer's connections, of units that are read, that reach the two inputs of the target.

figure, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
for name, path in (("graphon flow", tables), ("RigL", masks)):
    share = path[:, :, :2].sum((1, 2)) / path.sum((1, 2))
    ax.plot(np.linspace(0, 1, len(share)), share, "o-", ms=3, label=name)
ax.axhline(0.2, color="black", lw=0.8, ls=":", label="even")
ax.set(xlabel="share of the time", ylabel="connections at the inputs that matter", ylim=(0, 1))
ax.legend()
