#!/usr/bin/env python3
"""device_report.py FOLDER: what run_on_device.sh has left there, as one JSON object on standard output.

Times stand beside those of model.py, which counts neither launches nor latencies. Exit code: 0 if every test ran and
passed, else 1.
"""

import json
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import model  # noqa: E402

# What a call is held against: columns of the rooflines, added up.
parts = {"full selection": ["graph", "advance, all launches"], "cascade step": ["graph", "advance, all launches"],
         "step of paper mode": ["graph", "advance, all launches", "cross-Gram of paper mode"],
         "dense attention": ["dense attention"], "dense decoding": ["dense decoding"],
         "near + far": ["near + far: attend", "near + far: tables"],
         "near + far by keys": ["near + far: attend", "near + far: tables", "by keys: chains"]}


def tests_of(path):
    """{case: failures} of a JUnit report; sections of a case together."""
    cases = {}
    for case in xml.parse(path).getroot().iter("testcase"):
        cases[case.get("name")] = cases.get(case.get("name"), 0) + len(case.findall("failure")) + len(case.findall("error"))
    return cases


def entry_of(measured):
    """A line of times, with the model's times and how many times as long the chip took."""
    roofline = model.roofline(measured["model"], measured["tokens"])
    calls = {}
    for call, columns in parts.items():
        modelled = sum(roofline[column] for column in columns)
        calls[call] = {"microseconds": measured[call], "model": round(modelled, 1),
                       "of_model": round(measured[call] / modelled, 2)}
    return {"model": measured["model"], "tokens": measured["tokens"],
            "share": measured["representatives"] / measured["tokens"], "calls": calls}


def main():
    folder = Path(sys.argv[1])
    device, *times = [json.loads(line) for line in (folder / "times.jsonl").read_text().splitlines()]
    programs = {}
    for path in sorted(folder.glob("*.status")):
        report = folder / f"{path.stem}.xml"
        programs[path.stem] = {"exit": int(path.read_text()),
                               "output": (folder / f"{path.stem}.txt").read_text(errors="replace").splitlines()[-200:],
                               "cases": tests_of(report) if report.exists() and report.stat().st_size else {}}
    passed = bool(programs) and all(program["exit"] == 0 for program in programs.values())
    print(json.dumps({"device": device, "compiler": (folder / "compiler.txt").read_text().strip(), "passed": passed,
                      "programs": programs, "times": [entry_of(line) for line in times]}, indent=1))
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
