"""
A rate that stays as masks get sparser
======================================

The largest stable rate of gradient descent under magnitude pruning: with the dense network's variances, with variances
over the density, and with the variances and factors of ``gt.transfer``.
"""

import matplotlib.pyplot as plt
import numpy as np

import graphon_theory as gt

x = np.random.default_rng(0).standard_normal((60, 20))
densities = [0.5, 0.2, 0.1, 0.05, 0.02]


def network(layer, variance=2.0):
    return gt.Network([1.0, layer, layer, 1.0], weight_variance=[2.0, variance, variance, 2.0], bias_variance=0.1)


def rate(network, factors=1.0):
    shares = gt.limit_kernel(network, x, contributions=True).ntk_layer
    return gt.critical_learning_rate((shares.values * np.reshape(factors, (-1, 1, 1))).sum(0))


# %%
# Magnitude pruning keeps large weights, so that a layer keeps more of its signal than of its connections: dividing the
# variance by the density is too much, and 1 too little. The factors take what is left from the rates of the layers.

rates = {"none": [], "1/density": [], "transfer": []}
for density in densities:
    law = gt.magnitude_pruning(density)
    rule = gt.transfer(network(law), network(1.0))
    rates["none"].append(rate(network(law)))
    rates["1/density"].append(rate(network(law, 2.0 / density)))
    rates["transfer"].append(rate(rule.network, rule.learning_rate))
    print(f"density {density:4}: variance x {rule.variance[1]:.2f}, rate of the layer x {rule.learning_rate[1]:.2f}")

# %%
# On finite networks the same is measured on the page of results.

figure, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
for name, found in rates.items():
    ax.loglog(densities, np.array(found) / rate(network(1.0)), "o-", label=name)
ax.axhline(1.0, color="black", lw=0.8, ls=":")
ax.set_xticks(densities, [f"{one:g}" for one in densities])
ax.minorticks_off()
ax.set(xlabel="density", ylabel="largest stable rate, of the dense one")
ax.legend()
