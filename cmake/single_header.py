#!/usr/bin/env python3
"""Writes the library as one header: cascada.hpp, with every other header at the place where it is first included.

    single_header.py OUTPUT
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent / "include"
INCLUDE = re.compile(r'#include "(cascada/[\w/]+\.hpp)"')


def lines(name, seen):
    """The lines of a header, which all say #pragma once: of one that was seen before, none."""
    if name in seen:
        return
    seen.add(name)
    yield f"// ---- {name}"
    for line in (ROOT / name).read_text().splitlines():
        if included := INCLUDE.match(line):
            yield from lines(included[1], seen)
        elif line != "#pragma once":
            yield line


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    text = ["#pragma once", "// Written by cmake/single_header.py.", "// SPDX-License-Identifier: Apache-2.0"]
    output = pathlib.Path(sys.argv[1])
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("\n".join([*text, *lines("cascada/cascada.hpp", set())]) + "\n")


main()
