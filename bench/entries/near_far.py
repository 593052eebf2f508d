"""Near field + far field, with refinement and without, on a model's activations: one cascade step, the clusters'
summaries and attention, against dense attention of the same layer."""
import numpy as np

from harness.data import to_float
from harness.library import CASCADE, FULL, Attention, Selection
from entries.dense import same_output
from peers.torch_sdpa import Sdpa

LAYERS = (5, 15, 25)  # early, middle and late; times are of all three together
TAU, WINDOW, CHUNK, BUDGET, CANDIDATES = 0.8, 128, 128, 128, 4


class Layer:
    """One layer of SmolLM2: the set of the layer before, its rows, its q, k and v."""

    def __init__(self, session, layer, T, bf16):
        library = session.library
        self.rows = session.layers.residual(layer, T, bf16)
        self.q, self.k, self.v = session.layers.qkv(layer, T, bf16)
        self.out = np.empty_like(self.q)
        self._before = Selection(library, FULL, TAU, bf16)
        self._before(session.layers.residual(layer - 1, T, bf16))
        self.walk = Selection(library, CASCADE, TAU, bf16)

    def compressed(self, attend):
        self.walk.inherit(self._before)
        self.walk(self.rows)
        attend(self.q, self.k, self.v, self.out, self.walk.kept)

    def dense(self, attend):
        attend(self.q, self.k, self.v, self.out)


def flops(layer, budget):
    """Of the pairs that the compressed layer needs: Gram products, near field, clusters, candidates' scores, budget."""
    T, heads, dim = layer.q.shape
    kept = layer.walk.kept
    first_members = kept.array("indices")
    done = 2 * layer.rows.shape[1] * layer.walk.pairs_evaluated
    for begin in range(0, T, CHUNK):
        queries, near = min(CHUNK, T - begin), max(0, begin - WINDOW)
        if near <= budget:  # the budget covers the far field: dense
            near = 0
        exact = queries * (begin - near) + queries * (queries + 1) // 2
        clusters = int(np.searchsorted(first_members, near))
        scored, refined = min(budget * CANDIDATES, near), min(budget, near)
        done += heads * dim * (4 * exact + queries * (4 * (clusters + refined) + 2 * scored))
    return done


def _nearness(layer, peer):
    """Mean cosine between the outputs of a token: the two sides differ, since one of them is an approximation."""
    ours = (to_float(layer.out) if layer.out.dtype == np.uint16 else layer.out).reshape(layer.out.shape[0], -1)
    theirs = peer.result().reshape(ours.shape)
    return float(np.mean(np.sum(ours * theirs, 1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)))


def _measure(session, T, bf16, target):
    kind = "bf16" if bf16 else "f32"
    name, own = f"nearfar_{kind}_vs_sdpa_{T}", f"nearfar_{kind}_vs_own_dense_{T}"
    plain = f"nearfar_{kind}_unrefined_vs_sdpa_{T}"
    if not session.wants(name, own, plain) or not session.lengths(name, T):
        return
    def near_and_far(budget):
        return Attention(session.library, "near_and_far", window=WINDOW, chunk=CHUNK, budget=budget,
                         candidates=CANDIDATES, bf16=bf16)

    attend, unrefined = near_and_far(BUDGET), near_and_far(0)
    dense = Attention(session.library, "all", bf16=bf16)
    layers = [Layer(session, layer, T, bf16) for layer in LAYERS]
    peers = session.peer(name, lambda: [Sdpa(layer.q, layer.k, layer.v) for layer in layers])
    work, unrefined_work, nearness = 0, 0, []
    for i, layer in enumerate(layers):
        if peers:
            peers[i]()
            layer.dense(dense)
            same_output(layer.out, peers[i].result(), name, f"dense, layer {LAYERS[i]}")
        layer.compressed(attend)
        work += flops(layer, BUDGET)
        unrefined_work += flops(layer, 0)
        if peers:
            nearness.append(_nearness(layer, peers[i]))
    sides = {"ours": lambda: [layer.compressed(attend) for layer in layers],
             "unrefined": lambda: [layer.compressed(unrefined) for layer in layers],
             "own dense": lambda: [layer.dense(dense) for layer in layers]}
    if peers:
        sides["torch SDPA"] = lambda: [peer() for peer in peers]
    samples = session.interleaved(sides, bf16=bf16)
    case = f"T={T}, 9/3 heads x 64, layers {', '.join(map(str, LAYERS))}"
    series = [{"layer": layer, "cosine_to_dense": cosine} for layer, cosine in zip(LAYERS, nearness)]
    shape = dict(T=T, d=64, heads="9/3 x 64", r=int(np.mean([layer.walk.kept.count for layer in layers])))
    if peers:
        session.entry(name, case, samples, peer="torch SDPA", target=target, series=series, flops=work, **shape)
        session.entry(plain, case, samples, peer="torch SDPA", ours="unrefined", flops=unrefined_work, **shape)
    session.entry(own, case, samples, peer="own dense", flops=work, **shape)


def in_float(session):
    for T, target in ((4096, 2.5), (8192, 4)):
        _measure(session, T, False, target)


def in_bf16(session):
    for T, target in ((4096, 4), (8192, 7)):
        _measure(session, T, True, target)


ENTRIES = [in_float, in_bf16]
