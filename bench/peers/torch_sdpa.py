"""torch.nn.functional.scaled_dot_product_attention, causal."""
import time

import numpy as np

from peers import Missing


def load(threads=1):
    try:
        import torch
    except (ImportError, OSError) as error:
        raise Missing(f"torch: {error}") from error
    torch.set_num_threads(threads)
    return torch


class Sdpa:
    """One problem in the form that torch runs fastest: KV heads shared (enable_gqa) or repeated beforehand, whichever
    it does better here. Tensors are [1, heads, T, dim], contiguous, made outside the time."""

    _better = {}  # by shape: the place of the faster form

    def __init__(self, q, k, v, threads=1):
        torch = self._torch = load(threads)
        group = q.shape[1] // k.shape[1]
        shared = [self._tensor(x) for x in (q, k, v)]
        forms = [(shared, {"enable_gqa": True} if group > 1 else {})]
        if group > 1:
            forms.append(([shared[0]] + [x.repeat_interleave(group, 1) for x in shared[1:]], {}))
        attend = torch.nn.functional.scaled_dot_product_attention

        def of(tensors, options):
            def run():
                with torch.inference_mode():
                    self.out = attend(*tensors, is_causal=True, **options)
            return run

        runs = [of(*form) for form in forms]
        shape = (q.shape, k.shape, q.dtype)
        if shape not in self._better:
            self._better[shape] = min(range(len(runs)), key=lambda i: self._seconds(runs[i])) if len(runs) > 1 else 0
        self._run = runs[self._better[shape]]

    def __call__(self):
        self._run()

    def result(self):
        """[T, heads, dim] in float."""
        return self.out[0].permute(1, 0, 2).float().numpy()

    def _tensor(self, x):
        tensor = self._torch.from_numpy(x)
        if x.dtype == np.uint16:
            tensor = tensor.view(self._torch.bfloat16)
        return tensor.permute(1, 0, 2).unsqueeze(0).contiguous()

    @staticmethod
    def _seconds(run):
        run()
        begin = time.process_time()
        run()
        return time.process_time() - begin


class DecodeSdpa:
    """One query [heads, dim] in float to k, v [T, kv_heads, dim], bits of bfloat16. In the form that torch runs fastest:
    the heads of a KV group as the queries of one head (enable_gqa takes five times as long), keys and values
    [1, kv_heads, T, dim], contiguous. All made outside the time."""

    def __init__(self, q, k, v, threads=1):
        self._torch = load(threads)
        dim = q.shape[1]
        stored = lambda x: (self._torch.from_numpy(x).view(self._torch.bfloat16)  # noqa: E731
                            .permute(1, 0, 2).unsqueeze(0).contiguous())
        query = self._torch.from_numpy(q).to(self._torch.bfloat16).view(1, k.shape[1], -1, dim)
        self._tensors = query, stored(k), stored(v)
        self._shape = q.shape

    def __call__(self):
        with self._torch.inference_mode():
            self._out = self._torch.nn.functional.scaled_dot_product_attention(*self._tensors)

    def result(self):
        """[heads, dim] in float."""
        return self._out.float().numpy().reshape(self._shape)
