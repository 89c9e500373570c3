"""
A training curve before training
================================

Gradient flow in closed form, with the loss on inputs that it has not seen, and the time to stop.
"""

import numpy as np

import graphon_theory as gt

rng = np.random.default_rng(0)
x, x_new = rng.standard_normal((100, 5)), rng.standard_normal((200, 5))
target, y_new = (np.sin(2 * one[:, 0]) + one[:, 1] for one in (x, x_new))
y = target + rng.standard_normal(100)

network = gt.Network([1.0, gt.magnitude_pruning(0.3), 1.0], bias_variance=0.1)
kernel = gt.limit_kernel(network, x).ntk
cross = gt.limit_kernel(network, x_new, x).ntk

# %%
# Noise is learned last: the test loss turns up again.

times = np.geomspace(0.1, 1e5, 80)
flow = gt.gradient_flow(kernel, y, times, test_kernel=cross, y_test=y_new)
ax = gt.plots.training(flow)
best = float(times[np.argmin(flow.test_loss.values)])
ax.axvline(best, color="#777777", linewidth=0.8)
print(f"least test loss near t = {best:.3g}")

# %%
# In steps of gradient descent, at half the largest stable rate.

rate = gt.critical_learning_rate(kernel) / 2
print(f"rate {rate:.3g}: loss 0.1 after {gt.steps_to_loss(kernel, y, 0.1, rate)} steps")
