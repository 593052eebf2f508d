"""Cascada beside its peers: measures both sides in turn, writes report.json, prints the table. See run.sh."""
import argparse
import datetime
import importlib.metadata
import os
import pathlib
import platform
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # idle threads of one side must not slow the other

from entries import cascade, compiling, decode, dense, far_field, near_far, scaling, selection  # noqa: E402
from harness import report  # noqa: E402
from harness.data import Layers  # noqa: E402
from harness.library import Library  # noqa: E402
from harness.session import Disagreement, Session  # noqa: E402


def machine(library):
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    return {"cpu": model or platform.machine(), "cores": os.cpu_count(), "system": platform.platform(),
            "compiler": library.compiler}


def versions(*packages):
    """Of those that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found


def peaks(library):
    """The best of a few tries, of one core."""
    def best(loop):
        rates = []
        for _ in range(5):
            begin = time.process_time()
            done = loop()
            rates.append(done / (time.process_time() - begin))
        return max(rates)

    return {"fma_flops": best(lambda: library.c.bench_fma_loop(3_000_000)),
            "bf16_flops": best(lambda: library.c.bench_bf16_loop(3_000_000)),
            "stream_bytes_per_second": best(library.c.bench_triad)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", required=True, help="the shared library under test")
    parser.add_argument("--other-library", action="append", default=[], help="the same by another compiler")
    parser.add_argument("--layers", required=True, help="what cascada-dump-layers wrote")
    parser.add_argument("--output", required=True, help="the report")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", help="names of entries, separated by commas")
    arguments = parser.parse_args()

    only = [name for name in arguments.only.split(",") if name]
    if unknown := [name for name in only if name not in report.NAMES + report.MORE_NAMES]:
        print(f"compare.py: no entry is named {unknown[0]}; there are {', '.join(report.NAMES + report.MORE_NAMES)}",
              file=sys.stderr)
        sys.exit(2)
    begin = time.monotonic()
    library = Library(arguments.library)
    session = Session(library, [Library(path) for path in arguments.other_library], Layers(arguments.layers),
                      arguments.quick, only)
    disagreements = []
    for stage in (selection, cascade, dense, near_far, far_field, decode, scaling, compiling):
        print(f"==> {stage.__name__}", file=sys.stderr, flush=True)
        for measure in stage.ENTRIES:
            try:
                measure(session)
            except Disagreement as wrong:
                disagreements.append(f"{wrong.name}: {wrong}")
                session.gap(wrong.name, str(wrong))
    present = {part["name"] for part in session.entries + session.gaps}
    for name in report.NAMES:
        if name not in present:
            session.gap(name, "not asked for")

    result = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": {**machine(library), **peaks(library)},
        "peers": versions("mkl", "torch", "onnxruntime", "openvino", "ggml-python"),
        "settings": {"quick": arguments.quick, "repetitions": session.repetitions,
                     "seconds": round(time.monotonic() - begin, 1),
                     "times": "seconds per call, medians; CPU time of the process with one thread, else wall time"},
        "entries": session.entries,
        "gaps": session.gaps,
    }
    if wrong := report.faults(result):
        sys.exit("compare.py: the report is not well-formed:\n" + "\n".join(wrong))
    report.write(result, pathlib.Path(arguments.output))
    print(report.table(result))
    if disagreements:
        sys.exit("compare.py: " + "; ".join(disagreements))


if __name__ == "__main__":
    main()
