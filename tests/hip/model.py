#!/usr/bin/env python3
"""The model of include/cascada/hip/README.md: issue slots of inner loops by llvm-mca, and rooflines. No measurement.

model.py    prints both tables; needs clang 19 and llvm-mca-19
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import code_gates as gates  # noqa: E402

matrix_clocks = {"32x32x8": 32, "16x16x16": 16}  # of v_mfma_f32: AMD's matrix instruction calculator
mca_clocks = 4      # clocks in one cycle of llvm-mca: a wave of 64 on 16 lanes
peak_flops, peak_bytes = 1307e12, 5.3e12  # MI300X, dense bf16 and HBM3, data sheet
share, advanced = 0.2, 0.1  # assumed: r / T; pairs that the advance multiplies, of T^2 / 2


def loops_with_matrix_instructions(body):
    """Code of the innermost loops that hold matrix instructions: from a label to the last branch back to it."""
    labels = {m.group(1): m.end() for m in re.finditer(r"^(\.LBB\d+_\d+):.*$", body, re.M)}
    spans = []
    for label, begin in labels.items():
        back = [m.end() for m in re.finditer(rf"\bs_(?:branch|cbranch_\w+) {re.escape(label)}$", body[begin:], re.M)]
        if back:
            spans.append((begin, begin + back[-1]))
    for begin, end in spans:
        if any(begin < other and last < end for other, last in spans):
            continue
        code = [line.split(";")[0].strip() for line in body[begin:end].splitlines()]
        code = [line for line in code if line and not line.startswith(".") and not line.endswith(":")]
        if any("v_mfma" in line for line in code):
            yield code


def straight(code):
    """Without what does not issue to a unit of its own."""
    return [line for line in code if not re.match(r"s_(c?branch|waitcnt|barrier|nop)", line)]


def matrix_share(code):
    """Matrix instructions, others, and the share of issue slots that the former take."""
    matrix = [line for line in code if "v_mfma" in line]
    slots = sum(matrix_clocks["16x16x16" if "16x16x16" in line else "32x32x8"] for line in matrix) / mca_clocks
    others = len(code) - len(matrix)
    return len(matrix), others, slots / (slots + others)


def cycles(code):
    """llvm-mca's cycles of one turn of a loop."""
    run = subprocess.run(["llvm-mca-19", "-mtriple=amdgcn-amd-amdhsa", "-mcpu=gfx942", "-iterations=100"],
                         input="\n".join(code), capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(run.stderr)
    return int(re.search(r"Total Cycles:\s+(\d+)", run.stdout).group(1)) / 100


def microseconds(flops, moved):
    """The roofline: the longer of the work at peak and the bytes at peak."""
    return max(flops / peak_flops, moved / peak_bytes) * 1e6


def rooflines():
    """For each model and T, one layer and one sequence of bfloat16: dense attention against each of our kernels."""
    models = {"GPT-2": (768, 12, 64), "GPT-J": (4096, 16, 256), "OPT 6.7B": (4096, 32, 128)}
    print("\n| model | T | dense attention | near + far: attend | near + far: tables | graph | advance, all launches "
          "| cross-Gram of paper mode | launches of a step |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, (d, heads, dim) in models.items():
        for tokens in (1024, 2048, 4096, 8192, 16384, 32768):
            r = share * tokens
            rows = tokens * heads * dim
            io = 4 * rows * 2  # q, k, v and outputs
            dense = microseconds(2 * tokens * rows, io)
            # A chunk of 128 sees 128 + 64 near keys on average, and the clusters older than its near field: half of r.
            # Tables of mean keys and values: all rows written once, and read at least once where some chunk uses them.
            attend = microseconds(4 * rows * (192 + r / 2), io + 2 * rows * 2)
            tables = microseconds(4 * rows, 2 * 2 * rows * 2)
            x = tokens * d * 2
            graph = microseconds(2 * d * tokens * 64, x)  # whole tiles, both triangles
            advance = microseconds(2 * d * advanced * tokens * tokens / 2, x)
            cross = microseconds(2 * d * (tokens - r) * r, x + tokens * r / 8)
            launches = 3 + (tokens + 63) // 64
            times = " | ".join(f"{time:.1f}" for time in (dense, attend, tables, graph, advance, cross))
            print(f"| {name} | {tokens} | {times} | {launches} |")


def main():
    with tempfile.TemporaryDirectory() as folder:
        assembly, remarks = gates.compile_kernels(folder)
    print("| kernel | matrix instructions | others | llvm-mca cycles | matrix share of issue slots |")
    print("|---|---|---|---|---|")
    for kernel in gates.read(assembly, remarks):
        symbol = re.escape(kernel["symbol"])
        body = re.search(rf"^{symbol}:.*?\n(.*?)^\.Lfunc_end", assembly, re.S | re.M).group(1)
        # The hot loop is the one without masks and the guards of the tail.
        loops = [straight(code) for code in loops_with_matrix_instructions(body)]
        if loops:
            hot = max(loops, key=lambda code: matrix_share(code)[2])
            matrix, others, part = matrix_share(hot)
            print(f"| `{kernel['name']}` | {matrix} | {others} | {cycles(hot):.0f} | {part:.2f} |")
    rooflines()


if __name__ == "__main__":
    main()
