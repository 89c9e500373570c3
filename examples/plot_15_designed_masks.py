"""
Designed masks, trained
=======================

Five of forty inputs matter. Networks with masks of every method on one budget of connections, trained by gradient
descent: what ``python -m graphon_validation design`` measured, as the page of results keeps it.
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

here = Path.cwd()
root = next(one for one in (here, *here.parents) if (one / "docs/results").is_dir())  # of the repository
found = json.loads((root / "docs/results/design-relevant-0.1.json").read_text())
methods = found["methods"]
print(found["verdict"])

# %%
# Bars are test errors at the best step, means over networks with their standard errors; diamonds what the limit kernel
# says of the law of the masks. No rule that looks at weights and gradients knows which inputs matter.

order = sorted(methods, key=lambda name: methods[name]["best"][0], reverse=True)
means = [methods[name]["best"][0] for name in order]
errors = [(methods[name]["best"] + [0.0])[1] for name in order]
predicted = [methods[name]["predicted_rows"] or methods[name]["predicted"] or np.nan for name in order]
figure, ax = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
colours = ["#D55E00" if name == "designed" else "#7F7F7F" for name in order]
ax.barh(order, means, xerr=errors, color=colours, height=0.6)
ax.plot(predicted, order, "D", color="black", ms=4, label="predicted, with rows where designed")
ax.axvline(found["guess"], color="black", lw=0.8, ls=":", label="training mean")
ax.set(xlabel=f"test error, {found['seeds']} networks of width {found['width']:,}")
ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=8)
