"""onnxruntime's attention operators, each in a model of one node."""
import numpy as np

from peers import Missing


def _session(node_type, inputs, outputs, threads, **attributes):
    try:
        import onnx
        import onnxruntime
        from onnx import TensorProto, helper
    except (ImportError, OSError) as error:
        raise Missing(f"onnxruntime: {error}") from error
    types = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int32): TensorProto.INT32}
    value = lambda name, array: helper.make_tensor_value_info(name, types[array.dtype], array.shape)  # noqa: E731
    node = helper.make_node(node_type, list(inputs), list(outputs), domain="com.microsoft", **attributes)
    graph = helper.make_graph([node], node_type, [value(name, x) for name, x in inputs.items() if name],
                              [value(name, x) for name, x in outputs.items()])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17),
                                                                  helper.make_opsetid("com.microsoft", 1)])
    onnx.checker.check_model(model, full_check=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


class _Problem:
    def __init__(self, node_type, inputs, outputs, heads, threads, **attributes):
        self._session = _session(node_type, inputs, outputs, threads, **attributes)
        self._feed = {name: x for name, x in inputs.items() if name}
        self._heads = heads
        self.out = None

    def __call__(self):
        self.out = self._session.run(None, self._feed)

    def result(self):
        """[T, heads, dim]."""
        tokens = self.out[0].shape[1]
        return self.out[0].reshape(tokens, self._heads, -1)


def _rows(x):
    return x.reshape(1, x.shape[0], -1)


def multi_head(q, k, v, threads=1):
    """MultiHeadAttention, bidirectional; q, k, v [T, heads, dim]."""
    inputs = {"query": _rows(q), "key": _rows(k), "value": _rows(v)}
    return _Problem("MultiHeadAttention", inputs, {"output": _rows(q)}, q.shape[1], threads, num_heads=q.shape[1])


def grouped_query(q, k, v, threads=1):
    """GroupQueryAttention, causal, as a prompt: nothing past."""
    tokens, heads, dim = q.shape
    kv_heads = k.shape[1]
    past = np.empty((1, kv_heads, 0, dim), np.float32)
    present = np.empty((1, kv_heads, tokens, dim), np.float32)
    inputs = {"query": _rows(q), "key": _rows(k), "value": _rows(v), "past_key": past, "past_value": past,
              "seqlens_k": np.array([tokens - 1], np.int32), "total_sequence_length": np.array(tokens, np.int32)}
    return _Problem("GroupQueryAttention", inputs,
                    {"output": _rows(q), "present_key": present, "present_value": present}, heads, threads,
                    num_heads=heads, kv_num_heads=kv_heads)
