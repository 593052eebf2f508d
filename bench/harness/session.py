"""One run: what is measured with what, and the entries and gaps that come of it."""
import sys

import numpy as np

from harness.measure import interleaved, spread
from peers import Missing


class Session:
    def __init__(self, library, other_libraries, layers, quick, only):
        self.library, self.other_libraries, self.layers = library, other_libraries, layers
        self.quick, self.only = quick, only
        self.repetitions = 3 if quick else 9
        self.entries, self.gaps = [], []

    def wants(self, *names):
        """Whether one of the names is asked for."""
        return not self.only or any(name in self.only for name in names)

    def gap(self, name, reason):
        gap = {"name": name, "reason": reason}
        if gap not in self.gaps:  # a peer that is missing is missed by every case
            self.gaps.append(gap)

    def lengths(self, name, *lengths, quick=1024):
        """Those that this run measures, of a quick one up to `quick`; where there is none, a gap."""
        chosen = [tokens for tokens in lengths if not self.quick or tokens <= quick]
        if not chosen:
            self.gap(name, "not part of --quick")
        return chosen

    def peer(self, name, make):
        """A peer, or None and a gap."""
        try:
            return make()
        except Missing as missing:
            self.gap(name, str(missing))
            return None

    def interleaved(self, sides, repetitions=None, **options):
        """`repetitions`: of a side that takes long, fewer than of others."""
        return interleaved(self.library, sides, min(repetitions or self.repetitions, self.repetitions), **options)

    def entry(self, name, case, samples, *, peer=None, peer_name=None, ours="ours", measure="ratio", values=None,
              flops=None, target=None, threads=1, T, d=None, heads=None, r=None, series=None):
        """`values`: one per repetition, of what `measure` names, where it is not the ratio or the share of peak. A case
        "variant: ..." has a row of its own in tables."""
        ratio = samples.ratio(peer, ours) if peer else None
        of_peak = samples.of_peak(flops, ours) if flops else None
        if values is None:
            values = {"ratio": ratio, "of_peak": of_peak}[measure]
        median = lambda x: None if x is None else float(np.median(x))  # noqa: E731
        entry = {
            "name": name, "case": case, "measure": measure, "value": median(values), "target": target,
            "ours": median(samples.seconds[ours]), "peer": median(samples.seconds[peer]) if peer else None,
            "peer_name": (peer_name or peer) if peer else None, "ratio": median(ratio), "of_peak": median(of_peak),
            "threads": threads, "T": T, "d": d, "heads": heads, "r": r, "repetitions": len(values),
            "spread": spread(values), "series": series,
        }
        if target is not None:
            entry["target"] = float(target)
        self.entries.append(entry)
        print(f"  {name} {case}: {measure} {entry['value']:.2f}", file=sys.stderr, flush=True)


class Disagreement(Exception):
    """Both sides must do the same job, or their times mean nothing."""

    def __init__(self, name, case):
        super().__init__(f"{case}: the two sides do not agree")
        self.name = name


def require(agree, name, case):
    if not agree:
        raise Disagreement(name, case)
