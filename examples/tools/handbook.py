"""The first chapters of the Debian Administrator's Handbook as plain text: paragraphs only, in reading order.

Screens, side notes and tables are left out. The text is part of every measurement, so its sha256 is pinned here.
"""
import argparse
import hashlib
import html.parser
import os
import pathlib
import sys

CHARACTERS = 200_000  # about 45 000 tokens: the foreword and the first six chapters
SHA256 = "b9066dcd1db2bc082a8a578dc08c779fe8dcd527db91289a1c5c423b238ac716"
SKIPPED = {"pre", "table", "script", "style"}
SKIPPED_CLASSES = {"sidebar", "titlepage", "toc", "docnav", "figure", "table", "footnotes"}
VOID = {"br", "hr", "img", "link", "meta", "input", "col"}


class Paragraphs(html.parser.HTMLParser):
    """Collects the text of <div class="para">, and the page that follows."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.paragraphs, self.next_page = [], None
        self.open = []  # per open element: (it is a paragraph, it is skipped)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "link" and attributes.get("rel") == "next":
            self.next_page = attributes["href"].partition("#")[0]
        if tag in VOID:
            return
        classes = set((attributes.get("class") or "").split())
        skipped = tag in SKIPPED or bool(classes & SKIPPED_CLASSES) or (bool(self.open) and self.open[-1][1])
        starts = "para" in classes and not skipped
        if starts:
            self.paragraphs.append("")
        self.open.append((starts, skipped))

    def handle_startendtag(self, tag, attributes):
        if tag == "link":
            self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag):
        if tag not in VOID and self.open:
            self.open.pop()

    def handle_data(self, data):
        if any(is_paragraph for is_paragraph, _ in self.open) and not self.open[-1][1]:
            self.paragraphs[-1] += data


def extract(folder):
    """Pages from the foreword on, as their <link rel="next"> chains them, until there is enough text."""
    text, page = "", "foreword.html"
    while page and len(text) < CHARACTERS:
        parser = Paragraphs()
        parser.feed((pathlib.Path(folder) / page).read_text(encoding="utf-8"))
        for paragraph in parser.paragraphs:
            words = " ".join(paragraph.split())
            text += words + "\n\n" if words else ""
        page = parser.next_page
    return text[:CHARACTERS]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="the handbook's English HTML")
    parser.add_argument("text", help="the file to write")
    arguments = parser.parse_args()

    try:
        text = extract(arguments.folder).encode()
    except OSError as error:
        sys.exit(f"handbook.py: {error}")
    digest = hashlib.sha256(text).hexdigest()
    if digest != SHA256:
        sys.exit(f"handbook.py: this edition of debian-handbook gives another text (sha256 {digest[:12]}..., expected "
                 f"{SHA256[:12]}...): numbers would not compare; pass a text of your own with --text FILE")
    scratch = arguments.text + ".part"
    pathlib.Path(scratch).write_bytes(text)
    os.replace(scratch, arguments.text)


if __name__ == "__main__":
    main()
