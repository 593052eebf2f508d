"""Checks what examples/torch/run.sh and paper_table.py left.

    torch_tables.py run REPORT LINES     of 300 tokens of SmolLM2-135M: only `fast` has a far field at that length
    torch_tables.py paper FOLDER REPORT  beside the example engine's report of the same model and text
"""
import json
import pathlib
import sys


def check_run(report, lines):
    rows = {row["name"]: row for row in report["attentions"]}
    assert list(rows) == ["sdpa", "dense", "accurate", "balanced", "fast"]
    for name, row in rows.items():
        assert len(row["generated"]) == 3 and len(row["prefill_seconds"]) == 1 and row["tokens_per_second"][0] > 0
        assert len(row["padded_as_alone"]) == 3 and row["padded_as_alone"][0] == 3
        assert abs(row["divergence"]) < (1e-3 if name == "fast" else 1e-6)
        line = next(line for line in lines if line.startswith(f"{name} ")).split()
        assert line[1] == f"{row['perplexity']:.4f}"
    assert abs(rows["dense"]["perplexity"] / rows["sdpa"]["perplexity"] - 1) < 1e-5
    assert rows["accurate"]["perplexity"] == rows["balanced"]["perplexity"] == rows["dense"]["perplexity"]
    assert rows["dense"]["same_tokens"] == 3 and rows["dense"]["same_top_token"] > 0.99
    assert [rows[name]["keys_read"] for name in ("sdpa", "dense", "balanced")] == [1, 1, 1]
    assert 0.9 < rows["fast"]["keys_read"] < 1 and rows["fast"]["perplexity"] != rows["dense"]["perplexity"]


def check_paper(folder, engines):
    table = json.loads((folder / "report.json").read_text())
    assert [length["tokens"] for length in table["lengths"]] == [128]
    length = table["lengths"][0]
    other = next(length for length in engines["lengths"] if length["tokens"] == 128)
    assert abs(length["dense_perplexity"] / other["dense_perplexity"] - 1) < 1e-5
    for at in length["thresholds"]:
        wanted = next(their for their in other["thresholds"] if their["threshold"] == at["threshold"])["cascade"]
        assert at["cascade"].keys() == wanted.keys() and at["cascade"]["sets_equal_full_selection"] is True
        for key, value in wanted.items():  # the hidden states are torch's: a token of 128 may be decided otherwise
            assert abs(at["cascade"][key] - value) <= 0.01 * max(1, abs(value)), (key, at["cascade"][key], value)
        assert [mode["perplexity_ratio"] for mode in at["modes"]] == [modes_ratio(at)] * 3
    page = (folder / "README.md").read_text()
    assert "| 128 | 0.70 |" in page and "not available to us" not in page
    assert (folder / "cascade.png").stat().st_size > 0 and (folder / "quality.png").stat().st_size > 0


def modes_ratio(at):
    """Dense: within a near field of 128 tokens there is nothing else."""
    ratio = at["modes"][0]["perplexity_ratio"]
    assert abs(ratio - 1) < 1e-5
    return ratio


if __name__ == "__main__":
    if sys.argv[1] == "run":
        check_run(json.loads(pathlib.Path(sys.argv[2]).read_text()), pathlib.Path(sys.argv[3]).read_text().splitlines())
    else:
        check_paper(pathlib.Path(sys.argv[2]), json.loads(pathlib.Path(sys.argv[3]).read_text()))
