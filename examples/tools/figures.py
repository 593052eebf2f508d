"""How all pictures look: colours, style, and a file that is there whole or not at all."""
import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

# Okabe and Ito's colours, which remain distinct for colour-blind readers.
BLUE, ORANGE, GREEN, VERMILLION, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#6E6E6E"
SKY = "#56B4E9"


def style():
    plt.rcParams.update({
        "figure.facecolor": "white", "axes.facecolor": "white", "savefig.dpi": 160, "font.size": 10.5,
        "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#888888", "axes.titlesize": 11.5,
        "axes.titlelocation": "left", "axes.titleweight": "bold", "axes.grid": True, "grid.color": "#E6E6E6",
        "axes.axisbelow": True, "legend.frameon": False, "lines.linewidth": 2,
    })


def save(figure, path):
    scratch = path.with_suffix(".part.png")
    figure.savefig(scratch, bbox_inches="tight")
    os.replace(scratch, path)
    plt.close(figure)


def scale_ratios(axes, ratios):
    """Costs span four decades, and some are negative: linear within 1 % of dense, logarithmic beyond. Returns the
    least tick."""
    unit = 0.01
    axes.set_yscale("function", functions=(lambda ratio: np.arcsinh((ratio - 1) / unit),
                                           lambda height: 1 + unit * np.sinh(height)))
    ticks = [0.9, 0.97, 0.99, 1, 1.01, 1.03, 1.1, 1.3, 2, 5, 20, 100, 1000]
    shown = [tick for tick in ticks if min(ratios + [1]) - 0.02 <= tick <= 1.5 * max(ratios + [1])]
    axes.set_yticks(shown, [f"× {tick:g}" for tick in shown])
    return min(shown)
