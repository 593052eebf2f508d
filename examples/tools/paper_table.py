"""Makes the paper's table for one model: runs an evaluation for each length, prints a line for each threshold, and
leaves README.md, report.json and pictures in a folder. Called by examples/paper_table.sh.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import paper_page

DEFAULT_POSITIONS = {"bert": 512, "gpt2": 1024, "qwen2": 32768}  # others: 2048
MODES = {"decoder": "window,literal,near-far-closed,near-far", "encoder": "literal,weighted,all-queries,random"}


def fail(sentence):
    print(f"paper_table.py: {sentence}", file=sys.stderr)
    sys.exit(2)


def read_config(model):
    """(architecture, positions); where a file does not say how many positions there are, transformers' default."""
    path = pathlib.Path(model) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        positions = config.get("max_position_embeddings") or config.get("n_positions")
        return config["model_type"], int(positions or DEFAULT_POSITIONS.get(config["model_type"], 2048))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        fail(f"{path} is no JSON object with a model_type")


def kind_of(model_type):
    return "encoder" if model_type == "bert" else "decoder"


def run(command):
    """The tools and programs say themselves what is wrong; their exit code becomes ours."""
    code = subprocess.run(command, stdout=subprocess.DEVNULL).returncode
    if code != 0:
        sys.exit(code)


def encode(arguments, tokens, length=None):
    tool = pathlib.Path(__file__).with_name("encode_text.py")
    run([sys.executable, tool, f"{arguments.model}/tokenizer.json", arguments.text, tokens]
        + ([] if length is None else ["--piece", str(length)]))


def measure(arguments, kind, length, scratch):
    """One evaluation: {tokens, dense_perplexity (decoders), thresholds: [{threshold, cascade, modes}]}."""
    tokens = f"{scratch}/tokens"
    first, *others = arguments.thresholds.split(",")
    modes = arguments.modes or MODES[kind]
    if kind == "decoder" and "dense" not in modes.split(","):
        modes = "dense," + modes
    command = [arguments.program, "--model", arguments.model, "--tokens", tokens, "--length", str(length), "--features",
               arguments.features, "--modes", modes, "--output", scratch]
    command += ["--threads", arguments.threads] if arguments.threads else []
    if kind == "encoder":
        encode(arguments, tokens, length)
        run(command + ["--thresholds", arguments.thresholds, "--pieces", arguments.pieces])
    else:
        if not os.path.exists(tokens):
            encode(arguments, tokens)
        run(command + ["--threshold", first, "--sweep", ",".join(others) or "none"])
    report = json.loads(pathlib.Path(scratch, "report.json").read_text())
    return encoder_length(report) if kind == "encoder" else decoder_length(report)


def at_threshold(threshold, means, modes):
    """Seconds stay out: a table is made on whatever machine, with whatever else runs on it."""
    return {"threshold": threshold, "cascade": means,
            "modes": [{key: mode[key] for key in mode if not key.endswith("_seconds")} for mode in modes]}


def encoder_length(report):
    return {"tokens": report["tokens"],
            "thresholds": [at_threshold(at["threshold"], at["mean_after_layer_0"], at["modes"])
                           for at in report["thresholds"]]}


def decoder_length(report):
    rows = [at_threshold(report["threshold"], report["mean_after_layer_0"], report["modes"])]
    fixed = [mode for mode in report["modes"] if mode["representatives_share"] == 0]  # whatever tau is
    for means in report["sweep_means_after_layer_0"]:
        threshold = means.pop("threshold")
        swept = [mode for mode in report["sweep"] if mode["threshold"] == threshold]
        rows.append(at_threshold(threshold, means, fixed + swept))
    dense = next(mode["perplexity"] for mode in report["modes"] if mode["name"] == "dense")
    return {"tokens": report["tokens"], "dense_perplexity": dense, "thresholds": rows}


def make_table(arguments):
    model_type, positions = read_config(arguments.model)
    kind = kind_of(model_type)
    lengths = [int(length) for length in (arguments.lengths or paper_page.LENGTHS).split(",")]
    if arguments.lengths is None:
        lengths = [length for length in lengths if length <= positions]
    table = {"command": arguments.command, "model": pathlib.Path(arguments.model).name, "model_type": model_type,
             "kind": kind, "features": arguments.features, "text": pathlib.Path(arguments.text).name, "lengths": []}
    if kind == "encoder":
        table["pieces"] = int(arguments.pieces)
    with tempfile.TemporaryDirectory() as scratch:
        for length in lengths:
            print(f"==> T = {length}", file=sys.stderr)
            table["lengths"].append(measure(arguments, kind, length, scratch))
            print(paper_page.text(table, table["lengths"][-1], heading=length == lengths[0]), flush=True)
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    program = actions.add_parser("program", help="print the name of the evaluation program for a model")
    program.add_argument("model")
    table = actions.add_parser("run")
    table.add_argument("model")
    for name in ("text", "program", "output", "command"):
        table.add_argument(f"--{name}", required=True)
    for name, otherwise in (("lengths", None), ("thresholds", paper_page.THRESHOLDS), ("features", "residual"),
                            ("modes", None), ("pieces", "64"), ("threads", None)):
        table.add_argument(f"--{name}", default=otherwise)
    arguments = parser.parse_args()

    if arguments.action == "program":
        is_encoder = kind_of(read_config(arguments.model)[0]) == "encoder"
        print("cascada-evaluate-encoder" if is_encoder else "cascada-evaluate")
        return
    result = make_table(arguments)
    paper_page.write(result, pathlib.Path(arguments.output))
    print(f"\nWritten: {arguments.output}/README.md, report.json, cascade.png, quality.png")


if __name__ == "__main__":
    main()
