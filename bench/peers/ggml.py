"""ggml's flash attention on the CPU, one query: what llama.cpp decodes with. By way of ggml-python, which compiles ggml
for this machine. Keys and values stay where they are, rows of float16 or blocks of Q8_0 (32 bytes and a scale)."""
import ctypes
import sys

import numpy as np

from peers import Missing

BLOCK, BLOCK_BYTES = 32, 34


def _load():
    try:
        import ggml
    except Exception as error:  # what its loader raises differs
        raise Missing(f"ggml: {error}") from error
    return ggml


def q8_0(rows):
    """Rows [.., dim] as blocks of Q8_0, [.., bytes]."""
    ggml = _load()
    rows = np.ascontiguousarray(rows, np.float32)
    count, dim = rows.size // rows.shape[-1], rows.shape[-1]
    if dim % BLOCK:
        raise Missing(f"ggml: Q8_0 needs multiples of {BLOCK} columns")
    out = np.empty((*rows.shape[:-1], dim // BLOCK * BLOCK_BYTES), np.uint8)
    ggml.ggml_quantize_chunk(ggml.GGML_TYPE_Q8_0, rows.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
                             out.ctypes.data_as(ctypes.c_void_p), 0, count, dim, None)
    return out


class FlashAttention:
    """q [heads, dim] in float; k, v [T, kv_heads, dim] in float16, or Q8_0 as bytes. Made outside the time: the graph of
    one operator and its plan."""

    def __init__(self, q, k, v, threads=1):
        ggml = self._ggml = _load()
        self._arrays = q, k, v
        heads, dim = q.shape
        tokens, kv_heads = k.shape[:2]
        kind = ggml.GGML_TYPE_Q8_0 if k.dtype == np.uint8 else ggml.GGML_TYPE_F16
        self._context = ggml.ggml_init(ggml.ggml_init_params(mem_size=1 << 20, mem_buffer=None, no_alloc=True))
        tensors = [ggml.ggml_new_tensor_4d(self._context, ggml.GGML_TYPE_F32, dim, 1, heads, 1)]
        tensors[0].contents.data = q.ctypes.data
        for rows in (k, v):
            stored = ggml.ggml_new_tensor_4d(self._context, kind, dim, kv_heads, tokens, 1)
            stored.contents.data = rows.ctypes.data
            tensors.append(ggml.ggml_permute(self._context, stored, 0, 2, 1, 3))
        attended = ggml.ggml_flash_attn_ext(self._context, *tensors, None, dim**-0.5, 0.0, 0.0)
        self._out = np.empty((heads, dim), np.float32)
        attended.contents.data = self._out.ctypes.data
        self._graph = ggml.ggml_new_graph(self._context)
        ggml.ggml_build_forward_expand(self._graph, attended)
        self._plan = ggml.ggml_graph_plan(self._graph, threads, None)
        self._work = np.empty(max(1, self._plan.work_size), np.uint8)
        self._plan.work_data = ctypes.cast(self._work.ctypes.data, type(self._plan.work_data))

    def __call__(self):
        if self._ggml.ggml_graph_compute(self._graph, ctypes.byref(self._plan)) != 0:
            raise RuntimeError("ggml_graph_compute failed")

    def result(self):
        """[heads, dim]."""
        return self._out.copy()

    def __del__(self):
        if getattr(self, "_context", None) and not sys.is_finalizing():
            self._ggml.ggml_free(self._context)
