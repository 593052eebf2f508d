"""Near field + far field on a model's activations: one cascade step or none, leaves, their sums, opening and attention,
against dense attention of the same layers. By preset, with clusters from the cascade and from keys alone."""
import numpy as np

from harness.data import to_float
from harness.library import CASCADE, FULL, Attention, Selection, one_cluster
from harness.session import require
from entries.dense import same_output
from peers.openvino_attention import PagedAttention
from peers.torch_flex import Flex
from peers.torch_sdpa import Sdpa

LAYERS = (5, 15, 25)  # early, middle and late; times are of all of them together
LONGEST, LONGEST_LAYERS = 16384, (15,)  # beyond the model's context: only time counts
QUICK = 2048  # tokens, the shortest
REPETITIONS = {2048: 9, 4096: 9, 8192: 4, LONGEST: 3}
BY = {"residual": "by cascade", "keys": "by cascade of keys", "none": "by keys"}
SPARSE = {  # peers that leave out blocks of keys: what the names of their entries have
    "torch flex_attention": "flex",
    "OpenVINO XAttention, threshold 0.8": "xattention",  # its default
    "OpenVINO XAttention, threshold 0.95": "xattention",  # nearer to our error
}
ROWS = {"f32": np.float32, "bf16": np.uint16}


def goals(session, kind):
    """{T: at least so many times as fast as own dense attention}, of `balanced`; then of `accurate` at T = 8192, and of
    `balanced` against torch."""
    lengths = (2048, 4096, 8192, LONGEST)
    if kind == "f32":
        return dict(zip(lengths, (1.2, 2, 3, 4.5))), 2.5, 4
    if session.library.has_tiles:  # torch has them too
        return dict(zip(lengths, (1, 1.3, 2, 3))), 2.2, None
    return dict(zip(lengths, (1.1, 1.8, 2.8, 4))), 2.2, 7


class Layer:
    """One layer of SmolLM2: its rows, those of the layer before, its q, k and v."""

    def __init__(self, session, layer, T, rows):
        self.library, self._layers, self.layer, self._rows = session.library, session.layers, layer, rows
        self.q, self.k, self.v = session.layers.qkv(layer, T, rows)
        self.out = np.empty_like(self.q)
        self.everything = one_cluster(T)
        self._features = {}

    def features(self, which):
        """What selects the clusters: for each selection, the rows of the layer before and of this one."""
        if which not in self._features:
            T, bf16 = len(self.q), self._rows == np.uint16
            if which == "residual":
                pairs = [[self._layers.residual(layer, T, bf16) for layer in (self.layer - 1, self.layer)]]
            elif which == "keys":
                before = self._layers.qkv(self.layer - 1, T, self._rows)[1]
                pairs = [[before[:, head], self.k[:, head]] for head in range(self.k.shape[1])]
            else:
                pairs = []
            self._features[which] = pairs
        return self._features[which]

    def dense(self, attend):
        attend(self.q, self.k, self.v, self.out)

    def output(self):
        """[T, heads x dim] in float."""
        out = to_float(self.out) if self.out.dtype == np.uint16 else self.out
        return out.reshape(len(out), -1).copy()


class Compressed:
    """A preset at work on a layer. `attend` may serve several layers, one after the other."""

    def __init__(self, layer, preset, attend, threads=1):
        self.layer, self._attend = layer, attend
        self._steps = []
        for before, now in layer.features(preset.features):
            first, walk = (Selection(layer.library, kind, preset.threshold, now.dtype == np.uint16, threads)
                           for kind in (FULL, CASCADE))
            first(before)
            self._steps.append((first, walk, now))

    def __call__(self):
        for first, walk, now in self._steps:
            walk.inherit(first)
            walk(now)
        layer = self.layer
        kept = [walk.kept for _, walk, _ in self._steps] or [layer.everything]
        self._attend(layer.q, layer.k, layer.v, layer.out, *kept)

    @property
    def clusters(self):
        return int(np.mean([walk.kept.count for _, walk, _ in self._steps])) if self._steps else 1

    def flops(self, report):
        """Of Gram products and of the keys that kernels read. Assignment of keys to leaves is not counted."""
        heads, dim = self.layer.q.shape[1:]
        gram = sum(2 * now.shape[1] * walk.pairs_evaluated for _, walk, now in self._steps)
        return gram + 4 * dim * report.keys * heads // self.layer.k.shape[1]


class PresetRun:
    """A preset on several layers, and what their reports say."""

    def __init__(self, session, preset, layers, rows, threads=1):
        self.preset = preset
        self.attend = Attention(session.library, preset.attention, rows, threads)
        self.layers = [Compressed(layer, preset, self.attend, threads) for layer in layers]
        self.label = f"{preset.name} {BY[preset.features]}"

    def __call__(self):
        for layer in self.layers:
            layer()

    def look(self, dense_outputs):
        """Runs once; keeps the share of dense attention's keys and the FLOP of all layers, and of each layer a record
        with the mean cosine of its outputs to those of dense attention."""
        self.series, self.flops, keys, dense_keys = [], 0, 0, 0
        for run, dense in zip(self.layers, dense_outputs):
            run()
            report = self.attend.report
            keys, dense_keys = keys + report.keys, dense_keys + report.dense_keys
            self.flops += run.flops(report)
            self.series.append({"layer": run.layer.layer, "clusters": run.clusters,
                                "share_of_dense": report.share_of_dense, "closed_mass": report.closed_mass,
                                "opened_keys_of_computed": report.opened / max(1, report.computed),
                                "cosine_to_dense": nearness(run.layer.output(), dense)})
        self.share = keys / dense_keys


def nearness(ours, theirs):
    """Mean cosine between the outputs of a token."""
    return float(np.mean(np.sum(ours * theirs, 1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)))


def dense_outputs(layers, dense, peers, name):
    """Of our own dense attention, which must agree with the peers."""
    outputs = []
    for i, layer in enumerate(layers):
        layer.dense(dense)
        if peers:
            peers[i]()
            same_output(layer.out, peers[i].result(), name, f"dense, layer {layer.layer}")
        outputs.append(layer.output())
    return outputs


def targets(runs, samples, goal, peer):
    """By label: the goal of a preset is for the faster of its forms; each other's is 0.8 over its share of keys."""
    fastest = min(runs, key=lambda run: np.median(samples.seconds[run.label]))
    return {run.label: goal if run is fastest or goal is None else round(0.8 / run.share, 2) for run in runs}


class Comparison:
    """All sides at one length and type of rows, measured together."""

    def __init__(self, session, kind, T):
        self.session, self.kind, self.T = session, kind, T
        self.own, self.accurate = f"nearfar_{kind}_vs_own_dense_{T}", f"nearfar_accurate_vs_own_dense_{T}"
        self.sdpa = f"nearfar_{kind}_vs_sdpa_{T}"
        self.sparse = {side: f"nearfar_{kind}_vs_{short}_{T}" for side, short in SPARSE.items()}
        self.layers = [Layer(session, layer, T, ROWS[kind]) for layer in (LAYERS if T < LONGEST else LONGEST_LAYERS)]
        self.case = f"T={T}, 9/3 heads x 64, layers {', '.join(str(layer.layer) for layer in self.layers)}"
        self.runs = [PresetRun(session, preset, self.layers, ROWS[kind]) for preset in session.library.presets
                     if T < LONGEST or preset.name == "balanced"]

    def of(self, *names):
        return [run for run in self.runs if run.preset.name in names]

    def measure(self, with_peers):
        session, layers = self.session, self.layers
        dense = Attention(session.library, keys="all", rows=ROWS[self.kind])
        sdpa = with_peers and session.wants(self.sdpa) and session.peer(
            self.sdpa, lambda: [Sdpa(layer.q, layer.k, layer.v) for layer in layers])
        outputs = dense_outputs(layers, dense, sdpa, self.sdpa)
        for run in self.runs:
            run.look(outputs)
        sides = {run.label: run for run in self.runs}
        sides["own dense"] = lambda: [layer.dense(dense) for layer in layers]
        if sdpa:
            sides["torch SDPA"] = lambda: [peer() for peer in sdpa]
        self.sparse_series = {}
        if with_peers:
            self.add_sparse_peers(sides, outputs)
        return session.interleaved(sides, REPETITIONS[self.T], bf16=self.kind == "bf16", warm=self.T >= 8192)

    def add_sparse_peers(self, sides, outputs):
        """flex_attention with as many blocks as the sparser form of `balanced` reads keys; XAttention with its own
        choice."""
        shares = [min(form[i]["share_of_dense"] for form in (run.series for run in self.of("balanced")))
                  for i in range(len(self.layers))]
        qkv = [(layer.q, layer.k, layer.v) for layer in self.layers]
        flex, usual, careful = SPARSE
        whole = {flex: lambda: Flex(*qkv[0], 1), usual: lambda: PagedAttention(*qkv[0])}
        makers = {flex: lambda: [Flex(*one, share) for one, share in zip(qkv, shares)],
                  usual: lambda: [PagedAttention(*one, 0.8) for one in qkv],
                  careful: lambda: [PagedAttention(*one, 0.95) for one in qkv]}
        for side, make in makers.items():
            peers = self.session.wants(self.sparse[side]) and self.session.peer(self.sparse[side], make)
            if not peers:
                continue
            if side in whole:  # that it computes the same where it leaves out nothing
                require(nearness(whole[side]().result().reshape(outputs[0].shape), outputs[0]) > 0.9999,
                        self.sparse[side], side)
            records = self.sparse_series[side] = []
            for layer, peer, dense in zip(self.layers, peers, outputs):
                peer()
                records.append({"layer": layer.layer, "share_of_dense": peer.share,
                                "cosine_to_dense": nearness(peer.result().reshape(dense.shape), dense)})
            sides[side] = lambda peers=peers: [peer() for peer in peers]

    def entry(self, name, samples, run, peer, target, series=None):
        rows = f"{self.kind}, " if name == self.accurate else ""  # other names say it
        self.session.entry(name, f"{rows}{run.label}: {self.case}", samples, peer=peer, ours=run.label, target=target,
                           flops=run.flops, T=self.T, d=64, heads="9/3 x 64",
                           r=int(np.mean([layer.clusters for layer in run.layers])), series=series or run.series)


def _measure(session, kind, T):
    with_peers = T == 8192
    names = [f"nearfar_{kind}_vs_own_dense_{T}"]
    if with_peers:
        names += [f"nearfar_accurate_vs_own_dense_{T}", f"nearfar_{kind}_vs_sdpa_{T}"]
        names += [f"nearfar_{kind}_vs_{short}_{T}" for short in dict.fromkeys(SPARSE.values())]
    if not session.wants(*names) or not all([session.lengths(name, T, quick=QUICK) for name in names]):
        return
    by_length, accurate, against_torch = goals(session, kind)
    all_sides = Comparison(session, kind, T)
    samples = all_sides.measure(with_peers)
    balanced = all_sides.of("balanced")
    wanted = targets(balanced, samples, by_length[T], "own dense")
    for run in balanced:
        all_sides.entry(all_sides.own, samples, run, "own dense", wanted[run.label])
    for run in all_sides.of("fast") + (all_sides.of("accurate") if not with_peers else []):
        all_sides.entry(all_sides.own, samples, run, "own dense", None)
    if not with_peers:
        return
    wanted = targets(all_sides.of("accurate"), samples, accurate, "own dense")
    for run in all_sides.of("accurate"):
        all_sides.entry(all_sides.accurate, samples, run, "own dense", wanted[run.label])
    wanted = targets(balanced, samples, against_torch, "torch SDPA")
    for run in balanced:
        if "torch SDPA" in samples.seconds:
            all_sides.entry(all_sides.sdpa, samples, run, "torch SDPA", wanted[run.label])
        for side, records in all_sides.sparse_series.items():
            all_sides.entry(all_sides.sparse[side], samples, run, side, None, [{"ours": run.series, "peer": records}])


def in_float(session):
    for T in (2048, 4096, 8192, LONGEST):
        _measure(session, "f32", T)


def in_bf16(session):
    for T in (2048, 4096, 8192, LONGEST):
        _measure(session, "bf16", T)


def two_threads(session):
    name = "nearfar_threads"
    T = QUICK if session.quick else 4096
    if not session.wants(name):
        return
    layers = [Layer(session, layer, T, np.float32) for layer in LAYERS]
    for preset in session.library.presets:
        if preset.name != "balanced":
            continue
        two, one = (PresetRun(session, preset, layers, np.float32, threads) for threads in (2, 1))
        samples = session.interleaved({"ours": two, "1 thread": one}, threads=2)
        session.entry(name, f"{two.label}: T={T}, 9/3 heads x 64, layers {', '.join(map(str, LAYERS))}", samples,
                      peer="1 thread", peer_name="own, 1 thread", target=1.85, threads=2, T=T, d=64, heads="9/3 x 64",
                      r=int(np.mean([layer.clusters for layer in two.layers])))


ENTRIES = [in_float, in_bf16, two_threads]
