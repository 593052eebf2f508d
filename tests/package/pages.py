#!/usr/bin/env python3
"""pages.py FOLDER: the Markdown pages of a tree lead where they say, and their tables and code blocks are whole. Files that any
text of it names are there. Its headers include no room that is closed to theirs, and their namespaces are their folders'. Where
an option's values are told apart, all of them are."""

import re
import sys
from pathlib import Path

# Headers that no other includes, and the rooms of a backend that each of its rooms includes.
doors = {"cascada.hpp", "compiled.hpp", "dispatch.hpp", "dispatch/kernels.hpp", "eigen.hpp", "hip.hpp", "reference.hpp"}
rooms = {"base": [], "gram": ["base"], "select": ["base", "gram"], "attention": ["base"]}

# The namespaces of the backends' folders; rooms but `base` have their own in these.
backends = {"cpu": "kernel", "hip": "hip"}

# Where every set of keys has its place, and where every value of attention's switches has.
of_key_sets = ["include/cascada/attention_options.hpp", "include/cascada/reference/attention.hpp",
               "include/cascada/cpu/attention/attend_sequence.hpp", "include/cascada/hip/attention/attend_sequence.hpp"]
of_switches = "tests/library/attention_data.hpp"

link = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)|\]\((#[^)\s]+)\)")


# Files as texts name them: by their path from the root, and in comments of C++ by their name alone.
path = re.compile(r"(?<![\w/$}.\-])(?:tests|bench|examples|cmake|include)/[a-z0-9_./\-]+\.(?:[ch]pp|py|sh|cmake|hip|txt)\b")
name = re.compile(r"//.*?(?<![\w/.\-])([a-z0-9_]+\.[ch]pp)\b")
others = {"llama.cpp"}  # a project


def anchors(page):
    """The names that headings of a page have, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {"#" + re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def cells(row):
    return len(re.findall(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", row)))


def faults(page):
    columns, in_code = 0, False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        where = f"{page}:{number}"
        if line.startswith("```"):
            in_code = not in_code
        if in_code:
            continue
        for target, part, own in link.findall(line):
            to = page.parent / target if target else page
            if re.match(r"\w+:", target):
                continue
            if not to.exists():
                yield f"{where}: there is no {target}"
            elif (part or own) and (part or own) not in anchors(to):
                yield f"{where}: {to} has no heading {part or own}"
        if not line.startswith("|"):
            if columns and line.strip():
                yield f"{where}: text runs into a table"
            columns = 0
        elif not columns:
            columns = cells(line)
        elif cells(line) != columns:
            yield f"{where}: {cells(line) - 1} cells under {columns - 1}"
    if in_code:
        yield f"{page}: a code block has no end"


def lost_files(root):
    """Names of files that are not there."""
    texts = [file for kind in ("md", "txt", "sh", "py", "cmake", "json", "[ch]pp", "hip") for file in root.rglob(f"*.{kind}")
             if file.relative_to(root).parts[0] not in ("build", ".git")]
    names = {file.name for file in texts} | others
    for text in sorted(texts):
        for number, line in enumerate(text.read_text().splitlines(), 1):
            found = [file for file in path.findall(line) if not (root / file).exists()]
            if text.suffix in (".hpp", ".cpp"):
                found += [file for file in name.findall(line) if file not in names]
            yield from (f"{text}:{number}: there is no {file}" for file in found)


def breaches(headers):
    """Includes from one room, `cpu/select` say, or from above the backends, into a room that is closed to them."""
    for header in sorted(headers.rglob("*.hpp")):
        room = header.relative_to(headers).parent
        open_to_it = {Path(), room, *(room.parent / other for other in rooms.get(room.name, []))}
        for other in re.findall(r'^#include "cascada/(.*)"', header.read_text(), re.M):
            if (Path(other).parent not in open_to_it or other in doors) and str(header.relative_to(headers)) not in doors:
                yield f"{header}: includes {other}"


def strangers(headers):
    """Namespaces that a header of a backend opens, other than its folder's and the contract's, `cascada`."""
    for backend, space in backends.items():
        for header in sorted((headers / backend).rglob("*.hpp")):
            room = header.parent.name
            own = space if room == "base" else f"{space}::{room}"
            for opened in re.findall(r"^namespace (?:cascada::inline CASCADA_ABI(?:::)?)?([\w:]*) ?\{", header.read_text(), re.M):
                if opened not in ("", "detail", own):
                    yield f"{header}: opens {opened}, not {own}"


def forgotten_values(root):
    """Values of attention's switches that a place of theirs does not name, and choices among named values with a way for the
    others, which would take a new value unseen."""
    options = (root / of_key_sets[0]).read_text()
    for kind, body in re.findall(r"^enum class (\w+) \{\n(.*?)^\}", options, re.S | re.M):
        for place in [of_switches, *(of_key_sets if kind == "key_set" else [])]:
            text = (root / place).read_text()
            yield from (f"{root / place}: does not name {kind}::{value}" for value in re.findall(r"^  (\w+),", body, re.M)
                        if not re.search(rf"\b{kind}::{value}\b", text))
    for header in sorted((root / "include/cascada").rglob("*.hpp")):
        for choice in re.findall(r"switch \(.*?^ *\}$", header.read_text(), re.S | re.M):
            if "default:" in choice and re.search(r"case \w+::", choice):
                yield f"{header}: a choice among named values has a default"


def main():
    root = Path(sys.argv[1])
    pages = [page for page in root.rglob("*.md") if "build" not in page.relative_to(root).parts]
    found = [fault for page in sorted(pages) for fault in faults(page)]
    found += [*lost_files(root), *breaches(root / "include/cascada"), *strangers(root / "include/cascada"),
              *forgotten_values(root)]
    print("\n".join(found) or f"{len(pages)} pages")
    sys.exit(1 if found or not pages else 0)


if __name__ == "__main__":
    main()
