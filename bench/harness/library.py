"""The library under test, built as a shared library with C functions (bindings.cpp)."""
import ctypes
from ctypes import POINTER, byref, c_bool, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_uint, c_void_p
from dataclasses import dataclass

import numpy as np

FULL, LITERAL, CASCADE, PAPER = range(4)  # selection_kind of bindings.cpp
FILTERS = {"automatic": 0, "none": 1, "sketch": 2, "bf16_vectors": 3, "bf16_tiles": 4}
KEYS = {"all": 0, "representatives": 1, "near": 2, "near_and_far": 3}
QUERIES = {"all": 0, "representatives": 1, "grouped": 2}
LEAVES = {"by_order": 0, "by_keys": 1}
OPEN = {"none": 0, "by_mass": 1, "all": 2}
FEATURES = ("residual", "keys", "none")  # features of presets.hpp
ROWS = {np.dtype(np.float32): 0, np.dtype(np.uint16): 1, np.dtype(np.float16): 2}  # bfloat16 rows are held as their bits


class Kept(ctypes.Structure):
    """Representatives of one selection; its arrays live until that selection runs again."""
    _fields_ = [("indices", POINTER(c_int32)), ("rep", POINTER(c_int32)), ("counts", POINTER(c_int32)),
                ("tokens", c_int32), ("count", c_int32)]

    def array(self, name):
        """A copy of `indices`, `rep` or `counts`."""
        size = self.tokens if name == "rep" else self.count
        return np.ctypeslib.as_array(getattr(self, name), (size,)).copy()


class Setting(ctypes.Structure):
    """attention_options; moments 0: no correction."""
    _fields_ = ([(name, c_int) for name in ("keys", "queries", "causal", "window", "chunk", "sink_tokens", "leaves")]
                + [("leaf_threshold", c_float)] + [(name, c_int) for name in ("leaf", "moments", "open")]
                + [("open_above", c_float), ("tile", c_int)])


class NamedSetting(ctypes.Structure):
    _fields_ = [("name", c_char_p), ("features", c_int), ("threshold", c_float), ("attention", Setting)]


class Attended(ctypes.Structure):
    """attention_report."""
    _fields_ = ([(name, c_int64) for name in ("rows", "dense_keys", "near_keys", "leaves", "opened", "computed",
                                              "far_rows")] + [("mass", c_double)])

    @property
    def keys(self):
        """That kernels read, for each of a group's query heads."""
        return self.near_keys + self.leaves + self.computed

    @property
    def share_of_dense(self):
        return self.keys / self.dense_keys

    @property
    def closed_mass(self):
        return self.mass / self.far_rows if self.far_rows else 0.0


@dataclass
class Preset:
    name: str
    features: str
    threshold: float
    attention: Setting


SIGNATURES = {
    "cascada_pool": (c_void_p, [c_int]),
    "cascada_selection": (c_void_p, [c_int, c_int, c_float, c_int, c_void_p]),
    "cascada_selection_free": (None, [c_void_p]),
    "cascada_select": (c_int, [c_void_p, c_void_p] + [c_int32] * 3),
    "cascada_inherit": (c_int, [c_void_p, c_void_p]),
    "cascada_kept": (Kept, [c_void_p]),
    "cascada_pairs_evaluated": (c_int64, [c_void_p]),
    "cascada_pairs_rechecked": (c_int64, [c_void_p]),
    "cascada_gram_operations": (c_int64, [c_void_p]),
    "bench_setting": (Setting, [c_void_p]),
    "bench_preset": (NamedSetting, [c_int]),
    "cascada_attention": (c_void_p, [c_int, POINTER(Setting), c_void_p]),
    "cascada_attention_free": (None, [c_void_p]),
    "cascada_attend": (c_int, [c_void_p] * 4 + [c_int32] * 4 + [POINTER(Kept), c_int32, c_void_p]),
    "cascada_attended": (None, [c_void_p, POINTER(Attended)]),
    "bench_batch": (c_void_p, [c_int32] * 3),
    "bench_batch_free": (None, [c_void_p]),
    "bench_batch_add": (None, [c_void_p] * 4 + [c_int32] * 2),
    "bench_batch_read_prompts": (c_int, [c_void_p, c_void_p]),
    "bench_batch_way": (c_void_p, [c_void_p, c_int, c_void_p]),
    "bench_batch_way_free": (None, [c_void_p]),
    "bench_batch_step": (c_int, [c_void_p]),
    "bench_batch_results": (None, [c_void_p, c_void_p]),
    "bench_dense_step": (c_void_p, []),
    "bench_dense_step_free": (None, [c_void_p]),
    "bench_dense_step_run": (c_int, [c_void_p, c_int] + [c_void_p] * 3 + [c_int32] * 4 + [c_void_p]),
    "bench_leaves": (c_void_p, [c_int] + [c_int32] * 4),
    "bench_leaves_free": (None, [c_void_p]),
    "bench_leaves_assign": (None, [c_void_p, c_void_p, c_int32, c_void_p, c_float, c_void_p]),
    "bench_leaves_sum_up": (c_int32, [c_void_p, c_void_p, c_void_p, c_int32, c_void_p, c_int32]),
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
        self.presets = self._read_presets()
        self._pools = {}

    def _read_presets(self):
        found = []
        while (one := self.c.bench_preset(len(found))).name:
            found.append(Preset(one.name.decode(), FEATURES[one.features], one.threshold, one.attention))
        return found

    def pool(self, threads):
        """One pool per size, kept for the life of the process."""
        if threads not in self._pools:
            self._pools[threads] = self.c.cascada_pool(threads)
        return self._pools[threads]


def is_bf16(rows):
    return rows.dtype == np.uint16


def _check(answer, what):
    if answer != 0:
        raise RuntimeError(f"{what}: cascada::status {answer}")


class Selection:
    """A selector or a cascade; call it with rows [T, d], which may be columns of an array."""

    def __init__(self, library, kind, threshold=0.8, bf16=False, threads=1, filter="automatic"):
        self._c = library.c
        self._self = self._c.cascada_selection(kind, int(bf16), threshold, FILTERS[filter], library.pool(threads))

    def __call__(self, rows):
        stride = rows.strides[0] // rows.itemsize
        _check(self._c.cascada_select(self._self, rows.ctypes.data, *rows.shape, stride), "selection")

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
    """Call it with q [T, heads, dim], k and v [T, kv_heads, dim], out as q, and what selections kept: none, one, or one
    per KV head. Options are those of `setting`, or the library's defaults, changed by name."""

    def __init__(self, library, setting=None, rows=np.float32, threads=1, **changed):
        self._c = library.c
        given = setting if setting is not None else self._c.bench_setting(None)
        self.setting = Setting(*(getattr(given, name) for name, _ in Setting._fields_))
        words = {"keys": KEYS, "queries": QUERIES, "leaves": LEAVES, "open": OPEN}
        for name, value in changed.items():
            setattr(self.setting, name, words[name][value] if name in words else value)
        self._self = self._c.cascada_attention(ROWS[np.dtype(rows)], byref(self.setting), library.pool(threads))

    def __call__(self, q, k, v, out, *kept):
        tokens, heads, dim = q.shape
        _check(self._c.cascada_attend(self._self, q.ctypes.data, k.ctypes.data, v.ctypes.data, tokens, heads,
                                      k.shape[1], dim, (Kept * len(kept))(*kept), len(kept), out.ctypes.data),
               "attention")

    @property
    def report(self):
        found = Attended()
        self._c.cascada_attended(self._self, byref(found))
        return found

    def __del__(self):
        self._c.cascada_attention_free(self._self)


class Batch:
    """Sequences of bfloat16 rows that decode together. Their last `steps` tokens are decoded, over and over again."""

    KINDS = {"dense": 0, "in_turn": 1, "apart": 2}  # batch_kind of decode_bindings.cpp

    def __init__(self, library, steps, heads=9, kv_heads=3, dim=64):
        self.library, self._c, self._steps = library, library.c, steps
        self._width, self._sequences = heads * dim, 0
        self.handle = self._c.bench_batch(heads, kv_heads, dim)

    def add(self, q, k, v):
        """Rows [T, heads, dim] of one sequence, copied."""
        self._c.bench_batch_add(self.handle, q.ctypes.data, k.ctypes.data, v.ctypes.data, len(q), self._steps)
        self._sequences += 1

    def read_prompts(self):
        _check(self._c.bench_batch_read_prompts(self.handle, self.library.pool(2)), "prompts")

    def way(self, kind, threads):
        return _BatchWay(self, self.KINDS[kind], threads, (self._sequences, self._width))

    def __del__(self):
        self._c.bench_batch_free(self.handle)


class _BatchWay:
    def __init__(self, batch, kind, threads, shape):
        self._batch, self._c, self._shape = batch, batch.library.c, shape
        self._self = self._c.bench_batch_way(batch.handle, kind, batch.library.pool(threads))

    def __call__(self):
        _check(self._c.bench_batch_step(self._self), "a step of a batch")

    def results(self):
        out = np.empty(self._shape, np.float32)
        self._c.bench_batch_results(self._self, out.ctypes.data)
        return out

    def __del__(self):
        self._c.bench_batch_way_free(self._self)


class DenseStep:
    """Dense attention of one query [heads, dim] in float to k, v [T, kv_heads, dim] of 16 bits, on one thread."""

    def __init__(self, library, q, k, v):
        self._c, self._arrays, self._out = library.c, (q, k, v), np.empty_like(q)
        tokens, kv_heads, dim = k.shape
        self._self = self._c.bench_dense_step()
        self._call = (ROWS[k.dtype], q.ctypes.data, k.ctypes.data, v.ctypes.data, tokens, len(q), kv_heads, dim,
                      self._out.ctypes.data)

    def __call__(self):
        _check(self._c.bench_dense_step_run(self._self, *self._call), "a dense step")

    def result(self):
        return self._out.copy()

    def __del__(self):
        self._c.bench_dense_step_free(self._self)


class Leaves:
    """The steps that make the leaves of one KV head. Its k and v are [T, dim], columns of arrays of one shape."""

    def __init__(self, library, rows, leaf=16, moments=4):
        self._c = library.c
        tokens, dim = rows.shape
        self._stride = rows.strides[0] // rows.itemsize
        self._self = self._c.bench_leaves(ROWS[rows.dtype], tokens, dim, leaf, moments)
        self.chains = np.empty(tokens, np.int32)

    def assign(self, k, clusters, threshold):
        """The chain of each token, given its cluster's number."""
        self._c.bench_leaves_assign(self._self, k.ctypes.data, self._stride, clusters.ctypes.data, threshold,
                                    self.chains.ctypes.data)

    def sum_up(self, k, v, chunk=128):
        """Sums of the chains' leaves, a chunk more at a time. Returns how many leaves."""
        return self._c.bench_leaves_sum_up(self._self, k.ctypes.data, v.ctypes.data, self._stride,
                                           self.chains.ctypes.data, chunk)

    def __del__(self):
        self._c.bench_leaves_free(self._self)


def _kept(indices, rep, counts):
    arrays = [np.array(array, dtype=np.int32) for array in (indices, rep, counts)]
    kept = Kept(*(array.ctypes.data_as(POINTER(c_int32)) for array in arrays), len(rep), len(indices))
    kept.arrays = arrays  # a Structure keeps no reference to what it points to
    return kept


def every_token(tokens):
    """The selection that keeps every token."""
    every = np.arange(tokens)
    return _kept(every, every, np.ones(tokens))


def one_cluster(tokens):
    """The selection whose one cluster is all tokens."""
    return _kept([0], np.zeros(tokens), [tokens])
