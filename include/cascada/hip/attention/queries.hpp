#pragma once
// Who asks: which tokens, and which of their rows, (token, head) pairs of one KV head, a block of threads answers.

#include <cstdint>

#include "cascada/hip/base/device.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

inline constexpr index_t rows_of_block = 128;  // of a block

/// Rows of a block: all are of one chunk and one KV head, whose query heads so share every key they read.
struct query_block {
  index_t turn;                // its number among those of its KV head; the earliest tokens have the first
  index_t kv_head, chunk;      // numbers
  index_t chunk_begin, begin;  // places where the chunk, and the part of it that asks, begin
  index_t first, rows;         // its rows are from `first` on, of `rows` of that part
};

/// What a thread answers: half of a row. Threads beyond the last row repeat it.
struct query_row {
  bool    exists;
  index_t place, head;  // of the token among those that ask
};

/// Which tokens ask, and where their answers go.
template <class Scalar, class Out>
struct query_tokens {
  heads_view<const Scalar> q;
  heads_view<Out>          out;
  const index_t*           list    = nullptr;  // all tokens, or those of chunk c from list[c chunk] on
  const index_t*           answers = nullptr;  // the same, or the tokens whose output it is
  const index_t*           count   = nullptr;  // [chunks] with list
  const index_t* valid = nullptr;  // null, or [1]: negative where the selection has failed; nothing is written
  index_t        kv_heads, chunk;
  index_t        first    = 0, last;  // of the places of tokens that ask, those in [first, last)
  float*         log_sums = nullptr;  // null, or [T, heads]: log2 of the sum of exponentials, too

  CASCADA_HOST_DEVICE CASCADA_INLINE index_t group() const { return q.heads / kv_heads; }
  CASCADA_HOST_DEVICE CASCADA_INLINE index_t blocks_of_chunk() const {
    const index_t slice = last - first, places = slice < chunk ? slice : chunk;
    return (places * group() + rows_of_block - 1) / rows_of_block;
  }
  CASCADA_HOST_DEVICE CASCADA_INLINE index_t chunks() const { return (last - 1) / chunk - first / chunk + 1; }

  index_t grid() const { return chunks() * blocks_of_chunk() * kv_heads; }

  /// The last chunks have the most keys: they start first.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE query_block block_of(Gpu& gpu) const {
    const index_t turned = gpu.block() / kv_heads, per_chunk = blocks_of_chunk();
    query_block   own;
    own.turn            = chunks() * per_chunk - 1 - turned;
    own.kv_head         = gpu.uniform(gpu.block() % kv_heads);
    own.chunk           = gpu.uniform(first / chunk + own.turn / per_chunk);
    own.chunk_begin     = own.chunk * chunk;
    own.begin           = own.chunk_begin < first ? first : own.chunk_begin;
    const index_t asked = list ? gpu.uniform(count[own.chunk]) : q.tokens - own.chunk_begin;
    const index_t close = own.chunk_begin + (asked < chunk ? asked : chunk);
    own.first           = own.turn % per_chunk * rows_of_block;
    own.rows            = ((close < last ? close : last) - own.begin) * group();
    return own;
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE query_row row_of(Gpu& gpu, const query_block& of) const {
    const index_t wanted = of.first + 32 * gpu.wave() + gpu.lane() % 32;
    const index_t row    = wanted < of.rows ? wanted : of.rows - 1;
    return {wanted < of.rows, of.begin + row / group(), of.kv_head * group() + row % group()};
  }

  /// Place of the last token that has a row in the block.
  CASCADA_DEVICE CASCADA_INLINE index_t latest(const query_block& of) const {
    return of.begin + ((of.first + rows_of_block < of.rows ? of.first + rows_of_block : of.rows) - 1) / group();
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
