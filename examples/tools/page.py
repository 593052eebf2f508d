"""Makes one HTML page of what cascada-page wrote: a text, its representatives, and what its tokens attended to."""
import argparse
import json
import os
import pathlib
import sys

from tokenizers import Tokenizer


def fail(sentence):
    print("page.py: " + " ".join(sentence.split()), file=sys.stderr)
    sys.exit(2)


def pieces(tokenizer, ids):
    """The text of each token. A character of several tokens goes with its last, so that the others may be empty."""
    shown, out = "", []
    for i in range(len(ids)):
        so_far = tokenizer.decode(ids[:i + 1], skip_special_tokens=False).rstrip("\ufffd")
        out.append(so_far[len(shown):])
        shown = so_far
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tokenizer", help="tokenizer.json")
    parser.add_argument("data", help="what cascada-page wrote")
    parser.add_argument("page", help="the HTML to write")
    arguments = parser.parse_args()

    try:
        data = json.loads(pathlib.Path(arguments.data).read_text(encoding="utf-8"))
        data["text"] = pieces(Tokenizer.from_file(arguments.tokenizer), data["tokens"])
    except Exception as error:  # the tokenizers package raises bare Exception
        fail(f"cannot decode {arguments.data} with {arguments.tokenizer}: {error}")
    template = (pathlib.Path(__file__).parent / "page.html").read_text(encoding="utf-8")
    # No text may end the script that holds it.
    page = template.replace("{{data}}", json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"))
    try:
        pathlib.Path(arguments.page + ".part").write_text(page, encoding="utf-8")
        os.replace(arguments.page + ".part", arguments.page)
    except OSError as error:
        fail(f"cannot write {arguments.page}: {error.strerror}")


if __name__ == "__main__":
    main()
