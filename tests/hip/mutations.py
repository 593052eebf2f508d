#!/usr/bin/env python3
"""Breaks the kernels one line at a time and demands that the tests on the simulator notice.

mutations.py FOLDER    works in FOLDER; $CXX compiles. Fails if a mutant survives, or no longer applies.
"""

import concurrent.futures
import os
import subprocess
import sys
from pathlib import Path

root = Path(__file__).resolve().parents[2]
compiler = os.environ.get("CXX") or "g++"
flags = ["-std=c++20", "-O0", "-mfma", "-isystem", "/usr/include/eigen3"]

# (what, header, line as it is, line as it must not be, test program)
mutations = [
    ("rows of a result in the wrong place", "device", "return 8 * (v / 4) + 4 * (lane / 32) + v % 4;",
     "return 4 * (v / 4) + 16 * (lane / 32) + v % 4;", "simulator"),
    ("Gram: barrier dropped", "gram", "    stage(buffer ^ 1);\n    gpu.barrier();", "    stage(buffer ^ 1);", "cascade"),
    ("Gram: wrong k of an operand", "gram", "* pitch + 16 * s + half);", "* pitch + 16 * s);", "cascade"),
    ("Gram: tail cut short", "gram", "return k < cols ? load_8", "return k + 8 < cols ? load_8", "cascade"),
    ("Gram: a lane step missing in a sum", "gram", "for (index_t step = 1; step < gfx942::wave; step *= 2) sum +=",
     "for (index_t step = 1; step < gfx942::wave / 2; step *= 2) sum +=", "cascade"),
    ("Gram: no margin", "gram", "(1.75f * 0x1p-22f * norm + 0x1p-125f)", "(0.0f * norm)", "cascade"),
    ("selection: rows beyond the last representative", "advance", "exists = panel + row < last;", "exists = true;",
     "cascade"),
    ("selection: orphans of the block forgotten", "advance", "return !covered || memory.match", "return memory.match",
     "cascade"),
    ("selection: tokens that are no members cover", "advance", "else if ((row & members) != 0)", "else if (row != 0)",
     "cascade"),
    ("selection: an addition is not counted", "select", "sums.additions += rep == i;", "", "cascade"),
    ("attention: barrier dropped", "attend", "      stage_values(gpu, memory, next);\n      gpu.barrier();",
     "      stage_values(gpu, memory, next);", "attention"),
    ("attention: no mask", "attend", "= k < seen ? logit : lowest;", "= logit;", "attention"),
    ("attention: sums not rescaled", "attend", "if (gpu.ballot(top != state.top) != 0) {", "if (false) {", "attention"),
    ("attention: values in the wrong order", "attend", "k / 4 % 2 * 8 + k / 8 % 2 * 4", "k / 4 % 2 * 4 + k / 8 % 2 * 8",
     "attention"),
    ("attention: half of the sum", "attend", "state.sum + gpu.shuffle(state.sum, gpu.lane() ^ 32);", "state.sum;",
     "attention"),
    ("attention: cluster sizes ignored", "attend", "next.bias           = gpu.log2(", "next.bias = 0.0f * (", "attention"),
    ("clusters: one token too many is old", "cluster", "if (memory.members[middle] < edge)",
     "if (memory.members[middle] <= edge)", "attention"),
]


def compile_to(target, source, *options):
    command = [compiler, *flags, *options, f"-I{root / 'include'}", f"-I{root / 'tests'}", "-c", str(source), "-o", str(target)]
    run = subprocess.run(command, capture_output=True, text=True)
    return run.returncode == 0, run.stderr


def run_mutant(folder, number):
    what, header, line, other, program = mutations[number]
    text = (root / f"include/cascada/hip/{header}.hpp").read_text()
    if text.count(line) != 1:
        return f"{what}: its line is no longer there once"
    place = folder / str(number)
    (place / "cascada/hip").mkdir(parents=True, exist_ok=True)
    (place / f"cascada/hip/{header}.hpp").write_text(text.replace(line, other))
    built, errors = compile_to(place / "test.o", root / f"tests/hip_{program}.cpp", f"-I{place}")
    if not built:
        return f"{what}: does not compile\n{errors}"
    link = [compiler, str(place / "test.o"), str(folder / "main.o"), "-lboost_context", "-o", str(place / "test")]
    subprocess.run(link, check=True)
    try:
        run = subprocess.run([str(place / "test"), "--abort"], capture_output=True, timeout=120)
    except subprocess.TimeoutExpired:
        return None  # a mutant that hangs is noticed too
    return None if run.returncode != 0 else f"{what}: the tests do not notice"


def main():
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    built, errors = compile_to(folder / "main.o", root / "tests/catch_main.cpp")
    if not built:
        sys.exit(errors)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        survivors = [answer for answer in pool.map(lambda n: run_mutant(folder, n), range(len(mutations))) if answer]
    print(*survivors, sep="\n")
    print(f"{len(mutations) - len(survivors)} of {len(mutations)} mutants noticed")
    sys.exit(1 if survivors else 0)


main()
