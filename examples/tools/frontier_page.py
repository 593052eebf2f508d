"""What frontier.py measured, as a picture, a Markdown page and JSON."""
import json
import os
import pathlib

import figures
import matplotlib.pyplot as plt
from matplotlib.ticker import PercentFormatter

FAMILIES = [(figures.GREEN, "o"), (figures.BLUE, "s"), (figures.ORANGE, "D"), (figures.VERMILLION, "X")]
BASELINES = [(figures.GREY, "v"), (figures.SKY, "P"), (figures.PURPLE, "^")]
COLUMNS = [  # heading, key, form
    ("time / dense", "time_to_dense", "{:.2f}"), ("perplexity / dense", "perplexity_ratio", "{:.4f}"),
    ("KL", "divergence", "{:.4f}"), ("top-1", "top1_agreement", "{:.3f}"), ("keys", "share_of_dense_keys", "{:.2f}"),
    ("mass", "closed_mass", "{:.3f}"), ("r/T", "representatives_share", "{:.3f}"), ("saved", "savings", "{:.2f}"),
    ("Jaccard", "jaccard", "{:.2f}")]


def cells(record):
    return ["-" if record[key] is None else form.format(record[key]) for _, key, form in COLUMNS]


def looks(records):
    """A colour and a marker for each family, in their order."""
    out = {}
    for roles, choices in ((("family", "axis"), FAMILIES), (("baseline",), BASELINES)):
        names = dict.fromkeys(record["family"] for record in records if record["role"] in roles)
        out |= {name: choices[i % len(choices)] for i, name in enumerate(names)}
    return out


def draw(records, path):
    lengths = sorted({record["length"] for record in records})
    figure, grid = plt.subplots(2, len(lengths), figsize=(4.6 * len(lengths) + 1, 8.4), squeeze=False, sharey="row")
    look = looks(records)
    for column, length in enumerate(lengths):
        here = [record for record in records if record["length"] == length]
        for row, key in enumerate(("perplexity_ratio", "divergence")):
            axes = grid[row][column]
            for name, (colour, marker) in look.items():
                curve = [(record["time_to_dense"], record[key])
                         for record in sorted((record for record in here if record["family"] == name
                                               and record["role"] != "axis"), key=lambda one: one["value"])]
                others = [(record["time_to_dense"], record[key]) for record in here
                          if record["family"] == name and record["role"] == "axis"]
                if curve:
                    axes.plot(*zip(*curve), color=colour, marker=marker, markersize=7, label=name)
                if others:
                    axes.scatter(*zip(*others), color=colour, marker=marker, s=14, alpha=0.6)
            axes.axvline(1, color="#333333", linewidth=1)
            axes.set_xlim(0, max(1.05, min(1.6, 1.05 * max(record["time_to_dense"] for record in here))))
            axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        grid[0][column].axhline(1, color="#333333", linewidth=1)
        grid[0][column].set_title(f"Perplexity relative to dense: T = {length}")
        grid[1][column].set_title(f"KL from dense, nats: T = {length}")
        grid[1][column].set_yscale("log", nonpositive="mask")
        grid[1][column].set_xlabel("selection + attention, time of dense attention's")
    for axes in grid[0]:
        figures.scale_ratios(axes, [record["perplexity_ratio"] for record in records])
    grid[0][-1].legend(loc="best", fontsize=8.5)
    figure.tight_layout()
    figures.save(figure, path)


def best(records):
    """The settings that no other of the same length beats in both time and divergence, fastest first."""
    out = []
    for record in sorted(records, key=lambda one: (one["time_to_dense"], one["divergence"])):
        if not out or record["divergence"] < out[-1]["divergence"]:
            out.append(record)
    return out


def table(names, rows):
    lines = [names, ["---"] + ["---:"] * (len(names) - 1)] + rows
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def row(record):
    label = f", {record['label']}" if record["label"] else ""
    return [record["family"] + label] + cells(record)


def page(records, arguments, machine):
    headings = ["setting"] + [name for name, _, _ in COLUMNS]
    parts = ["# Loss against time\n",
             f"Made by `{arguments.command}` on {machine['cpu']}, {machine['threads']} threads. Whole model "
             f"({pathlib.Path(arguments.model).name}), float. Means over the texts named; *time* is selection and "
             "attention together, relative to dense attention of this library, timed in turn in every fifth layer; "
             "*keys* those that are read, of dense's; *mass* what closed leaves have of the softmax; *saved* Gram "
             "operations, and *Jaccard* the overlap with the layer before, of inherited sets. The settings of each "
             "name are in frontier.json.\n", "![Loss against time](frontier.png)\n"]
    for length in sorted({record["length"] for record in records}):
        here = [record for record in records if record["length"] == length]
        parts += [f"## T = {length}\n", f"Texts: {', '.join(here[0]['texts'])}.\n",
                  "Best at their time:\n", table(headings, [row(record) for record in best(here)]),
                  "<details><summary>All</summary>\n",
                  table(headings, [row(record) for record in here]), "</details>\n"]
    return "\n".join(parts)


def put(folder, name, content):
    scratch = folder / (name + ".part")
    scratch.write_text(content, encoding="utf-8")
    os.replace(scratch, folder / name)


def write(records, arguments, machine):
    if not records:
        return
    folder = pathlib.Path(arguments.output)
    figures.style()
    draw(records, folder / "frontier.png")
    put(folder, "README.md", page(records, arguments, machine))
    put(folder, "frontier.json", json.dumps({"command": arguments.command, "machine": machine, "points": records},
                                            indent=1) + "\n")


def write_presets(rows, arguments, machine):
    headings = ["preset", "T", "windows", "perplexity / dense", "upper 95 %", "allowed", "", "KL", "top-1", "keys",
                "speed-up"]
    lines = [[row["preset"], str(row["length"]), str(row["windows"]), f"{row['perplexity_ratio']:.4f}",
              f"{row['upper_bound']:.4f}", f"{1 + row['most']:.3f}", "meets it" if row["meets"] else "MISSES IT",
              f"{row['divergence']:.4f}", f"{row['top1_agreement']:.3f}", f"{row['share_of_dense_keys']:.2f}",
              f"{1 / row['time_to_dense']:.2f}"] for row in rows]
    widths = [max(len(line[i]) for line in [headings] + lines) for i in range(len(headings))]
    for line in [headings] + lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths)))
    text = (f"# The presets on other texts\n\nMade by `{arguments.command}` on {machine['cpu']}, {machine['threads']} "
            f"threads. Texts: {', '.join(rows[0]['texts'])}, which the presets were not tuned on. The bound is the "
            "one-sided 95 % bound of the mean logarithm of the ratio, paired over windows (Student's t).\n\n")
    folder = pathlib.Path(arguments.output)
    put(folder, "presets.md", text + table(headings, lines))
    put(folder, "presets.json", json.dumps({"command": arguments.command, "machine": machine, "presets": rows},
                                           indent=1) + "\n")
    print(f"\nWritten: {folder}/presets.md, presets.json")
