#!/usr/bin/env python3
"""Breaks the library one line at a time and demands that the tests notice.

mutate.py cpu|hip FOLDER [--only WORD] [--sample COUNT --seed NUMBER] [--jobs COUNT] LIBRARY...

cpu: the CPU core, by the tests in tests/library; hip: gfx942's kernels, by the tests on the simulator in tests/hip. The
mutants are those of the lists beside this file. Works in FOLDER with $CXX; the libraries have Catch2 and its main function.
--only: those whose description has WORD; --sample: so many of them, chosen by the seed; --jobs: so many at a time, 2 if not
given.
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
sys.path.insert(0, str(here))
compiler = os.environ.get("CXX") or "g++"
environment = dict(os.environ, CASCADA_RANDOM_CASES="1500")


class Failure(Exception):
    """Ends the work on one mutant, with what to report."""


class Cpu:
    """Mutants of the CPU core: (what, line as it is, in one header, line as it must not be, "program: test case", target).
    In the lists the target may be left out, or "bf16": as if left out, where bfloat16 is multiplied."""

    tests = root / "tests/library"
    flags = []
    targets = {"": ["-march=native"], "baseline": ["-march=x86-64"]}
    libraries = ["-pthread"]
    # What some programs have beside their own source; what tests -ffast-math is compiled with it.
    companions = {"verdict": ["fast_math.cpp"], "attention_odd_values": ["attention_fast_math.cpp"],
                  "attention_merge": ["attention_fast_math.cpp"], "attention_terms": ["attention_fast_math.cpp"],
                  "lifetimes": ["allocation_counter.cpp"], "allocations": ["allocation_counter.cpp"]}
    # What all programs include and no mutant changes: compiled once for each target.
    common = ["atomic", "map", "optional", "random", "set", "sstream", "thread", "vector", "catch.hpp", "Eigen/Core"]

    @staticmethod
    def headers():
        folder = root / "include/cascada"
        return [*folder.glob("*.hpp"), *folder.glob("cpu/**/*.hpp")]

    @classmethod
    def mutants(cls):
        """All that this machine can try."""
        lists = ["attention", "computed", "growing", "saved", "selection"]
        everything = [mutant for name in lists for mutant in importlib.import_module(name).mutants]
        chosen = [mutant if len(mutant) == 5 else (*mutant, "") for mutant in everything]
        able = {"": True, "baseline": platform.machine() == "x86_64", "bf16": cls.multiplies_pairs()}
        return [(*mutant[:4], "" if mutant[4] == "bf16" else mutant[4]) for mutant in chosen if able[mutant[4]]]

    @classmethod
    def multiplies_pairs(cls):
        """Whether this machine, and the compiler for it, have the products of bfloat16 that attention uses."""
        command = [compiler, *cls.targets[""], "-dM", "-E", "-x", "c++", "/dev/null"]
        macros = subprocess.run(command, capture_output=True, text=True).stdout
        return "__AVX512BF16__" in macros and "__AVX512DQ__" in macros

    @staticmethod
    def split(case):
        """Program and test case."""
        program, name = case.split(":", 1)
        return program, name.strip()


class Hip:
    """Mutants of gfx942's kernels, the same without a target; the name of a test case tells the program."""

    tests = root / "tests/hip"
    flags = ["-DROW_TYPES=bfloat16"]
    targets = {"": ["-mfma"]}
    libraries = ["-lboost_context"]
    companions = {}
    common = ["boost/context/detail/fcontext.hpp", "random", "set", "sstream", "cascada/cascada.hpp", "catch.hpp",
              "library/tokens.hpp", "library/attention_data.hpp"]

    @staticmethod
    def headers():
        return list((root / "include/cascada/hip").rglob("*.hpp"))

    @staticmethod
    def mutants():
        return [(*mutant, "") for mutant in importlib.import_module("hip").mutants]

    @staticmethod
    def split(case):
        """cascade for "hip cascade: ragged sizes"."""
        return case.split(":")[0].split()[-1], case


def call(command, failure):
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode != 0:
        raise Failure(f"{failure}\n{answer.stderr[-2000:]}")


class Trial:
    """A folder, in which test programs of a backend are built and run."""

    def __init__(self, backend, folder, libraries):
        self.backend, self.folder, self.libraries = backend, folder, libraries
        self.compile = [compiler, "-std=c++20", "-O0", "-w", *backend.flags, "-isystem", "/usr/include/eigen3",
                        f"-I{root / 'tests'}"]

    def common_header(self, target):
        return self.folder / target / "common.hpp"

    def compile_common(self, target):
        header = self.common_header(target)
        header.parent.mkdir(parents=True, exist_ok=True)
        header.write_text("".join(f"#include <{name}>\n" for name in self.backend.common))
        call([*self.compile, *self.backend.targets[target], f"-I{root / 'include'}", "-x", "c++-header", str(header), "-o",
              f"{header}.gch"], "the common headers do not compile")

    def build(self, program, target, folder=None):
        """A test program, with the headers of a folder before the library's own."""
        to = (folder or self.folder) / f"{program}{target}"
        includes = [f"-I{place}" for place in (folder, root / "include") if place]
        sources = [f"{program}.cpp", *self.backend.companions.get(program, [])]
        for source in sources:
            special = ["-ffast-math"] if source.endswith("fast_math.cpp") else ["-include", str(self.common_header(target))]
            call([*self.compile, *self.backend.targets[target], *includes, *special, "-c", str(self.backend.tests / source),
                  "-o", f"{to}.{source}.o"], "does not compile")
        call([compiler, *(f"{to}.{source}.o" for source in sources), *self.libraries, *self.backend.libraries, "-o", str(to)],
             "does not link")
        return to

    @staticmethod
    def passes(program, name):
        """Whether a test case runs and passes; one that hangs does not."""
        try:
            command = [str(program), name, "--abort"]
            run = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
            return run.returncode == 0 and "No tests ran" not in run.stdout  # a comma in a name would part it in two
        except subprocess.TimeoutExpired:
            return False

    def survives(self, number, mutant):
        """What is wrong with the tests, or None."""
        what, line, other, case, target = mutant
        place = self.folder / f"mutant{number}"
        shutil.rmtree(place, ignore_errors=True)  # of another mutant, by an earlier list
        try:
            texts = {path: path.read_text() for path in self.backend.headers()}
            having = [path for path, text in texts.items() if line in text]
            if len(having) != 1 or texts[having[0]].count(line) != 1:
                raise Failure("its line is no longer there once")
            changed = place / having[0].relative_to(root / "include")
            changed.parent.mkdir(parents=True, exist_ok=True)
            changed.write_text(texts[having[0]].replace(line, other))
            program, name = self.backend.split(case)
            if self.passes(self.build(program, target, place), name):
                raise Failure(f"not noticed by {case}")
        except Failure as failure:
            return f"{what}: {failure}"


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("backend", choices=["cpu", "hip"])
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--only", default="")
    arguments.add_argument("--sample", type=int)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--jobs", type=int, default=2)
    arguments.add_argument("libraries", nargs="+")
    given = arguments.parse_args()
    backend = {"cpu": Cpu, "hip": Hip}[given.backend]
    trial = Trial(backend, given.folder.resolve(), given.libraries)
    chosen = [mutant for mutant in backend.mutants() if given.only in mutant[0]]
    if given.sample and given.sample < len(chosen):
        chosen = random.Random(given.seed).sample(chosen, given.sample)
    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        try:
            for target in {mutant[4] for mutant in chosen}:
                trial.compile_common(target)
            cases = sorted({(*backend.split(mutant[3]), mutant[4]) for mutant in chosen})
            wanted = sorted({(program, target) for program, name, target in cases})
            programs = dict(zip(wanted, pool.map(lambda one: trial.build(*one), wanted)))
        except Failure as failure:
            sys.exit(str(failure))
        passed = pool.map(lambda one: trial.passes(programs[one[0], one[2]], one[1]), cases)
        failing = [case for case, passes in zip(cases, passed) if not passes]
        if failing:
            sys.exit(f"fails without any mutation: {failing}")
        survivors = 0
        for answer in pool.map(lambda one: trial.survives(*one), enumerate(chosen)):
            if answer:
                print(answer, flush=True)
                survivors += 1
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants noticed")
    sys.exit(1 if survivors or not chosen else 0)


if __name__ == "__main__":
    main()
