#!/usr/bin/env python3
"""The model of bench/results/gfx942.md: issue slots of inner loops by llvm-mca, and rooflines. No measurement.

model.py    prints both tables; needs clang 19 and llvm-mca-19
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import code_gates as gates  # noqa: E402
from loops import matrix_share, mca_clocks, turns  # noqa: E402

peak_flops, peak_bytes = 1307e12, 5.3e12  # MI300X, dense bf16 and HBM3, data sheet
clock, slab, panel = 2.1e9, 64, 128  # MI300X, data sheet; steps of k and rows that a block multiplies at a time
share, advanced = 0.2, 0.1  # assumed: r / T; pairs that the advance multiplies, of T^2 / 2
stretch, neighbours = 256, 448  # tokens that a launch resolves; rows that the graph multiplies each with, whole panels
walk = 50 * mca_clocks  # of a representative, where its stretch is resolved: instructions of that turn, counted by hand
anchored, batch = 0.25, 512  # assumed: keys that are anchors, in one cluster (balanced, SmolLM2); chain_batch


def cycles(code):
    """llvm-mca's cycles of one turn of a loop; None where it comes to no end."""
    try:
        run = subprocess.run(["llvm-mca-19", "-mtriple=amdgcn-amd-amdhsa", "-mcpu=gfx942", "-iterations=100"],
                             input="\n".join(code), capture_output=True, text=True, timeout=20)
    except subprocess.TimeoutExpired:
        return None
    if run.returncode != 0:
        sys.exit(run.stderr)
    return int(re.search(r"Total Cycles:\s+(\d+)", run.stdout).group(1)) / 100


def microseconds(flops, moved):
    """The roofline: the longer of the work at peak and the bytes at peak."""
    return max(flops / peak_flops, moved / peak_bytes) * 1e6


models = {"GPT-2": (768, 12, 64), "GPT-J": (4096, 16, 256), "OPT 6.7B": (4096, 32, 128)}  # d, heads, head_dim


def roofline(model, tokens):
    """Microseconds of each of our kernels, and of dense attention: one layer and one sequence of bfloat16."""
    d, heads, dim = models[model]
    r = share * tokens
    rows = tokens * heads * dim
    io = 4 * rows * 2  # q, k, v and outputs
    # A chunk of 128 sees 128 + 64 near keys on average, and the leaves older than its near field: half of them.
    # Leaves of 16: at most r + T / 16. Their correction: two products of depth 8.
    # Tables of mean keys and values, and 8 parts of variances: all rows written once, and read at least once where some
    # chunk uses them.
    leaves = r + tokens / 16
    correction = 2 * 2 * 8 * tokens * heads
    x = tokens * d * 2
    return {
        "dense attention": microseconds(2 * tokens * rows, io),
        # One query: every key and value once.
        "dense decoding": microseconds(4 * rows, 2 * rows * 2),
        "near + far: attend": microseconds(4 * rows * (192 + leaves / 2) + correction * leaves / 2,
                                           io + 2 * rows * 2 + tokens * heads * 8 * 2),
        # Without values: near keys, and leaves twice.
        "opening: ask": microseconds(2 * rows * (192 + leaves) + correction * leaves,
                                     rows * 2 * 2 + rows * 2 + tokens * heads * 8 * 2),
        "near + far: tables": microseconds(4 * rows, 2 * 2 * rows * 2 + tokens * heads * 8 * 2),
        # Every key meets the anchors before it. Canonical products are not in it.
        "by keys: chains": microseconds(2 * rows * anchored * tokens / 2, 2 * rows + 56 * tokens * heads),
        "graph": microseconds(2 * d * tokens * neighbours, x + tokens * 2 * stretch / 8),
        "advance, all launches": microseconds(2 * d * advanced * tokens * tokens / 2, x),
        "cross-Gram of paper mode": microseconds(2 * d * (tokens - r) * r, x + tokens * r / 8),
    }


def stretches(tokens):
    return (tokens + stretch - 1) // stretch


def longest_blocks(model, tokens, turn, kept=share * stretch):
    """Microseconds of the advance's longest blocks, a launch after the other: the one that resolves takes a walk for each
    of a stretch's representatives, `kept`; others, which compare, `turn` clocks for each slab of a panel, or half of a
    panel's slabs for half of its rows."""
    halves = (kept + panel / 2 - 1) // (panel / 2)
    compares = max(models[model][0] / slab * halves / 2 * turn, kept * walk)
    meeting = max(stretches(tokens) - 2, 0)  # in the first launch and in the last one, nobody is left to compare
    return (meeting * compares + (stretches(tokens) - meeting) * kept * walk) / clock * 1e6


def rounds(tokens):
    """Of two launches each, that find the anchors."""
    return (tokens + batch - 1) // batch


def rooflines(advance_turn):
    """Those of all models and lengths."""
    lengths = [1024 << i for i in range(8)]
    names = list(roofline(next(iter(models)), lengths[0]))
    print("\n| model | T | " + " | ".join(names)
          + " | advance, its longest blocks | launches of a step | launches of chains |")
    print("|---|---" + "|---" * len(names) + "|---|---|---|")
    for model in models:
        for tokens in lengths:
            times = " | ".join(f"{time:.1f}" for time in roofline(model, tokens).values())
            longest = longest_blocks(model, tokens, advance_turn)
            print(f"| {model} | {tokens} | {times} | {longest:.1f} | {3 + stretches(tokens)} | {4 + 2 * rounds(tokens)} |")


def main():
    with tempfile.TemporaryDirectory() as folder:
        assembly, remarks = gates.compile_kernels(folder)
    print("| kernel | matrix instructions | others | llvm-mca cycles | matrix share of issue slots | with every branch "
          "| its other loops |")
    print("|---|---|---|---|---|---|---|")
    for kernel in gates.read(assembly, remarks):
        symbol = re.escape(kernel["symbol"])
        body = re.search(rf"^{symbol}:.*?\n(.*?)^\.Lfunc_end", assembly, re.S | re.M).group(1)
        loops = sorted(turns(body), key=lambda turn: -matrix_share(turn[0])[2])
        if kernel["name"].startswith("selection_advance<bfloat16, assignment 0, gram_rows>"):
            advance_turn = mca_clocks * cycles(loops[0][0])
        if loops:
            # The hot loop is the one without masks and the guards of the tail, if there is one.
            (steady, everything), *rest = loops
            matrix, others, part = matrix_share(steady)
            shares = ", ".join(f"{matrix_share(turn)[2]:.2f}" for turn, _ in rest)
            turn = cycles(steady)
            print(f"| `{kernel['name']}` | {matrix} | {others} | {'' if turn is None else f'{turn:.0f}'} | {part:.2f} "
                  f"| {matrix_share(everything)[2]:.2f} | {shares} |")
    rooflines(advance_turn)


if __name__ == "__main__":
    main()
