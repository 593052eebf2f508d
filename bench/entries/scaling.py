"""Two threads against one, and time and memory over T."""
import ctypes
import os

import numpy as np

from harness.data import clustered_rows, random_qkv
from harness.library import CASCADE, FULL, Attention, Selection

TAU = 0.8
CLUSTERS = 256  # r of every length
HEADS, KV_HEADS, DIM, COLS = 3, 1, 64, 576  # one KV head of SmolLM2


def threads_attention(session):
    name = "threads_attention"
    T = 1024 if session.quick else 4096
    if not session.wants(name):
        return
    q, k, v = random_qkv(session.library, T, 9, 3, 64)
    out = np.empty_like(q)
    one, two = (Attention(session.library, keys="all", threads=threads) for threads in (1, 2))
    samples = session.interleaved({"ours": lambda: two(q, k, v, out), "1 thread": lambda: one(q, k, v, out)}, threads=2)
    session.entry(name, f"T={T}, 9/3 heads x 64", samples, peer="1 thread", peer_name="own, 1 thread", target=1.9,
                  threads=2, T=T, d=64, heads="9/3 x 64")


def threads_selection(session):
    name = "threads_selection"
    T = 1024 if session.quick else 4096
    if not session.wants(name):
        return
    before, now = (session.layers.residual(layer, T) for layer in (14, 15))
    first = Selection(session.library, FULL, TAU)
    first(before)

    def step(walk):
        walk.inherit(first)
        walk(now)

    for what, kind, run in (("full selection", FULL, lambda select: select(now)), ("cascade", CASCADE, step)):
        one, two = (Selection(session.library, kind, TAU, threads=threads) for threads in (1, 2))
        samples = session.interleaved({"ours": lambda: run(two), "1 thread": lambda: run(one)}, threads=2)
        session.entry(name, f"{what}, activations, T={T}", samples, peer="1 thread", peer_name="own, 1 thread",
                      target=1.6, threads=2, T=T, d=576, r=two.kept.count)


class Sequence:
    """Selection, one cascade step and near + far attention of T tokens in stable clusters. A cluster is one leaf
    whatever its size, so that their number does not grow with T."""

    def __init__(self, library, T):
        self.T, self._library = T, library
        self._before, self._now = (clustered_rows(library, T, COLS, CLUSTERS, layer, stray=0) for layer in (0, 1))
        self._q, self._k, self._v = random_qkv(library, T, HEADS, KV_HEADS, DIM)
        self._out = np.empty_like(self._q)
        self.make()

    def make(self):
        library = self._library
        self.full, self.walk = Selection(library, FULL, TAU), Selection(library, CASCADE, TAU)
        self.attend = Attention(library, keys="near_and_far", leaves="by_order", leaf=self.T)

    def __call__(self):
        self.full(self._before)
        self.walk.inherit(self.full)
        self.walk(self._now)
        self.attend(self._q, self._k, self._v, self._out, self.walk.kept)

    def memory(self):
        """Bytes of a first call beyond inputs and outputs: the most that was reserved, and what was really used."""
        self.full = self.walk = self.attend = None
        c = self._library.c
        c.bench_memory_reset_peak()
        held, resident = c.bench_memory_held(), resident_bytes()
        self.make()
        self()
        return c.bench_memory_peak() - held, resident_bytes() - resident


def resident_bytes():
    """Pages of this process in memory, with none that its heap no longer needs."""
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def exponents(lengths, values):
    """Slope of log value over log T; for values [lengths, repetitions], one of each repetition."""
    return np.atleast_1d(np.polyfit(np.log(lengths), np.log(values), 1)[0])


def over_length(session):
    if not session.wants("time_exponent", "peak_memory"):
        return
    lengths = [1024, 2048, 4096] if session.quick else [1024 << i for i in range(6)]
    sequences = {T: Sequence(session.library, T) for T in lengths}
    memory = [sequences[T].memory() for T in lengths]
    samples = session.interleaved({str(T): sequence for T, sequence in sequences.items()})
    longest = lengths[-1]
    case = f"stable clusters, T={lengths[0]}..{longest}, 3/1 heads x 64"
    r = sequences[longest].walk.kept.count
    shape = dict(ours=str(longest), T=longest, d=COLS, heads="3/1 x 64", r=r)
    session.entry("time_exponent", case, samples, measure="exponent", target=1.15,
                  values=exponents(lengths, [samples.seconds[str(T)] for T in lengths]),
                  series=[{"T": T, "seconds": float(np.median(samples.seconds[str(T)])),
                           "r": sequences[T].walk.kept.count} for T in lengths], **shape)
    session.entry("peak_memory", case, samples, measure="exponent",
                  values=exponents(lengths, [reserved for reserved, _ in memory]),
                  series=[{"T": T, "reserved_bytes": reserved, "resident_bytes": resident, "bytes_of_t_by_t": 4 * T * T}
                          for T, (reserved, resident) in zip(lengths, memory)], **shape)


ENTRIES = [threads_attention, threads_selection, over_length]
