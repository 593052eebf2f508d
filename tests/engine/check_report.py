"""Checks three reports of examples/run.sh: all modes, a window over everything, and every key a leaf of its own."""
import json
import pathlib
import sys

# What transformers 5.23 computes for the converted model and the first 256 tokens of the text, in float.
DENSE_PERPLEXITY = 25.973844
LAYER_KEYS = {"layer", "representatives", "additions", "removals", "jaccard", "gram_operations", "savings_exact",
              "savings_paper_mode", "savings_cross_gram_only", "set_equals_full_selection"}
MODE_KEYS = {"name", "perplexity", "perplexity_ratio", "divergence", "top1_agreement", "share_of_dense_keys",
             "closed_mass", "savings", "jaccard", "attention_seconds", "selection_seconds"}
MODES = ["dense", "window", "positions", "random", "literal", "near-far-closed", "near-far", "near-far-grouped",
         "balanced"]


def close(a, b, relative):
    return abs(a - b) <= relative * abs(b)


def check_layers(report):
    layers, pairs = report["layers"], report["tokens"] * (report["tokens"] - 1) / 2
    sets = 3 if report["settings"]["features"] == "keys" else 1  # SmolLM2's KV heads
    assert [(layer["layer"], layer["set"]) for layer in layers] == [(i, j) for i in range(30) for j in range(sets)]
    for before, layer in zip([None] * sets + layers, layers):
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
    compressed, window, single = (json.loads((folder / "report.json").read_text()) for folder in folders)
    for folder in folders:
        assert (folder / "cascade.png").stat().st_size > 10_000
        assert (folder / "perplexity.png").stat().st_size > 10_000
    for report in (compressed, window, single):
        assert report["tokens"] == 256 and report["threshold"] == (1 if report is single else 0.8)
        check_layers(report)
        for mode in report["modes"]:
            assert MODE_KEYS <= mode.keys() and 0 < mode["share_of_dense_keys"] <= 1 + 1e-9
            inherits = mode["name"] in ("literal", "balanced") or mode["name"].startswith("near-far")
            assert (mode["savings"] is not None) == (mode["jaccard"] is not None) == inherits

    modes = {mode["name"]: mode for mode in compressed["modes"]}
    assert list(modes) == MODES
    dense = modes["dense"]
    assert close(dense["perplexity"], DENSE_PERPLEXITY, 1e-4), dense["perplexity"]
    assert dense["perplexity_ratio"] == 1 and dense["top1_agreement"] == 1 and dense["share_of_dense_keys"] == 1
    assert dense["divergence"] == 0
    assert len(modes["random"]["perplexity_of_each_seed"]) == 5
    # The order that the method rests on: leaves help, and help more where they open; so do sets that are not random.
    loss = {name: mode["divergence"] for name, mode in modes.items()}
    assert 0 < loss["near-far"] < loss["near-far-closed"] < loss["near-far-grouped"] < loss["window"] < loss["literal"]
    assert loss["near-far"] < loss["positions"]
    keys = {name: mode["share_of_dense_keys"] for name, mode in modes.items()}
    assert keys["window"] < keys["near-far-closed"] < keys["near-far"] < 1
    mass = {name: mode["closed_mass"] for name, mode in modes.items()}
    assert 0 < mass["near-far"] < mass["near-far-closed"] < 1 and mass["window"] == 0

    for name in ("near-far-closed", "near-far", "near-far-grouped"):
        mode = next(mode for mode in window["modes"] if mode["name"] == name)
        assert mode["perplexity"] == window["modes"][0]["perplexity"] and mode["divergence"] == 0
        assert mode["top1_agreement"] == mode["share_of_dense_keys"] == 1 and mode["closed_mass"] == 0
    for mode in single["modes"]:
        assert close(mode["perplexity"], single["modes"][0]["perplexity"], 1e-5), mode
    print("The reports hold what they must")


if __name__ == "__main__":
    main()
