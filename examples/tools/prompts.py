"""Prompts for cascada-generate, as token ids: the beginning of a text and a question about it, a text as it is, or a
text that hides a sentence at ten depths."""
import argparse
import json
import os
import pathlib
import sys

from tokenizers import Tokenizer

QUESTION = "Who wrote this book, what was special about its first edition, and which readers is it for?"
NEEDLE = "The pass word of the old lighthouse is heliotrope.\n\n"
ASKED = "\n\nThe pass word of the old lighthouse is"
ANSWER = " heliotrope"
DEPTHS = [(i + 0.5) / 10 for i in range(10)]


def fail(sentence):
    print("prompts.py: " + " ".join(sentence.split()), file=sys.stderr)
    sys.exit(2)


def frame(tokenizer):
    """What stands before and after a text that is asked about: a chat, if the model knows its marks."""
    if tokenizer.token_to_id("<|im_start|>") is None:
        return "", f"\n\nQuestion: {QUESTION}\nAnswer:"
    return "<|im_start|>user\n", f"\n\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"


def asked(encode, tokenizer, text, length):
    before, after = (encode(part) for part in frame(tokenizer))
    kept = length - len(before) - len(after)
    if kept < 1:
        fail(f"{length} tokens are too few for the question")
    if kept > len(text):
        fail(f"the text has {len(text)} tokens, fewer than the {kept} that are to be read")
    return before + text[:kept] + after


def hidden(encode, tokenizer, text, length):
    """The needle is a paragraph, where one ends that is nearest to each depth."""
    needle, end = encode(NEEDLE), encode(ASKED)
    kept = length - len(needle) - len(end)
    if kept < 1:
        fail(f"{length} tokens are too few for the needle")
    text = text[:kept]
    ends = [i + 1 for i, token in enumerate(text) if tokenizer.decode([token]).endswith("\n")] or range(len(text) + 1)
    prompts = []
    for depth in DEPTHS:
        place = min(ends, key=lambda i: abs(i - depth * len(text)))
        prompts.append({"depth": place / len(text), "tokens": text[:place] + needle + text[place:] + end})
    return {"answer": encode(ANSWER), "prompts": prompts}


def write(path, content):
    try:
        pathlib.Path(path + ".part").write_text(content)
        os.replace(path + ".part", path)
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["question", "plain", "needle"])
    parser.add_argument("tokenizer", help="tokenizer.json")
    parser.add_argument("text", help="UTF-8 text")
    parser.add_argument("prompt", help="the file to write: ids, one per line; JSON with needles")
    parser.add_argument("--length", type=int, required=True, metavar="N", help="tokens at most")
    arguments = parser.parse_args()
    try:
        text = pathlib.Path(arguments.text).read_text(encoding="utf-8")
        tokenizer = Tokenizer.from_file(arguments.tokenizer)

        def encode(part):
            return tokenizer.encode(part, add_special_tokens=False).ids
        ids = encode(text)
    except Exception as error:  # the tokenizers package raises bare Exception
        fail(f"cannot encode {arguments.text} with {arguments.tokenizer}: {error}")
    if not ids:
        fail(f"{arguments.text} is empty")
    if arguments.kind == "needle":
        write(arguments.prompt, json.dumps(hidden(encode, tokenizer, ids, arguments.length)))
        return
    if arguments.kind == "question":
        ids = asked(encode, tokenizer, ids, arguments.length)
    write(arguments.prompt, "".join(f"{i}\n" for i in ids[:max(arguments.length, 1)]))


if __name__ == "__main__":
    main()
