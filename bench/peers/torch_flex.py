"""torch's flex_attention with a mask of blocks: attention that skips whole blocks of keys.

On a CPU it has a kernel of its own only under torch.compile, which needs a C++ compiler and takes half a minute for each
type and shape the first time. Without torch.compile it multiplies everything and masks afterwards."""
import os

import numpy as np

from peers import Missing
from peers.torch_sdpa import load

BLOCK = 128  # queries and keys

os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool of idle processes beside a measurement


def choose_blocks(q, k, share):
    """Which blocks each head computes, [heads, blocks, blocks]: of the blocks up to the diagonal, a row's first, its own
    and the one before, then those of the largest product of mean query and mean key, up to `share` of the row's."""
    tokens, heads, _ = q.shape
    blocks = tokens // BLOCK
    means = lambda x: x.reshape(blocks, BLOCK, *x.shape[1:]).mean(1)  # noqa: E731
    scores = np.einsum("ihd,jhd->hij", means(q), means(k).repeat(heads // k.shape[1], 1))
    rows, columns = np.indices((blocks, blocks))
    scores[:, (columns == 0) | (columns == rows) | (columns == rows - 1)] = np.inf
    scores[:, columns > rows] = -np.inf
    ranks = np.argsort(np.argsort(-scores, axis=-1, kind="stable"), axis=-1, kind="stable")
    counts = np.maximum(np.minimum(rows + 1, 3), np.ceil(share * (rows + 1)))
    return (ranks < counts) & (columns <= rows)


class Flex:
    """q, k, v [T, heads, dim], T a multiple of the block. The mask is made outside the time."""

    def __init__(self, q, k, v, share, threads=1):
        self._torch = load(threads)
        try:
            from torch.nn.attention.flex_attention import BlockMask, flex_attention
        except ImportError as error:
            raise Missing(f"flex_attention: {error}") from error
        self._tensors = [self._tensor(x) for x in (q, k, v)]
        chosen = choose_blocks(*(self._float(x) for x in self._tensors[:2]), share)
        blocks = chosen.shape[-1]
        self.share = float(chosen.sum() / len(chosen) / (blocks * (blocks + 1) / 2))  # of dense attention's blocks
        diagonal = np.broadcast_to(np.eye(blocks, dtype=bool), chosen.shape)
        self._mask = BlockMask.from_kv_blocks(*self._lists(diagonal), *self._lists(chosen & ~diagonal),
                                              BLOCK_SIZE=BLOCK, mask_mod=lambda b, h, query, key: query >= key,
                                              seq_lengths=(len(q), len(q)))
        self._attend = self._torch.compile(flex_attention, dynamic=False)
        try:
            self()
        except Exception as error:  # whatever the compiler in torch raises
            raise Missing(f"flex_attention: {type(error).__name__}: {str(error).splitlines()[0]}") from error

    def __call__(self):
        with self._torch.inference_mode():
            self.out = self._attend(*self._tensors, block_mask=self._mask, enable_gqa=True)

    def result(self):
        """[T, heads, dim] in float."""
        return self.out[0].permute(1, 0, 2).float().numpy()

    def _lists(self, blocks):
        """Of each row of blocks: how many, and which ones first."""
        order = np.argsort(~blocks, axis=-1, kind="stable").astype(np.int32)
        counts = blocks.sum(-1).astype(np.int32)
        return [self._torch.from_numpy(x).unsqueeze(0) for x in (counts, order)]

    @staticmethod
    def _float(tensor):
        return tensor[0].permute(1, 0, 2).float().numpy()

    def _tensor(self, x):
        tensor = self._torch.from_numpy(x)
        if x.dtype == np.uint16:
            tensor = tensor.view(self._torch.bfloat16)
        return tensor.permute(1, 0, 2).unsqueeze(0).contiguous()
