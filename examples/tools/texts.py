"""Plain texts, prose and code, out of Debian packages: what presets are tuned on, and others to check them on."""
import argparse
import gzip
import os
import pathlib
import sys

CHARACTERS = 200_000

# name: (package, kind, use, files in order, where the text begins)
TEXTS = {
    "handbook": ("debian-handbook", "prose", "tuning", [], None),  # by handbook.py
    "policy": ("debian-policy", "prose", "tuning",
               ["usr/share/doc/debian-policy/policy.html/_sources/ch-*.rst.txt"], None),
    "python": ("libpython3.11-stdlib", "code", "tuning",
               [f"usr/lib/python3.11/{name}.py" for name in ("difflib", "doctest", "tarfile", "argparse")], None),
    "stl": ("libstdc++-12-dev", "code", "tuning",
            [f"usr/include/c++/12/bits/{name}.h" for name in ("stl_algo", "ranges_algo")], None),
    "developers": ("developers-reference", "prose", "check",
                   [f"usr/share/developers-reference/_sources/{name}.rst.txt" for name in ("pkgs", "resources")], None),
    "jargon": ("jargon-text", "prose", "check", ["usr/share/doc/jargon-text/jargon.txt.gz"], ":crunch:"),
    "bash": ("bash-doc", "prose", "check", ["usr/share/info/bash.info.gz"], "1.1 What is Bash?"),
    "perl": ("perl-modules-5.36", "code", "check",
             [f"usr/share/perl/5.36.0/CPAN/{name}.pm" for name in ("Distribution", "Shell", "Index")], None),
    "jquery": ("libjs-jquery", "code", "check", ["usr/share/javascript/jquery/jquery.js"], None),
}


def fail(sentence):
    print(f"texts.py: {sentence}", file=sys.stderr)
    sys.exit(2)


def names(use):
    return [name for name, text in TEXTS.items() if text[2] == use]


def read(path):
    content = path.read_bytes()
    return (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8", errors="replace")


def extract(name, folder):
    """The text's files out of its unpacked package, one after the other, cut to CHARACTERS."""
    package, _, _, patterns, begin = TEXTS[name]
    text = ""
    for pattern in patterns:
        found = sorted(pathlib.Path(folder).glob(pattern))
        if not found:
            fail(f"this edition of {package} has no {pattern}; texts are of Debian 12, and --texts can leave out {name}")
        text += "\n".join(read(path) for path in found)
    start = 0 if begin is None else text.find(begin)
    if start < 0:
        fail(f"{begin} is nowhere in the text of {package}")
    return text[start:start + CHARACTERS]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    package = actions.add_parser("package", help="print the package that a text comes from")
    package.add_argument("name")
    unpacked = actions.add_parser("extract", help="write a text out of its unpacked package")
    unpacked.add_argument("name")
    unpacked.add_argument("folder")
    unpacked.add_argument("text", help="the file to write")
    listed = actions.add_parser("list", help="print the names of the texts for a use")
    listed.add_argument("use", choices=("tuning", "check"))
    arguments = parser.parse_args()

    if arguments.action == "list":
        print(",".join(names(arguments.use)))
        return
    if arguments.name not in TEXTS:
        fail(f"unknown text {arguments.name}; there are {', '.join(TEXTS)}")
    if arguments.action == "package":
        print(TEXTS[arguments.name][0])
        return
    scratch = arguments.text + ".part"
    pathlib.Path(scratch).write_text(extract(arguments.name, arguments.folder), encoding="utf-8")
    os.replace(scratch, arguments.text)


if __name__ == "__main__":
    main()
