"""Writes what cascada-generate said into its report.json, as text, and prints it."""
import argparse
import json
import os
import pathlib
import sys

from tokenizers import Tokenizer


def fail(sentence):
    print("decode_report.py: " + " ".join(sentence.split()), file=sys.stderr)
    sys.exit(2)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tokenizer", help="tokenizer.json")
    parser.add_argument("report", help="report.json")
    arguments = parser.parse_args()
    try:
        tokenizer = Tokenizer.from_file(arguments.tokenizer)
        report = json.loads(pathlib.Path(arguments.report).read_text(encoding="utf-8"))
        for mode in report["modes"]:
            mode["text"] = tokenizer.decode(mode["tokens"], skip_special_tokens=False)
            if "needle" in mode:
                mode["needle"]["texts"] = [tokenizer.decode(said) for said in mode["needle"]["tokens"]]
    except Exception as error:  # the tokenizers package raises bare Exception
        fail(f"cannot decode {arguments.report} with {arguments.tokenizer}: {error}")
    try:
        pathlib.Path(arguments.report + ".part").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n",
                                                            encoding="utf-8")
        os.replace(arguments.report + ".part", arguments.report)
    except OSError as error:
        fail(f"cannot write {arguments.report}: {error.strerror}")

    earlier = {}
    for mode in report["modes"]:
        same = earlier.setdefault(mode["text"], mode["name"])
        print(f"\n{mode['name']}: " + (mode["text"].strip() if same == mode["name"] else f"as {same}"))


if __name__ == "__main__":
    main()
