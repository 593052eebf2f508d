"""Prints a report as the README's table: a line per name, measure and peer, with the range over its cases."""
import argparse
import json
import pathlib

from harness.report import LABELS, MEASURES, meets_target, variant

UNITS = {"ratio": "{}x", "of_peak": "{} of peak", "of_bandwidth": "{} of bandwidth", "cost": "{}x", "exponent": "{}", "seconds": "{} s"}


def span(values):
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"


def line(label, peer, measure, cases):
    """One row: the cases of a name against one peer."""
    unit   = UNITS[measure].format
    target = cases[0]["target"]
    missed = sum(meets_target(case) is False for case in cases)
    shares = [case["of_peak"] for case in cases if case["of_peak"] is not None and measure == "ratio"]
    goal   = "" if target is None else ("at least " if MEASURES[measure] else "at most ") + f"{target:g}"
    if target is not None:
        goal += ", met" if not missed else f", missed in {missed} of {len(cases)}"
    cells = [label, peer or "", str(len(cases)), unit(span([case["value"] for case in cases])), goal,
             span(shares) if shares else ""]
    return "| " + " | ".join(cells) + " |"


def rows(entries):
    """(label, peer, measure, cases) by name, measure, variant, peer and target; peers without a target only where none
    has one."""
    for name, label in LABELS.items():
        named = [entry for entry in entries if entry["name"] == name]
        for measure, kind in dict.fromkeys((entry["measure"], variant(entry)) for entry in named):
            cases = [entry for entry in named if (entry["measure"], variant(entry)) == (measure, kind)]
            if any(case["target"] is not None for case in cases):
                cases = [case for case in cases if case["target"] is not None]
            what = label.split(", against")[0] + (f", {kind}" if kind else "")
            for peer, target in dict.fromkeys((case["peer_name"], case["target"]) for case in cases):
                yield what, peer, measure, [
                    case for case in cases if (case["peer_name"], case["target"]) == (peer, target)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", help="report.json")
    report = json.loads(pathlib.Path(parser.parse_args().report).read_text())

    machine, settings = report["machine"], report["settings"]
    print(f"{machine['cpu']}, {machine['compiler']}, one core: {machine['fma_flops'] / 1e9:.0f} GFLOP/s of FMA; "
          f"{settings['repetitions']} repetitions, both sides in turn.\n")
    print("| | against | cases | measured, median | target | share of peak |\n|---|---|---|---|---|---|")
    for row in rows(report["entries"]):
        print(line(*row))
    for gap in report["gaps"]:
        print(f"\nNot measured: {LABELS.get(gap['name'], gap['name'])} ({gap['reason']}).")


if __name__ == "__main__":
    main()
