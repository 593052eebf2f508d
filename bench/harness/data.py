"""Inputs: real activations, stable synthetic clusters, random rows."""
import json
import struct

import numpy as np

RANDOM_SEED = 1


def to_bf16(x):
    """Bits of float32 values rounded to bfloat16, ties to even."""
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def to_float(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


class Layers:
    """What cascada-dump-layers wrote: residual streams of all layers, q, k and v of some. A causal model's first n
    tokens do not depend on the others, so one long run serves every shorter length."""

    def __init__(self, path, heads=9, kv_heads=3):
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            self._header = json.loads(file.read(length))
        self._bytes = np.memmap(path, np.uint8, "r", offset=8 + length)
        self._heads = {"q": heads, "k": kv_heads, "v": kv_heads}
        self.tokens = self._header["residual_00"]["shape"][0]
        self.count = sum(name.startswith("residual") for name in self._header)

    def _bits(self, name, tokens):
        if tokens > self.tokens:
            raise ValueError(f"the activations have {self.tokens} tokens; {tokens} were asked for")
        begin, end = self._header[name]["data_offsets"]
        return np.array(self._bytes[begin:end].view(np.uint16).reshape(self._header[name]["shape"])[:tokens])

    def residual(self, layer, tokens, bf16=False):
        """Rows [T, hidden] entering a layer. The file holds bfloat16; a third of it are floats that bfloat16 does not
        hold, as a model's are, at the same cosines."""
        bits = self._bits(f"residual_{layer:02}", tokens)
        return bits if bf16 else to_float(bits) * np.float32(1 / 3)

    def qkv(self, layer, tokens, rows=np.float32):
        """Three arrays [T, heads, head_dim]; uint16 rows are bfloat16."""
        out = []
        for name in "qkv":
            bits = self._bits(f"{name}_{layer:02}", tokens).reshape(tokens, self._heads[name], -1)
            out.append(bits if rows == np.uint16 else to_float(bits).astype(rows))
        return out


def random_rows(library, tokens, cols, seed=RANDOM_SEED):
    rows = np.empty((tokens, cols), np.float32)
    library.c.bench_random_rows(tokens, cols, seed, rows.ctypes.data)
    return rows


def clustered_rows(library, tokens, cols, clusters, layer=0, stray=256, seed=RANDOM_SEED):
    """Rows of one layer of a sequence whose clusters stay; one token in `stray` leaves (0: none). See data.hpp."""
    rows = np.empty((tokens, cols), np.float32)
    library.c.bench_clustered_rows(tokens, cols, clusters, stray, seed, layer, rows.ctypes.data)
    return rows


def random_qkv(library, tokens, heads, kv_heads, dim, bf16=False):
    out = [random_rows(library, tokens, count * dim, seed).reshape(tokens, count, dim)
           for seed, count in enumerate((heads, kv_heads, kv_heads), 1)]
    return [to_bf16(x) for x in out] if bf16 else out
