"""Decoding: a step of one sequence beside peers, and of a batch of ragged sequences, 2 threads against 1."""
import itertools

import numpy as np

from harness.data import random_rows, to_bf16, to_float
from harness.library import Batch, DenseStep
from harness.session import require
from peers import ggml
from peers.openvino_attention import PagedAttention
from peers.torch_sdpa import DecodeSdpa

FROM_MEMORY = 128 << 20  # bytes of keys and values that take turns: four times a last-level cache of 32 MiB
SHAPES = ((9, 3, 64), (32, 8, 128))
LAYERS = (5, 15, 25)  # of the model, whose rows a batch has
SEQUENCES, STEPS = 16, 256
OURS = 1e-5  # of the largest result: sums of 16384 products in float


class Layers:
    """Keys and values [T, kv_heads, dim] of layers that take turns, and one query [heads, dim]."""

    def __init__(self, library, T, heads, kv_heads, dim):
        k, v = (random_rows(library, T, kv_heads * dim, seed).reshape(T, kv_heads, dim) for seed in (1, 2))
        self.T, self.q = T, np.ascontiguousarray(random_rows(library, 1, heads * dim, 3).reshape(heads, dim))
        self.k, self.v = k, v
        self.count = max(2, FROM_MEMORY // (2 * k.size * 2))

    def copies(self, stored):
        """Layers of what `stored` makes of float rows."""
        pairs = [(stored(self.k), stored(self.v))]
        return pairs + [tuple(x.copy() for x in pairs[0]) for _ in range(self.count - 1)]

    def exact(self, k, v):
        """What the query gets of float rows, [heads, dim], in double."""
        kv_heads, dim = k.shape[1:]
        q = self.q.astype(np.float64).reshape(kv_heads, -1, dim)
        logits = np.einsum("hgd,thd->hgt", q, k.astype(np.float64)) / np.sqrt(dim)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        return np.einsum("hgt,thd->hgd", weights, v.astype(np.float64)).reshape(self.q.shape)


def _in_turn(sides):
    """One side after the other, a layer each."""
    turn = itertools.cycle(sides)
    return lambda: next(turn)()


def _one_query(session, name, make_sides, bf16, target):
    """`make_sides(layers)`: ours, the rows that it reads as floats, and a side by name of peer, each of all layers, with
    how far it may be from what is exact."""
    for (heads, kv_heads, dim), T in itertools.product(SHAPES, session.lengths(name, 4096, 16384, quick=4096)):
        layers = Layers(session.library, T, heads, kv_heads, dim)
        case = f"T={T}, {heads}/{kv_heads} heads x {dim}"
        made = session.peer(name, lambda: make_sides(layers))  # noqa: B023
        if not made:
            return
        ours, rows, peers = made
        exact = layers.exact(*rows)
        for side, (sides, tolerance) in {"ours": (ours, OURS), **peers}.items():
            sides[0]()
            off = np.abs(sides[0].result() - exact).max() / np.abs(exact).max()
            require(off <= tolerance, name, f"{case}, {side}: off by {off:.2g}")
        samples = session.interleaved({"ours": _in_turn(ours),
                                       **{peer: _in_turn(sides) for peer, (sides, _) in peers.items()}}, bf16=bf16)
        for peer in peers:
            session.entry(name, f"{peer}: {case}", samples, peer=peer, target=target, T=T, d=dim,
                          heads=f"{heads}/{kv_heads} x {dim}")


def against_ggml(session):
    """Ours reads float16 rows; ggml the same, and blocks of 8 bits, which are half as many bytes. ggml rounds queries to
    float16, and sums float16 values in float16: an error that grows with the number of terms, 0.014 of the largest
    result at 4096 tokens, 0.036 at 16384."""
    name = "decode_dense_vs_ggml"

    def sides(layers):
        halves = layers.copies(lambda x: x.astype(np.float16))
        eighths = layers.copies(ggml.q8_0)
        return ([DenseStep(session.library, layers.q, k, v) for k, v in halves], halves[0],
                {"ggml, float16": ([ggml.FlashAttention(layers.q, k, v) for k, v in halves], 2e-2 * layers.T / 4096),
                 "ggml, Q8_0": ([ggml.FlashAttention(layers.q, k, v) for k, v in eighths], 5e-2)})

    if session.wants(name):
        _one_query(session, name, sides, False, None)


def against_torch(session):
    """bfloat16 rows on both sides; ours has a query of float."""
    name = "decode_dense_vs_sdpa"

    def sides(layers):
        pairs = layers.copies(to_bf16)
        return ([DenseStep(session.library, layers.q, k, v) for k, v in pairs], [to_float(x) for x in pairs[0]],
                {"torch SDPA": ([DecodeSdpa(layers.q, k, v) for k, v in pairs], 2e-2)})

    if session.wants(name):
        _one_query(session, name, sides, True, 1.2)


def against_openvino(session):
    """bfloat16 rows on both sides; ours has a query of float. OpenVINO's lie in pages, head by head, and a step puts its
    token's own into them first."""
    name = "decode_dense_vs_openvino"

    def sides(layers):
        pairs, q = layers.copies(to_bf16), to_bf16(layers.q)[None]
        return ([DenseStep(session.library, layers.q, k, v) for k, v in pairs], [to_float(x) for x in pairs[0]],
                {"OpenVINO paged attention": ([PagedAttention(q, k, v) for k, v in pairs], 2e-2)})

    if session.wants(name):
        _one_query(session, name, sides, True, None)


def batch(session):
    """Sequences of 1024 to 8192 tokens, rows of a model, each a step further with every call."""
    name = "batch_decode"
    if not session.wants(name):
        return
    longest = 2048 if session.quick else 8192
    lengths = [1024 + (longest - 1024) * (i * 7 % SEQUENCES) // (SEQUENCES - 1) for i in range(SEQUENCES)]
    sequences = Batch(session.library, STEPS)
    for i, tokens in enumerate(lengths):
        sequences.add(*session.layers.qkv(LAYERS[i % len(LAYERS)], tokens, np.uint16))
    sequences.read_prompts()
    for kind, what in (("dense", "dense, one call"), ("in_turn", "balanced by keys, one after the other"),
                       ("apart", "balanced by keys, a sequence a thread")):
        two, one = (sequences.way(kind, threads) for threads in (2, 1))
        two(), one()
        require(np.array_equal(two.results(), one.results()), name, what)
        samples = session.interleaved({"ours": two, "1 thread": one}, threads=2)
        session.entry(name, f"{what}: bf16, {SEQUENCES} sequences of {min(lengths)} to {max(lengths)} tokens", samples,
                      peer="1 thread", peer_name="own, 1 thread", target=1.8, threads=2, T=max(lengths), d=64,
                      heads="9/3 x 64")


ENTRIES = [against_torch, against_ggml, against_openvino, batch]
