#!/usr/bin/env python3
"""site.py FOLDER: the docs site in FOLDER/html, by Doxygen, from the headers and the pages of this repository.

Any warning of Doxygen's is an error; so are a public name without a comment, and a link that leads nowhere. Exit code 77
where there is no Doxygen.

Doxygen reads copies that say the same in its way. Headers are written for who reads them as code: a comment on top, notes
behind members, columns in comments, a contract apart from the class that keeps it. Pages are written for who browses
files: links lead to files, and headings have no names. Copies keep the numbers of lines.
"""

import html.parser
import re
import shutil
import subprocess
import sys
from pathlib import Path

repository = Path(__file__).resolve().parents[2]
doxyfile = (repository / "cmake/docs/Doxyfile").read_text()
inputs = re.search(r"^INPUT((?:.*\\\n)*.*)", doxyfile, re.M)[1].replace("\\", "").replace("=", "").split()
pages = [name for name in inputs if name.endswith(".md")]

# ---- headers


def comments_of(lines):
    """Doc comments as Doxygen keeps their columns: between marks, and paragraphs that are laid out by hand verbatim."""
    i = 0
    while i < len(lines):
        end = i
        while end < len(lines) and re.match(r"\s*///(?!<)", lines[end]):
            end += 1
        if i < end:
            texts = [re.sub(r"^\s*/// ?", "", line) for line in lines[i:end]]
            texts = keep_columns(texts)
            lines[i:end] = ["/** " + texts[0], *texts[1:]]
            lines[end - 1] += " */"
        i = max(end, i + 1)
    return lines


def keep_columns(texts):
    """Laid out by hand is what is indented, or has gaps between words."""
    i = 0
    while i < len(texts):
        end = i
        while end < len(texts) and texts[end]:
            end += 1
        laid_out = any(re.match(r"  |\S+(?: \S+)* {2,}\S", text) for text in texts[i:end])
        if laid_out and not texts[i].startswith("- "):
            if i > 0:
                texts[i - 1] += "@verbatim"
            else:
                texts[i] = "@verbatim " + texts[i]
            if end < len(texts):
                texts[end] += "@endverbatim"
            else:
                texts[end - 1] += " @endverbatim"
        i = max(end, i + 1)
    return texts


def header(text, is_cpu):
    lines = text.splitlines()
    top = lines.index("#pragma once")
    lines[top] = "/// @file"
    for i in range(top + 1, len(lines)):
        if not lines[i].startswith("//"):
            break
        lines[i] = "/" + lines[i]
    # Macros that end with the header, and what they stand for.
    gone = re.findall(r"^#undef (\w+)", text, re.M)
    in_class = in_macro = False
    for i, line in enumerate(lines):
        if in_macro or any(re.match(rf"(#define |#undef |){name}\b", line) for name in gone):
            in_macro = line.endswith("\\")
            lines[i] = ""
            continue
        if line.startswith("#"):
            continue
        line = line.replace("cascada::inline CASCADA_ABI", "cascada")
        line = re.sub(r"\bCASCADA_(INLINE|HOST_DEVICE|DEVICE) |\[\[no_unique_address\]\] ", "", line)
        if re.match(r"(struct|class|enum)\b", line):
            in_class = True
        elif line.startswith("}"):
            in_class = False
        line = re.sub(r"^  friend class .*|^  (\[\[.*\]\] )?detail::removed_.*", "", line)
        if in_class:  # a note behind a member
            line = re.sub(r"^(  [^\s/].*?)\s*// (>?)", lambda m: m[1] + "  ///< " + ("&gt;" if m[2] else ""), line)
        if is_cpu:  # what the CPU has is the class of the contract
            line = re.sub(r"^class (\w+)<Scalar, B> \{", r"class \1 {", line)
            line = re.sub(r"^/// As \w+.hpp says\. ?", "/// ", line)
        lines[i] = line
        if declared := re.fullmatch(r"(class|struct) (\w+);", line):  # a contract
            first = i
            while lines[first - 1].startswith("template"):
                first -= 1
            lines[first : i + 1] = [""] * (i + 1 - first)
            while lines[first - 1].startswith("///"):
                first -= 1
            lines[first - 1] = f"/// @{declared[1]} cascada::{declared[2]}"
    return "\n".join(comments_of(lines)) + "\n"


def undocumented(path, text):
    """Names of the namespace that have no comment. Those of detail and kernel are nobody's business."""
    inside = []
    lines = text.splitlines()
    for i, line in enumerate(lines):
        if opened := re.match(r"namespace (.*) \{", line):
            inside.append(opened[1])
        elif re.match(r"\}  // namespace", line):
            inside.pop()
        hidden = any(re.search(r"\b(detail|kernel)\b", name) for name in inside)
        if not inside or hidden or not re.match(r"[a-z\[]|CASCADA_", line) or re.match(r"namespace|static_assert|public:|private:", line):
            continue
        above = lines[i - 1]
        if above.startswith(("///", "template", "  requires", "#")) or re.search(r"[,(]$", above):
            continue
        yield f"{path}:{i + 1}: this has no comment: {line}"


# ---- pages


def name_of(page):
    path = Path(page)
    return "-".join(path.parent.parts) or "readme" if path.stem == "README" else path.stem.lower()


def name_of_heading(page, title):
    return name_of(page) + "-" + re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def link(page, text, target, part):
    """Pages of the site are linked; of other files the names are enough."""
    if re.match(r"\w+:", target):
        return f"[{text}]({target}{part})"
    to = page
    if target:
        to = (repository / page).parent.joinpath(target).resolve().relative_to(repository).as_posix()
    if to in pages:
        return f'@ref {name_of_heading(to, part[1:]) if part else name_of(to)} "{text}"'
    return text


def image_of(page, source):
    """An image by a name that no other has; it is put among the copies."""
    path = (repository / page).parent.joinpath(source).resolve().relative_to(repository)
    return "-".join(path.parts)


def prose(page, text):
    def on_one_line(made, text):
        return made.replace("\n", " ") + "\n" * text.count("\n")

    text = re.sub(r"!\[([^\]]*)\]\(([^)]+)\)", lambda m: f'@image html {image_of(page, m[2])} "{m[1]}"', text)
    text = re.sub(
        r"\[([^\]]*)\]\(([^)#\s]*)(#[^)\s]*)?\)",
        lambda m: on_one_line(link(page, m[1], m[2], m[3] or ""), m[1]),
        text,
    )

    def heading(m):
        return f"{m[0]} {{#{name_of(page) if m[1] == '#' else name_of_heading(page, m[2])}}}"

    if page == "README.md":  # the front page is another, of the same title
        text = re.sub(r"^# .*", "# Readme", text)
    return re.sub(r"^(#+) (.*)", heading, text, flags=re.M)


def page_of(page, text):
    parts = re.split(r"^(```[^`]*^```)$", text, flags=re.M)  # prose, code, prose, ..
    parts[0::2] = [prose(page, part) for part in parts[0::2]]
    parts[1::2] = [re.sub(r"^```(cpp|sh)", r"```{.\1}", part) for part in parts[1::2]]
    return "".join(parts)


# ---- the site


class links_of(html.parser.HTMLParser):
    """The names that a page has, and what it leads to."""

    def __init__(self, path):
        super().__init__()
        self.names, self.targets = set(), []
        self.text = path.read_text()
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        for key, value in attributes:
            if key in ("id", "name") and value:
                self.names.add(value)
            elif key in ("href", "src", "data"):
                self.targets.append(value or "")


def is_empty(text):
    return re.search(r'<div class="contents">\s*</div><!-- contents -->', text)


def faults(site):
    for path in site.glob("dir_*.html"):  # folders without a header, to which nothing leads
        if is_empty(path.read_text()):
            path.unlink()
    found = {path.name: links_of(path) for path in site.glob("*.html")}
    for name, page in sorted(found.items()):
        for target in page.targets:
            to, _, part = target.partition("#")
            if re.match(r"https?:|mailto:|javascript:", target):
                continue
            if to and not (site / to).exists():
                yield f"{name}: there is no {target}"
            elif part and (not to or to in found) and part not in found[to or name].names:
                yield f"{name}: {to or name} has no place {part}"
        if re.search(r"(src|link)[^>]*https?://", page.text.split("</head>")[0]):
            yield f"{name}: needs the network"
        if is_empty(page.text):
            yield f"{name}: says nothing"
        if re.search(r"_1_1(detail|kernel)(_1_1|\.)", name):
            yield f"{name}: shows what is not public"
    for page in pages:
        if name_of(page) + ".html" not in found and page != pages[0]:
            yield f"there is no {name_of(page)}.html"
    if len(found) < len(pages):
        yield "there is no site"


def main():
    if len(sys.argv) != 2:
        print("usage: site.py FOLDER", file=sys.stderr)
        sys.exit(2)
    if not shutil.which("doxygen"):
        print("doxygen was not found, so there is no site")
        sys.exit(77)
    folder = Path(sys.argv[1]).resolve()
    copies = folder / "copies"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(repository / "cmake/docs", copies / "cmake/docs")
    (copies / "images").mkdir()

    wrong = []
    for given in inputs:
        path = repository / given
        for file in [path] if path.is_file() else sorted(path.glob("*.hpp")):
            name = file.relative_to(repository).as_posix()
            text = file.read_text()
            if file.suffix == ".hpp":
                wrong += undocumented(name, text)
                text = header(text, "/cpu/" in name)
            else:
                for source in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
                    shutil.copyfile(file.parent / source, copies / "images" / image_of(name, source))
                text = page_of(name, text)
            (copies / name).parent.mkdir(parents=True, exist_ok=True)
            (copies / name).write_text(text)
    version = re.findall(r"define CASCADA_VERSION_\w+ (\d+)", (repository / "include/cascada/config.hpp").read_text())
    own = f"PROJECT_NUMBER = {'.'.join(version)}\nOUTPUT_DIRECTORY = {folder}\n"
    own += f"IMAGE_PATH = {copies}/images\n"
    made = subprocess.run(["doxygen", "-"], cwd=copies, input=doxyfile + own, text=True, capture_output=True)
    wrong += [line.replace(str(copies) + "/", "") for line in made.stderr.splitlines()]
    if made.returncode != 0 and not wrong:
        wrong.append("doxygen failed")
    wrong += faults(folder / "html")
    print("\n".join(wrong) or f"{folder}/html/index.html")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
