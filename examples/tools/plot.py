"""Draws the two pictures of a report: the cascade over the layers, and what each attention mode costs in perplexity."""
import argparse
import json
import pathlib

import matplotlib.pyplot as plt
from figures import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, save, scale_ratios, style
from matplotlib.ticker import MaxNLocator, PercentFormatter

STYLES = {  # mode: (label, colour, marker)
    "near-far": ("near + far, opened", GREEN, "o"),
    "balanced": ("near + far, preset balanced", "#333333", "*"),
    "near-far-closed": ("near + far, closed", BLUE, "s"),
    "near-far-grouped": ("near + far, closed, grouped queries", ORANGE, "D"),
    "positions": ("blocks of positions, opened", SKY, "P"),
    "random": ("random representatives, opened", PURPLE, "^"),
    "window": ("window and sink only", GREY, "v"),
    "literal": ("literal r × r", VERMILLION, "X"),
}


def by_layer(report):
    """The layers; where each KV head has a selection of its own, the means over them."""
    heads = max(layer["set"] for layer in report["layers"]) + 1
    out = []
    for first in range(0, len(report["layers"]), heads):
        sets = report["layers"][first:first + heads]
        numbers = [key for key, value in sets[0].items() if isinstance(value, (int, float))]
        out.append({"jaccard": None} | {key: sum(one[key] for one in sets) / heads for key in numbers})
    return out


def draw_cascade(report, path):
    layers = by_layer(report)
    later = [layer for layer in layers if layer["jaccard"] is not None]
    figure, (savings, overlap) = plt.subplots(2, 1, figsize=(8, 6.2), sharex=True, height_ratios=[3, 2])

    every, after = [layer["layer"] for layer in layers], [layer["layer"] for layer in later]
    savings.plot(every, [layer["savings_exact"] for layer in layers], color=BLUE, label="exact cascade")
    savings.plot(after, [layer["savings_cross_gram_only"] for layer in later], color=ORANGE, linestyle="--",
                 label="paper mode, cross-Gram alone")
    savings.plot(every, [layer["savings_paper_mode"] for layer in layers], color=VERMILLION, linestyle=":",
                 label="paper mode, everything counted")
    savings.set(ylim=(0, 1), title="Gram operations saved, of T(T − 1)/2")
    savings.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    savings.legend(loc="lower left", ncols=1)

    overlap.plot(after, [layer["jaccard"] for layer in later], color=GREEN,
                 label="Jaccard overlap with the layer before")
    overlap.plot(every, [layer["representatives"] / report["tokens"] for layer in layers], color=GREY, linestyle="--",
                 label="r / T")
    overlap.set(ylim=(0, 1), xlabel="layer", title="Representatives")
    overlap.xaxis.set_major_locator(MaxNLocator(integer=True))
    overlap.legend(loc="lower left", ncols=2)
    figure.suptitle(f"The cascade through the layers: T = {report['tokens']}, τ = {report['threshold']:g}", x=0.06,
                    y=0.985, ha="left", fontsize=13, fontweight="bold")
    figure.tight_layout()
    save(figure, path)


def draw_perplexity(report, path):
    figure, axes = plt.subplots(figsize=(8, 5.2))
    runs = [mode for mode in report["modes"] + report["sweep"] if mode["name"] in STYLES]
    axes.axhline(1, color="#333333", linewidth=1)
    axes.annotate("dense", (1, 1), xycoords=axes.get_yaxis_transform(), xytext=(4, 0), textcoords="offset points",
                  va="center", color="#333333")
    for name, (label, colour, marker) in STYLES.items():
        points = sorted((mode["share_of_dense_keys"], mode["perplexity_ratio"]) for mode in runs
                        if mode["name"] == name)
        if points:
            axes.plot(*zip(*points), color=colour, marker=marker, markersize=8, label=label, clip_on=False,
                      linestyle="-" if len(points) > 1 else "none")

    least = scale_ratios(axes, [mode["perplexity_ratio"] for mode in runs])
    axes.set(xlim=(-0.01, None), ylim=(least, None), xlabel="keys read, of dense attention's")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_title(f"Perplexity relative to dense attention: T = {report['tokens']}", pad=12)
    axes.legend(loc="upper right")
    save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", help="report.json")
    parser.add_argument("folder", help="where the PNGs go")
    arguments = parser.parse_args()
    report = json.loads(pathlib.Path(arguments.report).read_text())
    folder = pathlib.Path(arguments.folder)
    style()
    draw_cascade(report, folder / "cascade.png")
    draw_perplexity(report, folder / "perplexity.png")


if __name__ == "__main__":
    main()
