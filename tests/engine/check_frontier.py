"""check_frontier.py points FILE: writes a few settings. check_frontier.py FOLDER: checks what examples/frontier.sh
left of them, swept and as presets."""
import json
import math
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "examples" / "tools"))
import frontier  # noqa: E402

NEAR = {"window": 32, "chunk": 32}
POINTS = {
    "families": {"cascade": {"setting": NEAR | {"threshold": 0.5}, "curve": {"open_above": [0.03, 0.003]},
                             "axes": {"open": ["none"], "near": [NEAR, {"window": 64, "chunk": 64}]}}},
    "baselines": {"all open": {"setting": {"open": "all"} | NEAR, "curve": {"leaf": [16]}}},
    "presets": {"exact": {"most": 0.001, "setting": {"open": "all"} | NEAR},
                "lossy": {"most": 0.001, "setting": {"keys": "near"} | NEAR}}}


def check_arithmetic():
    # By hand: mean 0.015, standard error 0.0064550, t(0.95; 3) = 2.353.
    assert abs(frontier.upper_bound([0, 0.01, 0.02, 0.03]) - 0.030189) < 1e-6
    curves, axes = frontier.expand(POINTS, quick=False)
    assert [point["label"] for point in curves] == ["open_above 0.03", "open_above 0.003", "leaf 16"]
    # What changes nothing is no variation.
    assert [point["label"] for point in axes] == ["open none", "window 64, chunk 64"]
    assert axes[0]["setting"] == NEAR | {"threshold": 0.5, "open_above": 0.03, "open": "none"}
    shipped = frontier.read_points(pathlib.Path(frontier.__file__).with_name("frontier_points.json"))
    assert set(shipped["presets"]) == {"accurate", "balanced", "fast"}
    covered = {axis for point in sum(frontier.expand(shipped, quick=False), []) for axis in point["setting"]}
    assert {"features", "threshold", "assign", "leaf", "open_above", "tile", "window", "chunk"} <= covered


def check_sweep(folder):
    points = {point["label"]: point for point in json.loads((folder / "frontier.json").read_text())["points"]}
    assert set(points) == {"open_above 0.03", "open_above 0.003", "leaf 16", "open none", "window 64, chunk 64"}
    assert points["leaf 16"]["perplexity_ratio"] == 1 and points["leaf 16"]["divergence"] == 0
    losses = [points[label]["divergence"] for label in ("open_above 0.003", "open_above 0.03", "open none")]
    assert 0 < losses[0] < losses[1] < losses[2], losses
    assert all(point["length"] == 256 and point["time_to_dense"] > 0 for point in points.values())
    assert (folder / "frontier.png").stat().st_size > 10_000
    assert "Best at their time" in (folder / "README.md").read_text()


def check_presets(folder):
    exact, lossy = json.loads((folder / "presets.json").read_text())["presets"]
    assert exact["windows"] == lossy["windows"] == len(exact["ratios"]) == len(lossy["ratios"]) == 3
    assert exact["upper_bound"] == exact["perplexity_ratio"] == 1 and exact["meets"]
    assert math.isclose(math.prod(lossy["ratios"]) ** (1 / 3), lossy["perplexity_ratio"])
    assert lossy["upper_bound"] > lossy["perplexity_ratio"] > 1.001 and not lossy["meets"]
    assert "MISSES IT" in (folder / "presets.md").read_text()


def main():
    if sys.argv[1] == "points":
        pathlib.Path(sys.argv[2]).write_text(json.dumps(POINTS))
        return
    check_arithmetic()
    check_sweep(pathlib.Path(sys.argv[1]))
    check_presets(pathlib.Path(sys.argv[1]))
    print("The frontier holds what it must")


if __name__ == "__main__":
    main()
