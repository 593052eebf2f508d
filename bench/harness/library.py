"""The library under test, built as a shared library with C functions (bindings.cpp)."""
import ctypes
from ctypes import POINTER, byref, c_bool, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_uint, c_void_p

import numpy as np

FULL, LITERAL, CASCADE, PAPER = range(4)  # selection_kind of bindings.cpp
FILTERS = {"automatic": 0, "none": 1, "sketch": 2, "bf16_vectors": 3, "bf16_tiles": 4}
KEYS = {"all": 0, "representatives": 1, "near": 2, "near_and_far": 3}
QUERIES = {"all": 0, "representatives": 1, "grouped": 2}


class Kept(ctypes.Structure):
    """Representatives of one selection; its arrays live until that selection runs again."""
    _fields_ = [("indices", POINTER(c_int32)), ("rep", POINTER(c_int32)), ("counts", POINTER(c_int32)),
                ("tokens", c_int32), ("count", c_int32)]

    def array(self, name):
        """A copy of `indices`, `rep` or `counts`."""
        size = self.tokens if name == "rep" else self.count
        return np.ctypeslib.as_array(getattr(self, name), (size,)).copy()


SIGNATURES = {
    "cascada_pool": (c_void_p, [c_int]),
    "cascada_selection": (c_void_p, [c_int, c_bool, c_float, c_int, c_void_p]),
    "cascada_selection_free": (None, [c_void_p]),
    "cascada_select": (c_int, [c_void_p, c_void_p, c_int32, c_int32]),
    "cascada_inherit": (c_int, [c_void_p, c_void_p]),
    "cascada_kept": (Kept, [c_void_p]),
    "cascada_pairs_evaluated": (c_int64, [c_void_p]),
    "cascada_pairs_rechecked": (c_int64, [c_void_p]),
    "cascada_gram_operations": (c_int64, [c_void_p]),
    "cascada_attention": (c_void_p, [c_bool, c_int, c_int, c_bool] + [c_int32] * 4 + [c_void_p]),
    "cascada_attention_free": (None, [c_void_p]),
    "cascada_attend": (c_int, [c_void_p] * 4 + [c_int32] * 4 + [POINTER(Kept), c_void_p]),
    "bench_memory_held": (c_int64, []),
    "bench_memory_peak": (c_int64, []),
    "bench_memory_reset_peak": (None, []),
    "bench_has_tiles": (c_bool, []),
    "bench_compiler": (c_char_p, []),
    "bench_fma_loop": (c_double, [c_int64]),
    "bench_bf16_loop": (c_double, [c_int64]),
    "bench_triad": (c_double, []),
    "bench_random_rows": (None, [c_int32, c_int32, c_uint, c_void_p]),
    "bench_clustered_rows": (None, [c_int32] * 4 + [c_uint, c_uint, c_void_p]),
    "bench_normalize": (None, [c_void_p, c_int32, c_int32, c_void_p]),
    "bench_scan": (c_int32, [c_void_p, c_int32, c_float, c_void_p, c_void_p]),
}


class Library:
    def __init__(self, path):
        self.c = ctypes.CDLL(str(path), mode=ctypes.RTLD_LOCAL)
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(self.c, name)
            function.restype, function.argtypes = result, arguments
        self.compiler = self.c.bench_compiler().decode().split(" (")[0].strip()
        self.has_tiles = self.c.bench_has_tiles()  # matrix instructions for bfloat16
        self._pools = {}

    def pool(self, threads):
        """One pool per size, kept for the life of the process."""
        if threads not in self._pools:
            self._pools[threads] = self.c.cascada_pool(threads)
        return self._pools[threads]


def is_bf16(rows):
    """bfloat16 rows are held as their bits."""
    return rows.dtype == np.uint16


def _check(answer, what):
    if answer != 0:
        raise RuntimeError(f"{what}: cascada::status {answer}")


class Selection:
    """A selector or a cascade; call it with rows [T, d]."""

    def __init__(self, library, kind, threshold=0.8, bf16=False, threads=1, filter="automatic"):
        self._c = library.c
        self._self = self._c.cascada_selection(kind, bf16, threshold, FILTERS[filter], library.pool(threads))

    def __call__(self, rows):
        _check(self._c.cascada_select(self._self, rows.ctypes.data, *rows.shape), "selection")

    def inherit(self, other):
        _check(self._c.cascada_inherit(self._self, other._self), "inherit")

    @property
    def kept(self):
        return self._c.cascada_kept(self._self)

    @property
    def pairs_evaluated(self):
        return self._c.cascada_pairs_evaluated(self._self)

    @property
    def pairs_rechecked(self):
        return self._c.cascada_pairs_rechecked(self._self)

    def __del__(self):
        self._c.cascada_selection_free(self._self)


class Attention:
    """Call it with q [T, heads, dim], k and v [T, kv_heads, dim], out as q, and what a selection kept."""

    def __init__(self, library, keys, queries="all", causal=True, window=128, chunk=128, budget=0, candidates=4,
                 bf16=False, threads=1):
        self._c = library.c
        self._self = self._c.cascada_attention(bf16, KEYS[keys], QUERIES[queries], causal, window, chunk, budget,
                                               candidates, library.pool(threads))

    def __call__(self, q, k, v, out, kept=None):
        tokens, heads, dim = q.shape
        _check(self._c.cascada_attend(self._self, q.ctypes.data, k.ctypes.data, v.ctypes.data, tokens, heads,
                                      k.shape[1], dim, byref(kept) if kept else None, out.ctypes.data), "attention")

    def __del__(self):
        self._c.cascada_attention_free(self._self)


def every_token(tokens):
    """The selection that keeps every token, with the arrays behind it."""
    indices, ones = np.arange(tokens, dtype=np.int32), np.ones(tokens, dtype=np.int32)
    pointer = lambda array: array.ctypes.data_as(POINTER(c_int32))  # noqa: E731
    kept = Kept(pointer(indices), pointer(indices), pointer(ones), tokens, tokens)
    kept.arrays = indices, ones  # a Structure keeps no reference to what it points to
    return kept
