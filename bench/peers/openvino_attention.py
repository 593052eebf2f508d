"""OpenVINO's paged attention on the CPU: dense, of a whole prompt or of a step of decoding, and with XAttention
(arXiv:2503.16428), its sparse prefill: blocks of keys are kept by the sums along antidiagonals of a sampled score
matrix, until they hold a share of each row's mass.

openvino-genai sets it up for whole models; here the operator is called by itself, as that does it: the keys and values of
the tokens that ask go into a cache of pages first, which its time includes."""
import numpy as np

from harness.data import to_float
from peers import Missing

PAGE = 32  # tokens, what the CPU's kernel takes
BLOCK, STRIDE = 64, 8  # openvino-genai's defaults

# The operator's other inputs, none of which is used: constants without elements, but for three scalars.
UNUSED = {"sliding_window": np.int32(0), "alibi_slopes": np.empty(0, np.float32),
          "score_aggregation_window": np.empty(0, np.int32), "rotated_block_indices": np.empty(0, np.int32),
          "rotation_deltas": np.empty(0, np.int32), "rotation_trig_lut": np.empty(0, np.float32),
          "sinks": np.empty((0, 1, 1, 1), np.float32), "adaptive_rkv_start_size": np.int32(0),
          "adaptive_rkv_evictable_sizes": np.empty(0, np.int32), "adaptive_rkv_block_set": np.empty(0, np.int32),
          "adaptive_rkv_block_set_begins": np.empty(0, np.int32), "token_type_ids": np.empty(0, np.int32),
          "qq_bias": np.empty(0, np.uint8), "qq_bias_begins": np.empty(0, np.int32)}
ORDER = ["query", "key", "value", "key_cache.0", "value_cache.0", "past_lens", "subsequence_begins", "block_indices",
         "block_indices_begins", "scale", "sliding_window", "alibi_slopes", "max_context_len",
         "score_aggregation_window", "rotated_block_indices", "rotation_deltas", "rotation_trig_lut",
         "xattention_threshold", "xattention_block_size", "xattention_stride", "sinks", "adaptive_rkv_start_size",
         "adaptive_rkv_evictable_sizes", "adaptive_rkv_block_set", "adaptive_rkv_block_set_begins", "token_type_ids",
         "qq_bias", "qq_bias_begins"]


def _load():
    try:
        import openvino
        from openvino.op import _PagedAttentionExtension
    except (ImportError, OSError) as error:
        raise Missing(f"OpenVINO: {error}") from error
    return openvino, _PagedAttentionExtension


class PagedAttention:
    """q [queries, heads, dim], k and v [T, kv_heads, dim], T a multiple of the page. Queries are the last of the T tokens; the
    keys and values before theirs lie in the cache. Threshold None: dense attention."""

    share = None  # of dense attention's blocks: not told

    def __init__(self, q, k, v, threshold=None, threads=1):
        self._openvino, make_operator = _load()
        self._bf16 = q.dtype == np.uint16
        tokens, kv_heads, dim = k.shape
        past, pages = tokens - len(q), tokens // PAGE
        ints = lambda *values: np.array(values, np.int32)  # noqa: E731
        given = {"query": self._rows(q), "key": self._rows(k[past:]), "value": self._rows(v[past:]),
                 "key_cache.0": self._cache(k, past), "value_cache.0": self._cache(v, past),
                 "past_lens": ints(past), "subsequence_begins": ints(0, len(q)),
                 "block_indices": np.arange(pages, dtype=np.int32), "block_indices_begins": ints(0, pages),
                 "max_context_len": np.array(tokens, np.int32),
                 "xattention_threshold": np.array([] if threshold is None else [threshold], np.float32),
                 "xattention_block_size": np.array(BLOCK, np.int32), "xattention_stride": np.array(STRIDE, np.int32)}
        self._inputs = {name: x if isinstance(x, self._openvino.Tensor) else self._openvino.Tensor(x)
                        for name, x in given.items()}
        try:
            model = self._model(make_operator, kv_heads, dim)
            precision = "bf16" if self._bf16 else "f32"
            compiled = self._openvino.Core().compile_model(
                model, "CPU", {"INFERENCE_PRECISION_HINT": precision, "KV_CACHE_PRECISION": precision,
                               "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False})
            self._request = compiled.create_infer_request()
            for name, tensor in self._inputs.items():
                self._request.set_tensor(name, tensor)
            self()
        except RuntimeError as error:  # the operator is internal: another version may want other inputs
            raise Missing(f"OpenVINO: {str(error).strip().splitlines()[-1]}") from error
        self._shape = q.shape

    def __call__(self):
        self._request.infer()

    def result(self):
        """[queries, heads, dim] in float."""
        out = self._request.get_output_tensor(0).data.reshape(self._shape)
        return to_float(out.view(np.uint16)) if self._bf16 else out.copy()

    def _model(self, make_operator, kv_heads, dim):
        from openvino import opset13
        constants = {**UNUSED, "scale": np.float32(dim**-0.5)}
        parameters = {}
        for name, tensor in self._inputs.items():
            parameters[name] = opset13.parameter(list(tensor.shape), tensor.element_type, name=name)
            parameters[name].output(0).tensor.set_names({name})
        nodes = [parameters[name] if name in parameters else opset13.constant(constants[name]) for name in ORDER]
        operator = make_operator([node.output(0) for node in nodes])
        for what, value in (("k_head_size", dim), ("v_head_size", dim), ("num_k_heads", kv_heads),
                            ("num_v_heads", kv_heads)):
            operator.get_rt_info()[what] = value
        return self._openvino.Model([opset13.result(operator.output(0))], list(parameters.values()), "attention")

    def _rows(self, x):
        rows = np.ascontiguousarray(x.reshape(len(x), -1))
        if not self._bf16:
            return rows
        tensor = self._openvino.Tensor(self._type(), rows.shape)
        tensor.data.view(np.uint16)[:] = rows
        return tensor

    def _cache(self, rows, past):
        """Pages [heads, PAGE, dim] with the first `past` rows."""
        tokens, kv_heads, dim = rows.shape
        cache = self._openvino.Tensor(self._type(), [tokens // PAGE, kv_heads, PAGE, dim])
        if past > 0:
            data = cache.data.view(rows.dtype) if self._bf16 else cache.data
            data[:] = rows.reshape(-1, PAGE, kv_heads, dim).swapaxes(1, 2)
        return cache

    def _type(self):
        return self._openvino.Type.bf16 if self._bf16 else self._openvino.Type.f32
