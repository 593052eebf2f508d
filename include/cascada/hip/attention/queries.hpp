#pragma once
// Queries: of which tokens, and which of their rows, (token, head) pairs of one KV head, a block of threads answers.

#include <cstdint>
#include <limits>
#include <numeric>

#include "cascada/hip/attention/block_rows.hpp"
#include "cascada/hip/attention/result_rows.hpp"
#include "cascada/hip/attention/row_sums.hpp"
#include "cascada/hip/attention/selection_sets.hpp"
#include "cascada/hip/base/device.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Rows of a block: all are of one part of the tokens and one KV head, whose query heads so share every key they read.
/// They lie at places of their own in the part, whichever have queries: which keys a row meets together does not depend
/// on the call.
struct query_block {
  index_t number;         // its number among those of its KV head; the earliest tokens have the first
  index_t kv_head, part;  // numbers
  index_t begin;          // place where the part begins
  index_t first;          // its first row, from the part's begin on
  index_t from, rows;     // of the part, rows [from, rows) exist

  CASCADA_DEVICE CASCADA_INLINE bool empty() const { return number < 0 || first >= rows || from >= rows; }
};

/// What a thread answers: half of a row. Threads without a row repeat the nearest.
struct query_row {
  bool    exists;
  index_t place, head;  // of the token among those that have queries
};

/// Of a sequence that grows, which tokens have queries, in a call or a slice of it: words of the device, which alone
/// knows.
struct query_range {
  index_t base;         // place of the call's first query
  index_t first, last;  // of the places of tokens with queries, those in [first, last)
  index_t field;        // number of the chunk that has the first far field at hand
  bool    listed;       // whether that is there from the call before
};

/// Which tokens have queries, and where their answers go.
template <class Scalar>
struct query_tokens {
  heads_view<const Scalar> q;                  // of the tokens from `base` on
  result_rows<Scalar>      out     = {};       // the same
  const index_t*           list    = nullptr;  // [sets, stride]: those of part p from p size on; null: all tokens
  const index_t*           answers = nullptr;  // the same: the tokens whose output it is; null: their own
  const index_t*           count   = nullptr;  // [sets, parts] with list
  const index_t* valid = nullptr;  // null, or [sets]: negative where the selection has failed; nothing is written
  index_t        kv_heads;
  index_t        part;  // its tokens at most: a chunk, a band, or all tokens
  index_t        base     = 0;
  index_t        first    = 0, last;  // of the places of tokens with queries, those in [first, last)
  row_sums       log_sums = {};       // of the tokens from `base` on

  index_t            sets   = 1;             // selections: one of all KV heads, or each KV head's own
  std::int64_t       stride = 0, parts = 0;  // of lists and of counts, from set to set
  const query_range* growing = nullptr;      // null, or [1]: where they lie; [first, last) is [0, how many at most)
  index_t            field   = 0;            // chunk of the first far field, where it is as unknown to the host

  index_t skipped = 0, most = std::numeric_limits<index_t>::max();  // of each KV head's blocks, `most` behind these

  CASCADA_HOST_DEVICE CASCADA_INLINE index_t group() const { return q.heads / kv_heads; }
  CASCADA_HOST_DEVICE CASCADA_INLINE index_t blocks_of_part() const { return blocks_of_rows(part, group()); }

  /// Of a KV head's selection.
  CASCADA_DEVICE CASCADA_INLINE bool failed(index_t kv_head) const {
    return valid && has_failed(valid + set_of_head(sets, kv_head));
  }

  /// Tokens that have queries, from where a KV head's list begins; and those whose output it is.
  CASCADA_DEVICE CASCADA_INLINE index_t token_of(index_t kv_head, index_t place) const {
    return list ? list[set_of_head(sets, kv_head) * stride + place] : place;
  }
  CASCADA_DEVICE CASCADA_INLINE index_t answer_of(index_t kv_head, index_t place) const {
    return answers ? answers[set_of_head(sets, kv_head) * stride + place] : token_of(kv_head, place);
  }

  /// Blocks of one KV head; of a sequence that grows, at most.
  CASCADA_HOST_DEVICE CASCADA_INLINE index_t blocks() const {
    const index_t left = growing ? most_blocks() - skipped : number_of(last - 1, group() - 1) + 1 - first_block();
    return left < most ? left : most;
  }

  /// Blocks of one KV head at most for as many tokens, wherever they lie: each part that they reach over into has one
  /// more.
  CASCADA_HOST_DEVICE CASCADA_INLINE index_t most_blocks() const {
    const std::int64_t tokens = last - first, apart = std::gcd(group(), rows_of_block);  // of a token's first rows
    const std::int64_t full = (tokens * group() + rows_of_block - apart + rows_of_block - 1) / rows_of_block;
    return static_cast<index_t>(full + (tokens - 2 + part) / part);
  }

  /// With what the device alone knows.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE query_tokens placed(Gpu& gpu) const {
    query_tokens now = *this;
    if (growing) {
      now.base = gpu.uniform(growing->base), now.field = gpu.uniform(growing->field);
      now.first = gpu.uniform(growing->first), now.last = gpu.uniform(growing->last);
    }
    now.growing = nullptr;
    return now;
  }

  index_t grid() const { return blocks() * kv_heads; }

  /// Block `of_grid` of the grid. The last parts have the most keys: they start first.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE query_block block_of(Gpu& gpu, index_t of_grid) const {
    const index_t per_part = blocks_of_part();
    query_block   own;
    own.number          = blocks() - 1 - of_grid / kv_heads;
    const index_t block = first_block() + own.number;
    own.kv_head         = gpu.uniform(of_grid % kv_heads);
    own.part            = gpu.uniform(block / per_part);
    own.begin           = own.part * part;
    own.first           = block % per_part * rows_of_block;
    const index_t there =
        list ? gpu.uniform(count[set_of_head(sets, own.kv_head) * parts + own.part]) : last - own.begin;
    const index_t close = own.begin + (there < part ? there : part);
    own.from            = first < own.begin ? 0 : (first - own.begin) * group();
    own.rows            = ((close < last ? close : last) - own.begin) * group();
    return own;
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE query_row row_of(Gpu& gpu, const query_block& of) const {
    const index_t own   = of.first + 32 * gpu.wave() + gpu.lane() % 32;
    const index_t above = own < of.from ? of.from : own, row = above < of.rows ? above : of.rows - 1;
    return {row == own, of.begin + row / group(), of.kv_head * group() + row % group()};
  }

  /// Where a block lies among those of all KV heads from the begin of the part on in which the first query lies.
  CASCADA_DEVICE CASCADA_INLINE index_t rows_number_of(const query_block& of) const {
    return (of.number + skipped + first % part * group() / rows_of_block) * kv_heads + of.kv_head;
  }

  /// Places of the first and the last token that have a place in the block, and of the last one that has a row there.
  CASCADA_DEVICE CASCADA_INLINE index_t earliest(const query_block& of) const { return of.begin + of.first / group(); }
  CASCADA_DEVICE CASCADA_INLINE index_t closing(const query_block& of) const {
    return of.begin + (of.first + rows_of_block - 1) / group();
  }
  /// The end of the places of tokens that have a row in the block, or would if they had queries.
  CASCADA_DEVICE CASCADA_INLINE index_t places_end(const query_block& of) const {
    const index_t of_block = closing(of) + 1, of_part = of.begin + part;
    return of_block < of_part ? of_block : of_part;
  }
  CASCADA_DEVICE CASCADA_INLINE index_t latest(const query_block& of) const {
    return of.begin + ((of.first + rows_of_block < of.rows ? of.first + rows_of_block : of.rows) - 1) / group();
  }

 private:
  /// The block of a row, among those of its KV head from place 0 on.
  CASCADA_HOST_DEVICE CASCADA_INLINE index_t number_of(index_t place, index_t head) const {
    return place / part * blocks_of_part() + (place % part * group() + head) / rows_of_block;
  }
  CASCADA_HOST_DEVICE CASCADA_INLINE index_t first_block() const { return number_of(first, 0) + skipped; }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
