"""Full selection: against the core's peak, and against a T x T Gram matrix and a scan."""
import numpy as np

from harness.data import clustered_rows, random_rows
from harness.library import FULL, Selection
from harness.session import require
from peers import blas

LAYERS = (5, 15, 25)  # early, middle and late; times are of all three together
TAU = 0.8


def of_peak(session):
    """Inner products evaluated, 2 d FLOP each, per second; by compiler."""
    name = "select_of_peak"
    if not session.wants(name):
        return
    T = 1024 if session.quick else 4096
    inputs = [("clusters", clustered_rows(session.library, T, d, T // 4)) for d in (576, 768, 4096)]
    inputs.insert(0, ("activations", session.layers.residual(15, T)))
    for library in (session.library, *session.other_libraries):
        for data, x in inputs:
            select = Selection(library, FULL, TAU, filter="none")
            samples = session.interleaved({"ours": lambda: select(x)})
            session.entry(name, f"{library.compiler}, {data}, d={x.shape[1]}", samples, measure="of_peak", target=0.8,
                          flops=2 * x.shape[1] * select.pairs_evaluated, T=T, d=x.shape[1], r=select.kept.count)
    for compiler in ("g++", "clang"):
        if not any(library.compiler.startswith(compiler) for library in (session.library, *session.other_libraries)):
            session.gap(name, f"no build by {compiler}")


def _gram_peers(session, name, T, d):
    """MKL's and OpenBLAS's two ways to the Gram matrix, by label."""
    found = {}
    for make in (blas.mkl, blas.openblas):
        peer = session.peer(name, make)
        if peer:
            for way in ("sgemm", "ssyrk"):
                multiply = getattr(peer, way)
                found[f"{peer.name} {way} + scan"] = blas.GramScan(session.library, multiply, T, d, TAU)
    return found


def _against_gram(session, name, case, inputs, target):
    """`inputs`: layers [T, d], done one after the other by each side. The target is against MKL's sgemm."""
    T, d = inputs[0].shape
    select = Selection(session.library, FULL, TAU)
    peers = _gram_peers(session, name, T, d)
    kept, pairs = [], 0
    for x in inputs:
        select(x)
        kept.append(select.kept.array("indices"))
        pairs += select.pairs_evaluated
        for label, peer in peers.items():
            peer(x)
            # Rounding may move a token whose cosine is tau itself.
            require(len(np.setxor1d(peer.indices, kept[-1])) <= 1 + len(kept[-1]) // 100, name, label)

    def all_layers(side):
        return lambda: [side(x) for x in inputs]

    samples = session.interleaved({"ours": all_layers(select), **{k: all_layers(p) for k, p in peers.items()}})
    for label in peers:
        session.entry(name, case, samples, peer=label, target=target if label.startswith("MKL sgemm") else None,
                      flops=2 * d * pairs, T=T, d=d, r=int(np.mean([len(indices) for indices in kept])))


def against_gram(session):
    for T, target in ((1024, 10), (4096, 20)):
        name = f"select_vs_gram_{T}"
        if session.wants(name) and session.lengths(name, T):
            _against_gram(session, name, f"activations, T={T}", [session.layers.residual(layer, T) for layer in LAYERS],
                          target)
    if session.wants("select_vs_gram_1024"):
        _against_gram(session, "select_vs_gram_1024", "random rows, r=T=1024",
                      [random_rows(session.library, 1024, 576)], None)


def _against_plain(session, name, case, inputs, tau, filter, target):
    """A prefilter against our own selection without one: the same sets, layer after layer."""
    T, d = inputs[0].shape
    plain, select = (Selection(session.library, FULL, tau, filter=kind) for kind in ("none", filter))
    counts = []
    for x in inputs:
        plain(x)
        select(x)
        require(np.array_equal(plain.kept.array("rep"), select.kept.array("rep")), name, case)
        counts.append(select.kept.count)
    samples = session.interleaved({"ours": lambda: [select(x) for x in inputs],
                                   "own, no estimates": lambda: [plain(x) for x in inputs]})
    session.entry(name, case, samples, peer="own, no estimates", target=target, T=T, d=d, r=int(np.mean(counts)))


def against_own(session):
    entries = (("select_bf16_prefilter", TAU, "bf16_tiles", 2), ("select_adaptive_tau09", 0.9, "automatic", 2.5))
    for name, tau, filter, target in entries:
        if not session.wants(name):
            continue
        if filter == "bf16_tiles" and not session.library.has_tiles:
            # Vectors of bfloat16 are what the target has instead, if anything.
            filter = "bf16_vectors"
        for T in session.lengths(name, 1024, 4096):
            layers = [session.layers.residual(layer, T) for layer in LAYERS]
            _against_plain(session, name, f"{filter}, activations, T={T}, tau {tau}", layers, tau, filter, target)
        T = session.lengths(name, 1024)[0]
        _against_plain(session, name, f"{filter}, random rows, r=T={T}", [random_rows(session.library, T, 576)], tau,
                       filter, None)


ENTRIES = [of_peak, against_gram, against_own]
