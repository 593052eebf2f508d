"""check_paper_table.py FOLDER LINES [REPORT]: checks what examples/paper_table.sh left and printed; for a decoder,
against a report of examples/run.sh at one of the same lengths and thresholds."""
import json
import pathlib
import sys
import tempfile

CASCADE_KEYS = {"representatives_share", "additions", "removals", "jaccard", "least_jaccard", "savings_exact",
                "savings_paper_mode", "savings_cross_gram_only", "savings_full_selection", "sets_equal_full_selection"}


def check_cascade(cascade):
    assert CASCADE_KEYS == cascade.keys()
    assert cascade["sets_equal_full_selection"] is True
    assert 0 < cascade["representatives_share"] <= 1
    assert 0 < cascade["least_jaccard"] <= cascade["jaccard"] + 1e-9 <= 1 + 2e-9
    # The exact cascade evaluates least; paper mode's cross-Gram products are only a part of what it evaluates.
    assert cascade["savings_exact"] >= cascade["savings_paper_mode"]
    assert cascade["savings_cross_gram_only"] >= cascade["savings_paper_mode"]


def check_decoder(table, report):
    length = next(length for length in table["lengths"] if length["tokens"] == report["tokens"])
    at = next(at for at in length["thresholds"] if at["threshold"] == report["threshold"])
    assert at["cascade"] == report["mean_after_layer_0"]
    dense = next(mode for mode in report["modes"] if mode["name"] == "dense")
    assert length["dense_perplexity"] == dense["perplexity"]
    for length in table["lengths"]:
        for at in length["thresholds"]:
            ratio = {mode["name"]: mode["perplexity_ratio"] for mode in at["modes"] if mode["name"] != "dense"}
            assert list(ratio) == ["window", "literal", "near-far-closed", "near-far"]
            # The near field, 128 tokens before a chunk of 128, reaches everything.
            assert ratio["window"] == ratio["near-far-closed"] == ratio["near-far"] == 1
            assert ratio["literal"] > 2


def check_encoder(table):
    for length in table["lengths"]:
        for at in length["thresholds"]:
            modes = {mode["name"]: mode for mode in at["modes"]}
            assert list(modes) == ["dense", "literal", "weighted", "all-queries", "random"]
            for name, mode in modes.items():
                # Where every token represents itself, every mode is dense.
                if name == "dense" or mode["representatives_share"] > 1 - 1e-9:
                    assert mode["least_embedding_cosine"] > 1 - 1e-5 and mode["rank_correlation"] > 0.99, (name, mode)
            if at["threshold"] < 1:
                assert at["cascade"]["representatives_share"] < 0.9
                assert modes["literal"]["embedding_cosine"] < modes["weighted"]["embedding_cosine"]
                assert modes["weighted"]["embedding_cosine"] < modes["all-queries"]["embedding_cosine"] < 1
            else:
                assert modes["literal"]["representatives_share"] > 1 - 1e-9


def check_positions():
    """What config.json says, or the default of transformers where it says nothing."""
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "examples" / "tools"))
    import paper_table
    with tempfile.TemporaryDirectory() as model:
        for config, positions in [({"model_type": "llama"}, 2048), ({"model_type": "qwen2"}, 32768),
                                  ({"model_type": "gpt2", "n_positions": None}, 1024), ({"model_type": "bert"}, 512),
                                  ({"model_type": "opt", "max_position_embeddings": 96}, 96)]:
            pathlib.Path(model, "config.json").write_text(json.dumps(config))
            assert paper_table.read_config(model) == (config["model_type"], positions), config


def main():
    check_positions()
    folder, lines = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).read_text().splitlines()
    table = json.loads((folder / "report.json").read_text())
    rows = [at for length in table["lengths"] for at in length["thresholds"]]
    assert len(rows) == 4
    for at in rows:
        check_cascade(at["cascade"])
    page = (folder / "README.md").read_text()
    for at in rows:
        jaccard = f"{at['cascade']['jaccard']:.3f}"
        assert any(jaccard in line.split() for line in lines) and f"| {jaccard} |" in page
    assert "OPT 6.7B | weights not available to us" in page and "nan" not in page
    assert all((folder / name).stat().st_size > 10_000 for name in ("cascade.png", "quality.png"))
    if table["kind"] == "encoder":
        check_encoder(table)
    else:
        check_decoder(table, json.loads(pathlib.Path(sys.argv[3]).read_text()))
    print("The table holds what it must")


if __name__ == "__main__":
    main()
