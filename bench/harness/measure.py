"""Interleaved measurement: A B P A B P ..., so that whatever slows the machine slows every side.

P is a loop of multiply-adds in registers, the core's peak at that moment, or a stream through memory. With one thread a
time is CPU time of the whole process, which other programs do not lengthen and hidden threads cannot escape; with more
it is wall time.
"""
import time
from dataclasses import dataclass

import numpy as np

LEAST_SECONDS = 0.02  # of one sample: a shorter side is called several times
LONG_SECONDS = 0.1  # of a first call: even if later ones are faster, one of them is enough


@dataclass
class Samples:
    """Seconds per call, by side, one per repetition; peak in FLOP/s, or in bytes/s."""
    seconds: dict
    peak: np.ndarray

    def ratio(self, peer, ours="ours"):
        return self.seconds[peer] / self.seconds[ours]

    def of_peak(self, work, side="ours"):
        return work / self.seconds[side] / self.peak


def spread(values):
    """Interquartile range over the median."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return float((high - low) / middle)


class Stopwatch:
    def __init__(self, threads):
        self._clock = time.process_time if threads == 1 else time.perf_counter

    def __call__(self, function, calls=1):
        begin = self._clock()
        for _ in range(calls):
            function()
        return (self._clock() - begin) / calls


def _peak_loop(library, bf16, stream):
    """One round of P, which returns its work."""
    if stream:
        return library.c.bench_triad
    loop = library.c.bench_bf16_loop if bf16 else library.c.bench_fma_loop
    if loop(1) == 0:  # no bfloat16 instructions: their work is done in float
        loop = library.c.bench_fma_loop
    return lambda: loop(1_000_000)


def interleaved(library, sides, repetitions, threads=1, bf16=False, stream=False, warm=False):
    """Runs {name: function} in turn `repetitions` times, after a warm-up that also says how often to call each. `warm`:
    all of them have run before and take long."""
    watch, peak_loop = Stopwatch(threads), _peak_loop(library, bf16, stream)
    calls = {}
    for name, side in sides.items():
        once = LONG_SECONDS if warm else watch(side)
        calls[name] = 1 if once >= LONG_SECONDS else max(1, int(LEAST_SECONDS / max(watch(side), 1e-6)))
    seconds, peak = {name: [] for name in sides}, []
    for repetition in range(repetitions):
        order = list(sides) if repetition % 2 == 0 else list(reversed(sides))  # neither side always comes second
        for name in order:
            seconds[name].append(watch(sides[name], calls[name]))
        # Of one thread, whatever the entry's: shares of several threads' peak are not reported.
        work = [0.0]
        peak.append(1 / Stopwatch(1)(lambda: work.__setitem__(0, peak_loop())) * work[0])
    return Samples({name: np.array(values) for name, values in seconds.items()}, np.array(peak))
