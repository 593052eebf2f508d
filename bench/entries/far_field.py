"""The parts of the far field, each by itself: scores of closed leaves, leaves' sums, assignment of keys to leaves."""
import numpy as np

from harness.chains import anchors_met
from harness.library import FULL, Attention, Leaves, Selection, one_cluster

LAYERS = (5, 15, 25)
KV_HEADS, DIM = 3, 64
QUICK = 2048  # tokens that a quick run has
ROWS = {"float": np.float32, "bf16": np.uint16, "f16": np.float16}


def cycles_a_score(session):
    """Time per score of a closed far field, its leaves' sums included, over that of dense attention. The near field is
    taken off by the time of a call that has no far field."""
    name = "far_field_cycles_a_score"
    if not session.wants(name):
        return
    T = QUICK if session.quick else 4096
    for label, rows in ROWS.items():
        q, k, v = session.layers.qkv(15, T, rows)
        out, kept = np.empty_like(q), one_cluster(T)
        dense = Attention(session.library, keys="all", rows=rows)
        near = Attention(session.library, keys="near", rows=rows)
        closed = Attention(session.library, keys="near_and_far", leaves="by_order", leaf=2, open="none", rows=rows)
        samples = session.interleaved({"ours": lambda: closed(q, k, v, out, kept), "near": lambda: near(q, k, v, out),
                                       "own dense": lambda: dense(q, k, v, out)}, bf16=label == "bf16")
        far = (samples.seconds["ours"] - samples.seconds["near"]) / closed.report.leaves
        session.entry(name, f"{label}: T={T}, 9/3 heads x 64, leaves of 2 tokens", samples, peer="own dense",
                      measure="cost", values=far / (samples.seconds["own dense"] / dense.report.near_keys), target=1.1,
                      T=T, d=DIM, heads="9/3 x 64", series=[{"scores": closed.report.leaves * 3}])


def key_value_heads(session, T, rows):
    """(k, v) [T, dim] of every KV head of the layers."""
    pairs = []
    for layer in LAYERS:
        _, k, v = session.layers.qkv(layer, T, rows)
        pairs += [(k[:, head], v[:, head]) for head in range(KV_HEADS)]
    return pairs


def sums(session):
    """Reads every key and value once and writes the means of every leaf once: that many bytes."""
    name = "summaries"
    if not session.wants(name):
        return
    T = QUICK if session.quick else 16384
    everything = np.zeros(T, np.int32)
    for label, rows in ROWS.items():
        pairs = key_value_heads(session, T, rows)
        builders = [Leaves(session.library, k) for k, _ in pairs]
        for formation in ("by keys", "by order"):
            leaves = 0
            for builder, (k, v) in zip(builders, pairs):
                if formation == "by keys":
                    builder.assign(k, everything, 0.7)
                else:
                    builder.chains[:] = 0
                leaves += builder.sum_up(k, v)
            samples = session.interleaved(
                {"ours": lambda: [builder.sum_up(k, v) for builder, (k, v) in zip(builders, pairs)]}, stream=True)
            moved = 2 * DIM * np.dtype(rows).itemsize * (T * len(pairs) + leaves)
            session.entry(name, f"{label} {formation}: T={T}, {len(pairs)} heads x {DIM}, leaves of 16", samples,
                          measure="of_bandwidth", values=samples.of_peak(moved), target=0.5, T=T, d=DIM,
                          r=leaves // len(pairs))


def cascade_clusters(session, layer, T):
    """Numbers of the clusters of a coarse selection of the residual stream."""
    select = Selection(session.library, FULL, 0.5)
    select(session.layers.residual(layer, T))
    return np.searchsorted(select.kept.array("indices"), select.kept.array("rep")).astype(np.int32)


def assignment(session):
    name = "leaf_assignment"
    if not session.wants(name):
        return
    T = QUICK if session.quick else 8192
    pairs = key_value_heads(session, T, np.float32)
    one = [np.zeros(T, np.int32)] * len(pairs)
    coarse = [clusters for layer in LAYERS for clusters in [cascade_clusters(session, layer, T)] * KV_HEADS]
    builders = [Leaves(session.library, k) for k, _ in pairs]
    for label, clusters in (("one cluster", one), ("clusters of the cascade", coarse)):
        def assign():
            for builder, (k, _), numbers in zip(builders, pairs, clusters):
                builder.assign(k, numbers, 0.7)

        assign()
        met = sum(anchors_met(numbers, builder.chains) for builder, numbers in zip(builders, clusters))
        samples = session.interleaved({"ours": assign})
        session.entry(name, f"{label}: float, T={T}, {len(pairs)} heads x {DIM}, threshold 0.7", samples,
                      measure="of_peak", target=0.5, flops=2 * DIM * met, T=T, d=DIM,
                      r=int(np.mean([builder.chains.max() + 1 for builder in builders])))


ENTRIES = [cycles_a_score, sums, assignment]
