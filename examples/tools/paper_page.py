"""The paper's table as text, as a Markdown page and as pictures."""
import json
import os

import figures
import matplotlib.pyplot as plt

LENGTHS = "128,256,512,1024,2048,4096"
THRESHOLDS = "0.7,0.75,0.8,0.85,0.9,0.95"
PAPER_SAVINGS, PAPER_JACCARD = (0.22, 0.63), (0.83, 0.94)
CASCADE_COLUMNS = [  # heading, key, form
    ("r/T", "representatives_share", "{:.2f}"), ("added", "additions", "{:.1f}"), ("removed", "removals", "{:.1f}"),
    ("Jaccard", "jaccard", "{:.3f}"), ("least", "least_jaccard", "{:.3f}"), ("exact", "savings_exact", "{:.1%}"),
    ("paper mode", "savings_paper_mode", "{:.1%}"), ("cross-Gram", "savings_cross_gram_only", "{:.1%}"),
    ("full sel.", "savings_full_selection", "{:.1%}")]
QUALITY = {  # key, form, what it is
    "decoder": [("perplexity_ratio", "{:.3f}", "perplexity relative to dense attention")],
    "encoder": [("embedding_cosine", "{:.3f}", "cosine of embeddings with those of dense attention"),
                ("rank_correlation", "{:.3f}", "rank correlation of pairwise similarities with dense attention")]}

MODES = {
    "decoder": "*window* is the near field alone, *literal* the paper's r x r problem, *near-far-closed* the near field "
               "and leaves, means of up to 16 older tokens each, *near-far* the same with the leaves open that have "
               "more than 1 % of the softmax.",
    "encoder": "*literal* is the paper's r x r problem, *weighted* r x r on the clusters' means, weighted by their "
               "sizes, *all-queries* every token against these means, *random* the same with as many random "
               "representatives."}


def mode_names(table):
    return [mode["name"] for mode in table["lengths"][0]["thresholds"][0]["modes"] if mode["name"] != "dense"]


def value_of(at, name, key):
    """Not a number where a mode was not run: decoders' random representatives are tried at the first tau only."""
    return next((mode[key] for mode in at["modes"] if mode["name"] == name), float("nan"))


def cascade_cells(at):
    return [f"{at['threshold']:.2f}"] + [form.format(at["cascade"][key]) for _, key, form in CASCADE_COLUMNS]


def quality_cells(table, at):
    """Mode by mode; of an encoder cosine / rank correlation."""
    measures = QUALITY[table["kind"]]
    cells = [" / ".join(form.format(value_of(at, name, key)) for key, form, _ in measures) for name in mode_names(table)]
    return [cell.replace("nan", "") for cell in cells]


def text(table, length, heading):
    """The lines of one length, for a terminal."""
    names = ["T", "tau"] + [name for name, _, _ in CASCADE_COLUMNS] + mode_names(table)
    quality_width = max(map(len, quality_cells(table, length["thresholds"][0])), default=0)
    widths = [max(len(name), 5) for name in names[:-len(mode_names(table)) or None]]
    widths += [max(len(name), quality_width) for name in mode_names(table)]
    rows = [names] if heading else []
    rows += [[str(length["tokens"])] + cascade_cells(at) + quality_cells(table, at) for at in length["thresholds"]]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows)


def markdown_table(names, rows):
    lines = [names, ["---:"] * len(names)] + rows
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def page(table):
    cascade = [[str(length["tokens"])] + cascade_cells(at)
               for length in table["lengths"] for at in length["thresholds"]]
    parts = [f"# The paper's table: {table['model']}\n",
             f"Made by `{table['command']}`. Text: {table['text']}; selection sees: {table['features']}. Means over "
             "all layers but the first, and for an encoder over all pieces of the text; *least* is the smallest Jaccard "
             "overlap of any two consecutive layers. Savings are of T(T - 1)/2 Gram operations: by the exact cascade, "
             "in paper mode with everything counted, in paper mode with the cross-Gram products alone, and by full "
             "selection in every layer. In every layer the cascade's set equals that of full selection: where it does "
             "not, the command fails.\n",
             "The paper (GPT-2 124M, GPT-J 6B, OPT 6.7B): savings 22-63 %, mean Jaccard overlap 0.83-0.94.\n",
             "![Savings, overlap and size of the sets](cascade.png)\n",
             markdown_table(["T", "tau"] + [name for name, _, _ in CASCADE_COLUMNS], cascade)]
    if mode_names(table):
        parts += quality_part(table)
    if "note" not in table:
        parts.append("| model | table |\n|---|---|\n" + "".join(
            f"| {name} | weights not available to us; `examples/paper_table.sh --model DIR` remakes this page |\n"
            for name in ("GPT-2 124M", "GPT-J 6B", "OPT 6.7B")))
    return "\n".join(parts)


def quality_part(table):
    names = ["T", "tau"] + mode_names(table)
    rows = [[str(length["tokens"]), f"{at['threshold']:.2f}"] + quality_cells(table, at)
            for length in table["lengths"] for at in length["thresholds"]]
    what = " / ".join(meaning for _, _, meaning in QUALITY[table["kind"]])
    title, note = "## Embeddings", f" of {table.get('pieces')} pieces"
    if table["kind"] == "decoder":
        dense = ", ".join(f"{length['dense_perplexity']:.2f} at T = {length['tokens']}" for length in table["lengths"])
        title = "## Perplexity"
        note = f". Dense perplexity: {dense}. Near + far is dense where the near field, 128 tokens, reaches everything"
    note += f". {MODES[table['kind']]}"
    if "note" in table:  # other modes
        note = f". Dense perplexity: {dense}. {table['note']}"
    return [f"{title}\n", f"Each cell: {what}{note}\n", f"![{what}](quality.png)\n", markdown_table(names, rows)]


def colours(table):
    palette = plt.get_cmap("viridis_r")
    count = len(table["lengths"])
    return [palette(0.15 + 0.85 * i / max(1, count - 1)) for i in range(count)]


def draw_lines(axes, table, value):
    """A line for each length, over tau."""
    for length, colour in zip(table["lengths"], colours(table)):
        axes.plot([at["threshold"] for at in length["thresholds"]], [value(at) for at in length["thresholds"]],
                  color=colour, marker="o", markersize=4, label=f"T = {length['tokens']}")
    axes.set_xlabel("τ")


def draw_cascade(table, path):
    panels = [("savings_exact", "Saved by the exact cascade", PAPER_SAVINGS),
              ("savings_cross_gram_only", "Saved, cross-Gram alone", PAPER_SAVINGS),
              ("jaccard", "Mean Jaccard overlap", PAPER_JACCARD), ("representatives_share", "r / T", None)]
    figure, grid = plt.subplots(1, len(panels), figsize=(13, 3.6))
    for axes, (key, title, band) in zip(grid, panels):
        draw_lines(axes, table, lambda at: at["cascade"][key])
        if band is not None:
            axes.axhspan(*band, color=figures.ORANGE, alpha=0.15, linewidth=0, label="the paper's range")
        axes.set(ylim=(0, 1), title=title)
    grid[0].legend(loc="lower left", fontsize=8)
    figure.tight_layout()
    figures.save(figure, path)


def draw_quality(table, path):
    names = mode_names(table)
    key, _, meaning = QUALITY[table["kind"]][0]
    figure, grid = plt.subplots(1, len(names), figsize=(3.4 * len(names), 3.8), sharey=True, squeeze=False)
    values = [value_of(at, name, key) for name in names for length in table["lengths"] for at in length["thresholds"]]
    for axes, name in zip(grid[0], names):
        draw_lines(axes, table, lambda at: value_of(at, name, key))
        axes.set_title(name)
        if table["kind"] == "decoder":
            figures.scale_ratios(axes, [value for value in values if value == value])
    grid[0][-1].legend(loc="best", fontsize=8)
    figure.suptitle(meaning[0].upper() + meaning[1:], x=0.02, ha="left", fontweight="bold")
    figure.tight_layout()
    figures.save(figure, path)


def write(table, folder):
    folder.mkdir(parents=True, exist_ok=True)
    figures.style()
    draw_cascade(table, folder / "cascade.png")
    if mode_names(table):
        draw_quality(table, folder / "quality.png")
    for name, content in (("report.json", json.dumps(table, indent=1) + "\n"), ("README.md", page(table))):
        scratch = folder / (name + ".part")
        scratch.write_text(content, encoding="utf-8")
        os.replace(scratch, folder / name)
