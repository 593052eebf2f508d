"""Checks three reports of examples/run.sh: default modes, a window over everything, a budget over everything."""
import json
import pathlib
import sys

# What transformers 5.23 computes for the converted model and the first 256 tokens of the text, in float.
DENSE_PERPLEXITY = 25.973844
LAYER_KEYS = {"layer", "representatives", "additions", "removals", "jaccard", "gram_operations", "savings_exact",
              "savings_paper_mode", "savings_cross_gram_only", "set_equals_full_selection"}
MODE_KEYS = {"name", "perplexity", "perplexity_ratio", "top1_agreement", "attention_seconds", "selection_seconds"}


def close(a, b, relative):
    return abs(a - b) <= relative * abs(b)


def check_layers(report):
    layers, pairs = report["layers"], report["tokens"] * (report["tokens"] - 1) / 2
    assert len(layers) == 30
    for before, layer in zip([None] + layers, layers):
        assert LAYER_KEYS <= layer.keys()
        assert layer["set_equals_full_selection"] is True and layer["paper_mode_equals_exact"] is True
        assert 1 <= layer["representatives"] <= report["tokens"]
        gram, paper = layer["gram_operations"], layer["gram_operations_paper_mode"]
        for counts in (gram, paper):
            assert counts["total"] == sum(count for kind, count in counts.items() if kind != "total")
        assert close(1 - layer["savings_exact"], gram["total"] / pairs, 1e-9)
        assert close(1 - layer["savings_paper_mode"], paper["total"] / pairs, 1e-9)
        if before is None:
            assert layer["jaccard"] is None and layer["savings_cross_gram_only"] is None
            continue
        old, new = before["representatives"], layer["representatives"]
        assert new - old == layer["additions"] - layer["removals"]
        assert close(layer["jaccard"], (old - layer["removals"]) / (old + layer["additions"]), 1e-9)
        assert paper["cross_gram"] == old * (report["tokens"] - old)
        assert layer["savings_exact"] >= layer["savings_paper_mode"]


def main():
    folders = [pathlib.Path(folder) for folder in sys.argv[1:]]
    compressed, window, budget = (json.loads((folder / "report.json").read_text()) for folder in folders)
    for folder in folders:
        assert (folder / "cascade.png").stat().st_size > 10_000
        assert (folder / "perplexity.png").stat().st_size > 10_000
    for report in (compressed, window, budget):
        assert report["tokens"] == 256 and report["threshold"] == 0.8
        check_layers(report)
        assert all(MODE_KEYS <= mode.keys() for mode in report["modes"])

    modes = {mode["name"]: mode for mode in compressed["modes"]}
    assert list(modes) == ["dense", "window", "random", "literal", "near-far", "near-far-grouped", "near-far-refined"]
    assert close(modes["dense"]["perplexity"], DENSE_PERPLEXITY, 1e-4), modes["dense"]["perplexity"]
    assert modes["dense"]["perplexity_ratio"] == 1 and modes["dense"]["top1_agreement"] == 1
    assert len(modes["random"]["perplexity_of_each_seed"]) == 5
    # The order that the method rests on: summaries help, and help more where they are close to what they stand for.
    ratio = {name: mode["perplexity_ratio"] for name, mode in modes.items()}
    assert ratio["near-far"] < ratio["random"] and ratio["near-far"] < ratio["window"]
    assert abs(ratio["near-far-refined"] - 1) < abs(ratio["near-far"] - 1)
    assert ratio["literal"] > 2

    dense, near_far = window["modes"]
    assert near_far["perplexity"] == dense["perplexity"] and near_far["top1_agreement"] == 1
    dense, refined = budget["modes"]
    assert close(refined["perplexity"], dense["perplexity"], 1e-5), refined["perplexity"]
    print("The reports hold what they must")


if __name__ == "__main__":
    main()
