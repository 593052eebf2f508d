#!/usr/bin/env python3
"""Breaks the CPU core one line at a time and demands that the tests notice.

mutate.py FOLDER [--only WORD] [--sample COUNT --seed NUMBER] [--jobs COUNT] LIBRARY...

Works in FOLDER with $CXX; the libraries have Catch2 and its main function. The mutants are those of the lists beside this
file (selection.py, ...). --only: those whose description has WORD; --sample: so many of them, chosen by the seed; --jobs:
so many at a time, 2 if not given.
Fails if a test case fails on the code as it is, or if a mutant survives, does not compile, or no longer applies.
"""

import argparse
import concurrent.futures
import importlib
import os
import platform
import random
import shutil
import subprocess
import sys
from pathlib import Path

here = Path(__file__).resolve().parent
root = here.parents[1]
compiler = os.environ.get("CXX") or "g++"
flags = ["-std=c++20", "-O0", "-w", "-isystem", "/usr/include/eigen3", f"-I{root / 'tests'}"]
targets = {"": ["-march=native"], "baseline": ["-march=x86-64"]}
environment = dict(os.environ, CASCADA_RANDOM_CASES="1500")

# What some programs have beside their own source; what tests -ffast-math is compiled with it.
companions = {"verdict": ["fast_math.cpp"], "attention_odd_values": ["attention_fast_math.cpp"],
              "attention_merge": ["attention_fast_math.cpp"], "attention_terms": ["attention_fast_math.cpp"],
              "lifetimes": ["allocation_counter.cpp"]}

# What all programs include and no mutant changes: compiled once for each target.
common = ["atomic", "map", "optional", "random", "set", "sstream", "thread", "vector", "catch.hpp", "Eigen/Core"]


class Failure(Exception):
    """Ends the work on one mutant, with what to report."""


def multiplies_pairs():
    """Whether this machine, and the compiler for it, have the products of bfloat16 that attention uses."""
    command = [compiler, *targets[""], "-dM", "-E", "-x", "c++", "/dev/null"]
    macros = subprocess.run(command, capture_output=True, text=True).stdout
    return "__AVX512BF16__" in macros and "__AVX512DQ__" in macros


def lists():
    """All mutants that this machine can try: (what, line as it is, in one header, line as it must not be, "program: test
    case", target). In the lists the target may be left out, or "bf16": as if left out, where bfloat16 is multiplied."""
    sys.path.insert(0, str(here))
    names = sorted(path.stem for path in here.glob("*.py") if path.stem != "mutate")
    everything = [mutant for name in names for mutant in importlib.import_module(name).mutants]
    chosen = [mutant if len(mutant) == 5 else (*mutant, "") for mutant in everything]
    able = {"": True, "baseline": platform.machine() == "x86_64", "bf16": multiplies_pairs()}
    return [(*mutant[:4], "" if mutant[4] == "bf16" else mutant[4]) for mutant in chosen if able[mutant[4]]]


def call(command, failure):
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode != 0:
        raise Failure(f"{failure}\n{answer.stderr[-2000:]}")


def build(folder, program, target, libraries, header, first=()):
    """The test program, with `header` precompiled and headers of the folders `first` before the library's own."""
    to = folder / f"{program}{target}"
    includes = [f"-I{place}" for place in (*first, root / "include")]
    compile = [compiler, *flags, *targets[target], *includes]
    sources = [f"{program}.cpp", *companions.get(program, [])]
    for source in sources:
        special = ["-ffast-math"] if source.endswith("fast_math.cpp") else ["-include", str(header / target / "common.hpp")]
        call([*compile, *special, "-c", str(root / "tests/library" / source), "-o", f"{to}.{source}.o"], "does not compile")
    call([compiler, *(f"{to}.{source}.o" for source in sources), *libraries, "-pthread", "-o", str(to)], "does not link")
    return to


def passes(program, case):
    """Whether a test case runs and passes; one that hangs does not."""
    try:
        run = subprocess.run([str(program), case, "--abort"], capture_output=True, text=True, timeout=600, env=environment)
        return run.returncode == 0 and "No tests ran" not in run.stdout  # a comma in a name would part it in two
    except subprocess.TimeoutExpired:
        return False


def headers():
    """The headers that mutants are of."""
    folder = root / "include/cascada"
    return {path: path.read_text() for path in (*folder.glob("*.hpp"), *folder.glob("cpu/**/*.hpp"))}


def try_mutant(folder, libraries, header, number, mutant):
    """What is wrong with the tests, or None."""
    what, line, other, case, target = mutant
    place = folder / f"mutant{number}"
    shutil.rmtree(place, ignore_errors=True)  # of another mutant, by an earlier list
    try:
        having = [path for path, text in headers().items() if line in text]
        if len(having) != 1 or having[0].read_text().count(line) != 1:
            raise Failure("its line is no longer there once")
        changed = place / having[0].relative_to(root / "include")
        changed.parent.mkdir(parents=True, exist_ok=True)
        changed.write_text(having[0].read_text().replace(line, other))
        if passes(build(place, case.split(":")[0], target, libraries, header, [place]), case.split(":", 1)[1].strip()):
            raise Failure(f"not noticed by {case}")
    except Failure as failure:
        return f"{what}: {failure}"


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--only", default="")
    arguments.add_argument("--sample", type=int)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--jobs", type=int, default=2)
    arguments.add_argument("libraries", nargs="+")
    given = arguments.parse_args()
    folder = given.folder.resolve()
    chosen = [mutant for mutant in lists() if given.only in mutant[0]]
    if given.sample and given.sample < len(chosen):
        chosen = random.Random(given.seed).sample(chosen, given.sample)
    for target in {mutant[4] for mutant in chosen}:
        (folder / target).mkdir(parents=True, exist_ok=True)
        (folder / target / "common.hpp").write_text("".join(f"#include <{name}>\n" for name in common))
    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        try:
            for target in {mutant[4] for mutant in chosen}:
                header = folder / target / "common.hpp"
                call([compiler, *flags, *targets[target], "-x", "c++-header", str(header), "-o", f"{header}.gch"],
                     "the common headers do not compile")
            wanted = sorted({(mutant[3].split(":")[0], mutant[4]) for mutant in chosen})
            programs = dict(zip(wanted, pool.map(lambda one: build(folder, *one, given.libraries, folder), wanted)))
        except Failure as failure:
            sys.exit(str(failure))
        cases = sorted({mutant[3:] for mutant in chosen})
        failing = [case for case, passed in zip(cases, pool.map(lambda one: passes(
            programs[one[0].split(":")[0], one[1]], one[0].split(":", 1)[1].strip()), cases)) if not passed]
        if failing:
            sys.exit(f"fails without any mutation: {failing}")
        survivors = 0
        for answer in pool.map(lambda one: try_mutant(folder, given.libraries, folder, *one), enumerate(chosen)):
            if answer:
                print(answer, flush=True)
                survivors += 1
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants noticed")
    sys.exit(1 if survivors or not chosen else 0)


if __name__ == "__main__":
    main()
