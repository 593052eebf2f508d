#!/usr/bin/env python3
"""headers.py INCLUDE_DIR FOLDER COMPILE...: every header compiles alone, with all warnings as errors.

COMPILE is a compiler with its flags. Three quarters of the time would go into reading Eigen again and again. Headers that
include it, themselves or by way of others, find it compiled already, in FOLDER; only for them is it there.
"""

import os
import re
import subprocess
import sys
from pathlib import Path


def includes_eigen(header, root, known):
    """Whether a header includes Eigen, or one that does."""
    if header not in known:
        known[header] = False  # until its own lines are read
        text = (root / header).read_text()
        own = re.findall(r'^#include "([^"]+)"', text, re.MULTILINE)
        known[header] = "#include <Eigen/" in text or any([includes_eigen(name, root, known) for name in own])
    return known[header]


def main():
    root, folder, command = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    command += ["-fsyntax-only", "-x", "c++"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "eigen.hpp").write_text("#include <Eigen/Core>\n")
    subprocess.run([*command[:-3], "-x", "c++-header", "eigen.hpp", "-o", "eigen.hpp.gch"], cwd=folder, check=True)

    known, broken = {}, []
    headers = sorted(str(path.relative_to(root)) for path in root.rglob("*.hpp"))
    if not headers:
        sys.exit(f"There are no headers in {root}")
    for header in headers:
        before = ["-I", str(folder), "-include", "eigen.hpp"] if includes_eigen(header, root, known) else []
        source = folder / "alone.cpp"
        source.write_text(f'#include "{header}"\n#include "{header}"\n')
        if subprocess.run([*command[:1], *before, *command[1:], str(source)]).returncode != 0:
            broken.append(header)
    eigen = sum(known[header] for header in headers)
    print(f"{len(headers)} headers, {eigen} with Eigen; do not compile alone: {', '.join(broken) or 'none'}")
    sys.exit(1 if broken else 0)


main()
