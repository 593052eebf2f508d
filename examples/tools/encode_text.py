"""Encodes a text file with a model's tokenizer.json: token ids, one per line."""
import argparse
import os
import pathlib
import sys

from tokenizers import Tokenizer


def fail(sentence):
    print("encode_text.py: " + " ".join(sentence.split()), file=sys.stderr)
    sys.exit(2)


def whole(tokenizer, text):
    """For decoders: the text as it is, without special tokens."""
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    if tokenizer.decode(ids, skip_special_tokens=False) != text:
        print("encode_text.py: warning: the tokens do not decode to the same text", file=sys.stderr)
    return ids


def pieces(tokenizer, text, length):
    """For encoders: pieces of `length` tokens, the special tokens around each included; a shorter rest is left out."""
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    first = tokenizer.encode(text)
    return [i for piece in [first] + first.overflowing if len(piece.ids) == length for i in piece.ids]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tokenizer", help="tokenizer.json")
    parser.add_argument("text", help="UTF-8 text")
    parser.add_argument("tokens", help="the file to write")
    parser.add_argument("--piece", type=int, metavar="N", help="cut into pieces of N tokens with special tokens")
    arguments = parser.parse_args()

    try:
        text = pathlib.Path(arguments.text).read_text(encoding="utf-8")
        tokenizer = Tokenizer.from_file(arguments.tokenizer)
        ids = whole(tokenizer, text) if arguments.piece is None else pieces(tokenizer, text, arguments.piece)
    except Exception as error:  # the tokenizers package raises bare Exception
        fail(f"cannot encode {arguments.text} with {arguments.tokenizer}: {error}")
    scratch = arguments.tokens + ".part"
    try:
        pathlib.Path(scratch).write_text("".join(f"{i}\n" for i in ids))
        os.replace(scratch, arguments.tokens)
    except OSError as error:
        fail(f"cannot write {arguments.tokens}: {error.strerror}")


if __name__ == "__main__":
    main()
