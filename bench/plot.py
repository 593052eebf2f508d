"""Draws the picture of a report: how many times as fast as each peer, and time and memory over the tokens."""
import argparse
import json
import pathlib
import sys

import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from harness.report import KINDS, LABELS, NEAR_FAR_LENGTHS, variant

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "examples" / "tools"))
from figures import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILLION, save, style  # noqa: E402

COLOURS = {"select": BLUE, "cascade": ORANGE, "dense": GREEN, "rxr": GREEN, "nearfar": VERMILLION, "threads": PURPLE,
           "decode": GREEN, "batch": PURPLE}


def draw_ratios(report, axes):
    """One row per name: a dot for each case (hollow without a target), a bar for the target."""
    ratios = [entry for entry in report["entries"] if entry["measure"] == "ratio"]
    rows = [name for name in LABELS if any(entry["name"] == name for entry in ratios)]
    for height, name in enumerate(rows):
        colour = COLOURS.get(name.split("_")[0], GREY)
        cases = [entry for entry in ratios if entry["name"] == name]
        values = [entry["value"] for entry in cases]
        axes.plot([min(values), max(values)], [height] * 2, color=colour, alpha=0.3, linewidth=6,
                  solid_capstyle="round")
        fills = [colour if entry["target"] else "white" for entry in cases]
        axes.scatter(values, [height] * len(values), s=42, color=fills, edgecolor=colour, linewidth=1.2, zorder=3)
        for target in {entry["target"] for entry in cases if entry["target"]}:
            axes.plot([target] * 2, [height - 0.3, height + 0.3], color="#333333", linewidth=2, zorder=2)
    axes.axvline(1, color="#333333", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([0.25, 0.5, 1, 2, 4, 8, 16, 32]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}×"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    axes.set_yticks(range(len(rows)), [LABELS[name] for name in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("a dot per case, hollow without a target; bars: targets")
    axes.set_title("Times as fast as the peer")


def balanced_over_length(report):
    """{(kind, variant): [(T, times as fast as own dense attention)]}, of the preset `balanced`."""
    lines = {}
    for kind in KINDS:
        for name in (f"nearfar_{kind}_vs_own_dense_{T}" for T in NEAR_FAR_LENGTHS):
            for entry in report["entries"]:
                if entry["name"] == name and variant(entry).startswith("balanced"):
                    lines.setdefault((kind, variant(entry)), []).append((entry["T"], entry["value"]))
    return lines


def draw_lengths(lines, axes):
    """A line per type of rows and form of the preset."""
    colours = dict(zip(KINDS, (VERMILLION, BLUE)))
    styles = dict(zip(dict.fromkeys(form for _, form in lines), ("o-", "s--", "^:")))
    for (kind, form), points in lines.items():
        axes.semilogx(*zip(*points), styles[form], color=colours[kind], markersize=6, label=f"{KINDS[kind]}, {form}")
    axes.axhline(1, color="#333333", linewidth=1)
    axes.set_xticks(sorted({T for points in lines.values() for T, _ in points}))
    axes.xaxis.set_major_formatter(FuncFormatter(thousands))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}×"))
    axes.minorticks_off()
    axes.set_xlabel("T, tokens")
    axes.set_title("Near + far, times as fast as own dense")
    axes.legend(loc="upper left", fontsize=9)


def thousands(x, _):
    return f"{x / 1024:g} k"


def draw_growth(entry, axes, unit, colours, lines):
    """`lines`: key in the entry's series, or a list of values: label. Lists are drawn as references."""
    tokens = [point["T"] for point in entry["series"]]
    for key, label in lines:
        values = [point[key] / unit for point in entry["series"]] if isinstance(key, str) else key
        if isinstance(key, str):
            axes.loglog(tokens, values, "o-", color=colours.pop(0), markersize=6, label=label)
        else:
            axes.loglog(tokens, values, "--", color=GREY, linewidth=1.4, label=label)
    axes.set_xticks(tokens)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.xaxis.set_major_formatter(FuncFormatter(thousands))
    axes.minorticks_off()
    axes.set_xlabel("T, tokens")
    axes.legend(loc="upper left")


def draw(report, path):
    named = {entry["name"]: entry for entry in report["entries"]}
    lines = balanced_over_length(report)
    beside = [name for name in ("time_exponent", "peak_memory") if name in named] + (["near_far"] if lines else [])
    rows = len({entry["name"] for entry in report["entries"] if entry["measure"] == "ratio"})
    figure = plt.figure(figsize=(12.5 if beside else 8.5, max(6.4, 0.31 * rows, 3 * len(beside))))
    grid = figure.add_gridspec(max(1, len(beside)), 2 if beside else 1, width_ratios=[1.5, 1] if beside else None)
    draw_ratios(report, figure.add_subplot(grid[:, 0]))
    panels = {name: figure.add_subplot(grid[place, 1]) for place, name in enumerate(beside)}
    if "time_exponent" in panels:
        entry, axes = named["time_exponent"], panels["time_exponent"]
        first = entry["series"][0]
        quadratic = [first["seconds"] * (point["T"] / first["T"]) ** 2 for point in entry["series"]]
        draw_growth(entry, axes, 1, [VERMILLION],
                    [("seconds", f"measured, ∝ T^{entry['value']:.2f}"), (quadratic, "∝ T²")])
        axes.set_title(f"Seconds of all stages (r = {entry['r']})")
    if "peak_memory" in panels:
        entry, axes = named["peak_memory"], panels["peak_memory"]
        draw_growth(entry, axes, 2**20, [BLUE, GREEN],
                    [("reserved_bytes", "reserved"), ("resident_bytes", "in use"),
                     ([point["bytes_of_t_by_t"] / 2**20 for point in entry["series"]], "T × T floats")])
        axes.set_title("Memory beyond inputs and outputs, MiB")
    if lines:
        draw_lengths(lines, panels["near_far"])
    figure.suptitle(f"Cascada and its peers on {report['machine']['cpu']}, one thread", x=0.01, ha="left", fontsize=13,
                    fontweight="bold")
    figure.tight_layout()
    save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", help="report.json")
    parser.add_argument("picture", help="the PNG to write")
    arguments = parser.parse_args()
    style()
    draw(json.loads(pathlib.Path(arguments.report).read_text()), pathlib.Path(arguments.picture))


if __name__ == "__main__":
    main()
