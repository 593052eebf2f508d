"""Runs cascada-frontier over texts and lengths, a point once only, and draws loss against time. Called by
examples/frontier.sh."""
import argparse
import json
import math
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

import frontier_page

# One-sided 95 % quantiles of Student's t for 1, 2, .. degrees of freedom.
T95 = [6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812, 1.796, 1.782, 1.771, 1.761, 1.753, 1.746,
       1.740, 1.734, 1.729, 1.725, 1.721, 1.717, 1.714, 1.711, 1.708, 1.706, 1.703, 1.701, 1.699, 1.697]


def fail(sentence):
    print(f"frontier.py: {sentence}", file=sys.stderr)
    sys.exit(2)


def read_points(path):
    try:
        points = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        for group in ("families", "baselines", "presets"):
            for entry in points[group].values():
                entry["setting"].items()
        return points
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        fail(f"{path} is no list of families, baselines and presets, each with a setting ({error!r})")


def variations(base, axes):
    """`base` with one axis changed at a time: a value, or several settings that change together."""
    for axis, values in axes.items():
        for value in values:
            change = value if isinstance(value, dict) else {axis: value}
            if base | change != base:
                yield base | change, ", ".join(f"{key} {given}" for key, given in change.items())


def expand(points, quick):
    """Two stages, each a list of {role, family, label, setting}: curves with baselines, then the other axes."""
    stages = [[], []]
    for role, group in (("family", points["families"]), ("baseline", points["baselines"])):
        for name, family in group.items():
            for axis, values in family.get("curve", {}).items():
                for value in values[:2] if quick else values:
                    stages[0].append({"role": role, "family": name, "label": f"{axis} {value}",
                                      "value": value, "setting": family["setting"] | {axis: value}})
            if quick:
                continue
            axes = family.get("axes", {}) | (points.get("axes", {}) if name in points.get("axes_of", []) else {})
            first = {axis: values[0] for axis, values in family.get("curve", {}).items()}
            for setting, label in variations(family["setting"] | first, axes):
                stages[1].append({"role": "axis", "family": name, "label": label, "setting": setting})
    return stages


def preset_points(points):
    return [{"role": "preset", "family": name, "label": "", "setting": preset["setting"]}
            for name, preset in points["presets"].items()]


def without_name(setting):
    return {key: value for key, value in setting.items() if key != "name"}


class runs:
    """What was measured: a file of JSON lines for each text, length and first token."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.folder = pathlib.Path(arguments.output) / "runs"
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, text, length, skip):
        return self.folder / f"{text}-{length}-{skip}.jsonl"

    def done(self, text, length, skip):
        """Whole lines only: a run that was stopped may have left a part of one, which is cut off."""
        path = self.path(text, length, skip)
        if not path.exists():
            return []
        content = path.read_text(encoding="utf-8")
        whole = content[:content.rfind("\n") + 1]
        if whole != content:
            path.write_text(whole, encoding="utf-8")
        return [json.loads(line) for line in whole.splitlines()]

    def forget_changed_presets(self):
        """A preset is known by its name alone: what was measured goes where its values are others by now."""
        header = (pathlib.Path(__file__).parents[2] / "include/cascada/presets.hpp").read_text(encoding="utf-8")
        now = dict(re.findall(r"constexpr preset (\w+) = (\{.*?\});", header, re.S))
        record = self.folder / "presets.json"
        before = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
        changed = {name for name, values in now.items() if before.get(name) != values}
        for path in self.folder.glob("*.jsonl"):
            lines = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True)
                     if line.endswith("\n") and json.loads(line)["point"].get("preset") not in changed]
            path.write_text("".join(lines), encoding="utf-8")
        record.write_text(json.dumps(now), encoding="utf-8")

    def find(self, setting, text, length, skip):
        return next((run for run in self.done(text, length, skip) if without_name(run["point"]) == setting), None)

    def tokens(self, text):
        """The text's tokens in a file, and their number."""
        path = pathlib.Path(self.arguments.texts_folder) / f"{text}.{pathlib.Path(self.arguments.model).name}.tokens"
        source = pathlib.Path(self.arguments.texts_folder) / f"{text}.txt"
        if not path.exists() or path.stat().st_mtime < source.stat().st_mtime:
            tool = pathlib.Path(__file__).with_name("encode_text.py")
            run([sys.executable, tool, f"{self.arguments.model}/tokenizer.json", source, path])
        return path, len(path.read_text().split())

    def measure(self, points, text, length, skip):
        """Runs what is not there yet. False if there was nothing to do."""
        done = [without_name(run["point"]) for run in self.done(text, length, skip)]
        missing = []
        for point in points:
            if point["setting"] not in done + [without_name(other) for other in missing]:
                missing.append(point["setting"] | {"name": " ".join((point["family"], point["label"])).strip()})
        where = f"T = {length}, {text}" + (f" from token {skip}" if skip else "")
        print(f"==> {where}: {len(missing)} of {len(points)} points to run", file=sys.stderr)
        if not missing:
            return False
        tokens, count = self.tokens(text)
        if count < skip + length:
            fail(f"the text {text} has {count} tokens, fewer than {skip + length}")
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"points": missing}, file)
            file.flush()
            command = [self.arguments.program, "--model", self.arguments.model, "--tokens", tokens, "--points",
                       file.name, "--length", str(length), "--skip", str(skip), "--output",
                       self.path(text, length, skip)]
            run(command + (["--threads", self.arguments.threads] if self.arguments.threads else []))
        return True


def run(command):
    """The programs say themselves what is wrong; their exit code becomes ours."""
    code = subprocess.run(command, stdout=subprocess.DEVNULL).returncode
    if code != 0:
        sys.exit(code)


def machine(arguments):
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    return {"cpu": cpu, "cores": os.cpu_count(), "threads": arguments.threads or os.cpu_count()}


def mean_of(measured):
    """One point's runs on several texts or windows as one: losses are means of logarithms, times sums."""
    def mean(key):
        values = [one[key] for one in measured if one[key] is not None]
        return statistics.mean(values) if values else None
    keys = ("loss_above_dense", "divergence", "top1_agreement", "representatives_share", "savings", "jaccard",
            "share_of_dense_keys", "closed_mass")
    seconds = {key: sum(one[key] for one in measured)
               for key in ("selection_seconds", "attention_seconds", "dense_seconds")}
    return ({key: mean(key) for key in keys} | seconds | {
        "perplexity_ratio": math.exp(mean("loss_above_dense")),
        "time_to_dense": (seconds["selection_seconds"] + seconds["attention_seconds"]) / seconds["dense_seconds"]})


def collect(points, measured, lengths, names):
    """Points that ran on every text on which any ran, one record for each point and length."""
    out = []
    for length in lengths:
        ran = [name for name in names if measured.done(name, length, 0)]
        for point in points:
            found = [measured.find(point["setting"], name, length, 0) for name in ran]
            if found and None not in found:
                out.append(point | {"length": length, "texts": ran} | mean_of(found))
    return out


def lengths_of(arguments, otherwise):
    return [int(length) for length in (arguments.lengths or otherwise).split(",")]


def sweep(arguments, points):
    lengths = lengths_of(arguments, "1024" if arguments.quick else "2048,4096,8192")
    names = arguments.texts.split(",")
    stages = expand(points, arguments.quick)
    measured = runs(arguments)

    def publish():
        frontier_page.write(collect(sum(stages, []), measured, lengths, names), arguments, machine(arguments))
    for stage in stages:
        for length in lengths:
            for name in names:
                if stage and measured.measure(stage, name, length, 0):
                    publish()  # what is there so far
    publish()
    print(f"\nWritten: {arguments.output}/README.md, frontier.json, frontier.png")


def upper_bound(values):
    """One-sided 95 % bound of the mean, by Student's t."""
    spread = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values) + T95[min(len(values) - 1, len(T95)) - 1] * spread


def check_presets(arguments, points):
    lengths = lengths_of(arguments, "512" if arguments.quick else "8192")
    names = arguments.texts.split(",")
    if len(names) * int(arguments.windows) < 2:
        fail("a bound takes two windows at least")
    measured, rows = runs(arguments), []
    measured.forget_changed_presets()
    for length in lengths:
        windows = [(name, length, i * length) for name in names for i in range(int(arguments.windows))]
        for window in windows:
            measured.measure(preset_points(points), *window)
        for name, preset in points["presets"].items():
            found = [measured.find(preset["setting"], *window) for window in windows]
            bound = math.exp(upper_bound([one["loss_above_dense"] for one in found]))
            rows.append({"preset": name, "setting": preset["setting"], "length": length, "windows": len(windows),
                         "texts": names, "most": preset["most"], "upper_bound": bound,
                         "meets": bound <= 1 + preset["most"], "ratios": [math.exp(one["loss_above_dense"])
                                                                          for one in found]} | mean_of(found))
    frontier_page.write_presets(rows, arguments, machine(arguments))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("model", "program", "output", "command", "points", "texts", "texts-folder"):
        parser.add_argument(f"--{name}", required=True)
    for name, otherwise in (("lengths", None), ("threads", None), ("windows", "2")):
        parser.add_argument(f"--{name}", default=otherwise)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--presets", action="store_true")
    arguments = parser.parse_args()
    points = read_points(arguments.points)
    try:
        (check_presets if arguments.presets else sweep)(arguments, points)
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on from here.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
