"""The paper's table (arXiv:2605.03110) for any causal language model that transformers loads from a local folder.

    build/venv/bin/python examples/torch/paper_table.py --model PATH

For each length T and Gram threshold tau: what the cascade keeps, and what it saves, of the rows that enter the layers,
read by hooks; and the perplexity of the presets, whose tau is their own. Leaves README.md, report.json and pictures.
examples/torch/run.sh installs what is needed.
"""
import argparse
import pathlib
import shlex
import sys

import torch

import cascada_attention
import models

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "tools"))
import paper_page  # noqa: E402

PRESETS = [name for name in cascada_attention.PRESETS if name != "dense"]
NOTE = ("The columns are the presets, whose tau is their own (0.4): every tau has the same numbers. They are meant for "
        "2048 tokens and more; up to 256 and one, their near field reaches everything.")


def rows_entering_layers(model, tokens):
    """The residual stream [T, d] that enters each layer, and the dense logits."""
    rows, layers = [], cascada_attention.decoder_layers(model)
    hooks = [layer.register_forward_pre_hook(
        lambda _, arguments, named: rows.append((arguments[0] if arguments else named["hidden_states"])[0]),
        with_kwargs=True) for layer in layers]
    logits = model(tokens, use_cache=False).logits
    for hook in hooks:
        hook.remove()
    return rows, logits


def cascade_means(rows, threshold):
    """Means over all layers but the first, as examples/paper_table.sh has them."""
    exact = cascada_attention.extension.Cascade(threshold)
    paper = cascada_attention.extension.Cascade(threshold, paper=True)
    reports = []
    for layer in rows:
        full = cascada_attention.extension.Cascade(threshold)  # the first step of a cascade selects in full
        reports.append([walk.step(layer) for walk in (exact, paper, full)])
    later = reports[1:] or models.fail("the model has one layer: nothing is inherited")

    def mean(value):
        return sum(map(value, later)) / len(later)

    return {"representatives_share": mean(lambda at: at[0]["representatives"] / at[0]["tokens"]),
            "additions": mean(lambda at: at[0]["additions"]), "removals": mean(lambda at: at[0]["removals"]),
            "jaccard": mean(lambda at: at[0]["jaccard"]), "least_jaccard": min(at[0]["jaccard"] for at in later),
            "savings_exact": mean(lambda at: at[0]["savings"]),
            "savings_paper_mode": mean(lambda at: at[1]["savings"]),
            "savings_cross_gram_only": mean(lambda at: at[1]["savings_cross_gram_only"]),
            "savings_full_selection": mean(lambda at: at[2]["savings"]),
            "sets_equal_full_selection": all(at[0]["kept"] == at[1]["kept"] == at[2]["kept"] for at in reports)}


def measure(model, tokens, thresholds):
    model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")
    rows, logits = rows_entering_layers(model, tokens)
    dense = models.perplexity(logits, tokens)
    modes = []
    for name in PRESETS:
        used = cascada_attention.use(model, name)
        perplexity = models.perplexity(model(tokens, use_cache=False).logits, tokens)
        modes.append({"name": name, "perplexity": perplexity, "perplexity_ratio": perplexity / dense,
                      "share_of_dense_keys": used.costs["read"] / used.costs["dense"]})
        used.remove()
    return {"tokens": tokens.shape[1], "dense_perplexity": dense,
            "thresholds": [{"threshold": tau, "cascade": cascade_means(rows, tau), "modes": modes}
                           for tau in thresholds]}


def numbers(kind, least, most):
    def parse(text):
        values = [kind(part) for part in text.split(",")]
        if not all(least <= value <= most and value > 0 for value in values):
            raise ValueError
        return values
    return parse


def parse_arguments():
    root = pathlib.Path(__file__).resolve().parent.parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = models.fail
    parser.add_argument("--model", required=True, help="folder with config.json, weights and tokenizer.json")
    parser.add_argument("--text", type=pathlib.Path, default=root / "build/handbook.txt",
                        help="UTF-8 text (%(default)s)")
    parser.add_argument("--lengths", type=numbers(int, 2, 1 << 30),
                        help=f"tokens ({paper_page.LENGTHS}, as far as the model has positions)")
    parser.add_argument("--thresholds", type=numbers(float, 0, 1), default=paper_page.THRESHOLDS,
                        help="in (0, 1] (%(default)s)")
    parser.add_argument("--threads", type=int, help="threads (torch's choice)")
    parser.add_argument("--output", type=pathlib.Path, help="where the results go (build/torch/paper-table/MODEL)")
    arguments = parser.parse_args()
    name = pathlib.Path(arguments.model).resolve().name
    arguments.output = arguments.output or root / "build/torch/paper-table" / name
    return arguments


def main():
    arguments = parse_arguments()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    model = models.load_model(arguments.model)
    most = models.positions(model)
    lengths = arguments.lengths or [length for length in map(int, paper_page.LENGTHS.split(",")) if length <= most]
    if max(lengths) > most:
        models.fail(f"the model has {most} positions, fewer than {max(lengths)}")
    tokens = models.encode(arguments.model, arguments.text, max(lengths))
    table = {"command": shlex.join(["examples/torch/paper_table.py", *sys.argv[1:]]), "kind": "decoder", "note": NOTE,
             "model": pathlib.Path(arguments.model).resolve().name, "model_type": model.config.model_type,
             "features": "residual", "text": arguments.text.name, "lengths": []}
    for length in lengths:
        print(f"==> T = {length}", file=sys.stderr)
        table["lengths"].append(measure(model, tokens[:, :length], arguments.thresholds))
        print(paper_page.text(table, table["lengths"][-1], heading=length == lengths[0]), flush=True)
    paper_page.write(table, arguments.output)
    print(f"\nWritten: {arguments.output}/README.md, report.json, cascade.png, quality.png")
    studies = [at["cascade"] for length in table["lengths"] for at in length["thresholds"]]
    if not all(study["sets_equal_full_selection"] for study in studies):
        sys.exit("a cascade's set differs from that of full selection")


if __name__ == "__main__":
    main()
