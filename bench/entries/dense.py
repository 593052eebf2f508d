"""Dense causal attention against torch and onnxruntime, and the r x r problem against onnxruntime."""
import numpy as np

from harness.data import random_qkv, to_float
from harness.library import Attention, every_token, is_bf16
from harness.session import require
from peers import onnx_attention
from peers.torch_sdpa import Sdpa

WIDTH = 256  # heads x head_dim


def same_output(out, peer, name, case):
    """Ours in its own type, the peer's in float; errors relative to the largest output. bfloat16 outputs may round to
    neighbours. A float output is a sum of up to T terms, and the two sides add them up in different orders."""
    bf16 = is_bf16(out)
    ours = to_float(out) if bf16 else out
    require(np.abs(ours - peer).max() <= (2**-7 if bf16 else 1e-4) * np.abs(peer).max(), name, case)


def causal_flops(T, heads, dim):
    """4 d for each pair that counts; what a tile computes beyond the diagonal is not counted."""
    return 4 * dim * heads * T * (T + 1) / 2


def _against(session, name, case, inputs, make_peer, peer_name, attend, flops, target, kept=(), bf16=False):
    """One entry per peer and, where the target has a second half, per share of peak."""
    q, k, v = inputs
    peer = session.peer(name, lambda: make_peer(*inputs))
    if not peer:
        return None
    out = np.empty_like(q)
    peer()
    attend(q, k, v, out, *kept)
    same_output(out, peer.result(), name, case)
    samples = session.interleaved({"ours": lambda: attend(q, k, v, out, *kept), "peer": peer}, bf16=bf16)
    T, heads, dim = q.shape
    shape = dict(T=T, d=dim, heads=f"{heads}/{k.shape[1]} x {dim}", flops=flops)
    session.entry(name, case, samples, peer="peer", peer_name=peer_name, target=target, **shape)
    return samples, shape


def _sdpa(session, bf16):
    name = f"dense_{'bf16' if bf16 else 'f32'}_vs_sdpa"
    if not session.wants(name):
        return
    attend = Attention(session.library, keys="all", rows=np.uint16 if bf16 else np.float32)
    for dim in (64, 128, 256):
        for T in session.lengths(name, 1024, 2048, 4096, 8192):
            heads, case = WIDTH // dim, f"T={T}, head_dim={dim}"
            inputs = random_qkv(session.library, T, heads, heads, dim, bf16)
            done = _against(session, name, case, inputs, Sdpa, "torch SDPA", attend, causal_flops(T, heads, dim),
                            2.3 if bf16 else 1.2, bf16=bf16)
            if done and not bf16:
                samples, shape = done
                session.entry(name, case, samples, measure="of_peak", target=0.77 if T == 1024 else 0.8, **shape)


def sdpa_float(session):
    _sdpa(session, bf16=False)


def sdpa_bf16(session):
    _sdpa(session, bf16=True)


def ort(session):
    name = "rxr_vs_ort_mha"
    if session.wants(name):
        attend = Attention(session.library, keys="representatives", queries="representatives", causal=False)
        for r in session.lengths(name, 512, 1024, 2048):
            inputs = random_qkv(session.library, r, 12, 12, 64)
            _against(session, name, f"r={r}, 12 heads x 64", inputs, onnx_attention.multi_head, "onnxruntime MHA",
                     attend, 4 * 64 * 12 * r * r, 1.1, [every_token(r)])
    name = "dense_f32_vs_ort_gqa"
    if session.wants(name):
        attend = Attention(session.library, keys="all")
        for T in session.lengths(name, 1024, 4096):
            inputs = random_qkv(session.library, T, 9, 3, 64)
            _against(session, name, f"T={T}, 9/3 heads x 64", inputs, onnx_attention.grouped_query, "onnxruntime GQA",
                     attend, causal_flops(T, 9, 64), None)


ENTRIES = [sdpa_float, sdpa_bf16, ort]
