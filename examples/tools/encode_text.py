"""Encodes a text file with a model's tokenizer.json: token ids, one per line."""
import argparse
import os
import pathlib
import sys

from tokenizers import Tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tokenizer", help="tokenizer.json")
    parser.add_argument("text", help="UTF-8 text")
    parser.add_argument("tokens", help="the file to write")
    arguments = parser.parse_args()

    try:
        text = pathlib.Path(arguments.text).read_text(encoding="utf-8")
        tokenizer = Tokenizer.from_file(arguments.tokenizer)
    except Exception as error:  # the tokenizers package raises bare Exception
        print(f"encode_text.py: cannot read {arguments.text} or {arguments.tokenizer}: {error}", file=sys.stderr)
        sys.exit(2)
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    if tokenizer.decode(ids, skip_special_tokens=False) != text:
        print("encode_text.py: warning: the tokens do not decode to the same text", file=sys.stderr)
    scratch = arguments.tokens + ".part"
    pathlib.Path(scratch).write_text("".join(f"{i}\n" for i in ids))
    os.replace(scratch, arguments.tokens)


if __name__ == "__main__":
    main()
