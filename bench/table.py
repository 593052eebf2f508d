"""Prints a report as the README's table: a line per name and measure, with the range over its cases."""
import argparse
import json
import pathlib

from harness.report import LABELS, MEASURES, meets_target

UNITS = {"ratio": "{}x", "of_peak": "{} of peak", "exponent": "{}"}


def span(values):
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"


def line(label, measure, cases):
    """One row; where cases have targets of their own, all of them."""
    unit    = UNITS[measure].format
    targets = sorted({case["target"] for case in cases if case["target"] is not None})
    missed  = sum(meets_target(case) is False for case in cases)
    shares  = [case["of_peak"] for case in cases if case["of_peak"] is not None and measure == "ratio"]
    goal    = ("at least " if MEASURES[measure] else "at most ") + ", ".join(f"{target:g}" for target in targets)
    verdict = "" if not targets else "met" if not missed else f"missed in {missed} of {len(cases)}"
    cells   = [label, str(len(cases)), unit(span([case["value"] for case in cases])), goal if targets else "",
               verdict, span(shares) if shares else ""]
    return "| " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", help="report.json")
    report = json.loads(pathlib.Path(parser.parse_args().report).read_text())

    machine, settings = report["machine"], report["settings"]
    print(f"{machine['cpu']}, {machine['compiler']}, one core: {machine['fma_flops'] / 1e9:.0f} GFLOP/s of FMA; "
          f"{settings['repetitions']} repetitions, both sides in turn.\n")
    print("| | cases | measured, median | target | | share of peak |\n|---|---|---|---|---|---|")
    for name, label in LABELS.items():
        for measure in MEASURES:
            cases = [entry for entry in report["entries"] if (entry["name"], entry["measure"]) == (name, measure)]
            if cases:
                print(line(label, measure, cases))
    for gap in report["gaps"]:
        print(f"\nNot measured: {LABELS.get(gap['name'], gap['name'])} ({gap['reason']}).")


if __name__ == "__main__":
    main()
