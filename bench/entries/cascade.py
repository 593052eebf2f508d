"""The exact cascade against full selection, both ours, over consecutive layers: that of all products in float, which the
targets are about, and the best one, which the cascade must never be slower than."""
import numpy as np

from harness.data import clustered_rows, random_rows
from harness.library import CASCADE, FULL, Selection
from harness.session import require

TAU = 0.8


def _against_full(session, name, case, inputs, target):
    """`inputs`: consecutive layers [T, d]. The set of the first is given; times are of all later ones together."""
    T, d = inputs[0].shape
    first, best, walk = (Selection(session.library, kind, TAU) for kind in (FULL, FULL, CASCADE))
    full = Selection(session.library, FULL, TAU, filter="none")
    first(inputs[0])

    def by_cascade():
        walk.inherit(first)
        for x in inputs[1:]:
            walk(x)

    def by(select):
        return lambda: [select(x) for x in inputs[1:]]

    counts = []
    walk.inherit(first)
    for x in inputs[1:]:
        walk(x)
        full(x)
        require(np.array_equal(walk.kept.array("indices"), full.kept.array("indices")), name, case)
        counts.append(full.kept.count)
    samples = session.interleaved({"ours": by_cascade, "own full selection, no estimates": by(full),
                                   "own best full selection": by(best)})
    shape = dict(T=T, d=d, r=int(np.mean(counts)))
    session.entry(name, case, samples, peer="own full selection, no estimates", target=target, **shape)
    session.entry(name, case, samples, peer="own best full selection", target=1, **shape)


def on_activations(session):
    layers = range(session.layers.count)
    for T, target in ((1024, 2), (4096, 3)):
        name = f"cascade_{T}"
        if session.wants(name) and session.lengths(name, T):
            _against_full(session, name, f"activations, T={T}, {len(layers) - 1} layers",
                          [session.layers.residual(layer, T) for layer in layers], target)


def on_synthetic_rows(session):
    name = "cascade_stable"
    if session.wants(name):
        for T in session.lengths(name, 1024, 4096):
            inputs = [clustered_rows(session.library, T, 576, T // 4, layer) for layer in range(4)]
            _against_full(session, name, f"stable clusters, T={T}, 3 layers", inputs, 4)
        # The worst case: nothing is covered, so nothing is inherited.
        inputs = [random_rows(session.library, 1024, 576, seed) for seed in (1, 2)]
        _against_full(session, name, "random rows, r=T=1024", inputs, None)


ENTRIES = [on_activations, on_synthetic_rows]
