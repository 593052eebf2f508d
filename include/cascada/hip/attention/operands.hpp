#pragma once
// What the attention kernel is given: which keys queries meet, and which other softmax is part of the answer.

#include <cstdint>

#include "cascada/hip/attention/leaves.hpp"
#include "cascada/hip/attention/token_rows.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

inline constexpr index_t keys_of_tile = 32;  // that rows meet at a time

/// Keys, rounded up to whole tiles.
CASCADA_HOST_DEVICE CASCADA_INLINE constexpr std::int64_t rounded_to_tiles(std::int64_t keys) {
  return (keys + keys_of_tile - 1) / keys_of_tile * keys_of_tile;
}

/// Keys and values in device memory: row i of head h at data + h head_stride + i row_stride.
template <class Scalar>
struct operand_rows {
  const Scalar* keys;
  const Scalar* values;
  std::int64_t  key_row, key_head, value_row, value_head;
};

/// Counts of keys that differ from query to query: log2 of the count of place k of a list, as the token at `place`
/// among those with queries sees it, over the scale of the logits.
struct pair_counts {
  float*       logs;      // [sets, rows, stride]; the caller's slice of places is [first, last)
  std::int64_t stride;    // a multiple of 32, at least the length of the list
  index_t      rows = 0;  // at least last - first

  CASCADA_DEVICE CASCADA_INLINE index_t number(index_t set, index_t of_slice) const { return set * rows + of_slice; }
  CASCADA_DEVICE CASCADA_INLINE float*  row(index_t number) const { return logs + number * stride; }
};

/// How much the keys of leaves vary, over groups of dimensions.
struct leaf_variances {
  const std::uint16_t* rows;              // [kv_heads, tokens, variance_parts]
  std::int64_t         head;              // elements from head to head
  index_t              groups;            // a power of two; 0: no correction
  float                half_scale, most;  // of the logits; the largest correction, over their scale times log2(e)
};

/// Keys that a chunk of queries reads through a list: leaves, or representatives.
template <class Scalar>
struct listed_keys {
  operand_rows<Scalar> rows;
  const index_t*       list;                 // [chunks from `first` on, sets, stride], or [sets, stride] for all
  const index_t*       count;                // [those chunks, sets], or [sets]; null: no such keys
  const index_t*       sizes     = nullptr;  // as list, of leaves: members, whose log2 is added
  float                unit      = 1;        // 1 / scale, in which logits are added to
  std::int64_t         stride    = 0;        // of the list, from set to set
  index_t              sets      = 1;        // of the keys: those of all KV heads, or each KV head's own
  index_t              first     = 0;        // the chunk that has the first list
  bool                 causal    = false;    // place k sees places up to k
  pair_counts          counts    = {};       // instead of leaves, for the kernel that is made for them
  leaf_variances       variances = {};
};

/// Keys that follow each other: [from, T) of the tokens, and sinks [0, min(sinks, from)). Or those of sliding windows.
template <class Scalar, class Place = rows_in_order>
struct near_keys {
  operand_rows<Scalar> rows;
  index_t              tokens    = 0;  // T, if not causal
  index_t              window    = 0;  // from = begin of the chunk - window, at least 0
  index_t              sinks     = 0;
  index_t              sliding   = 0;      // tokens that a token sees, itself the last; 0: all before it
  bool                 unlimited = false;  // from = 0
  bool                 causal;             // token t sees tokens up to t
  bool                 exists;

  [[no_unique_address]] Place place = {};
};

/// A softmax over other keys that has its part in the answer: merged by log-sum-exp.
struct other_softmax {
  const float*   out;       // [rows, heads, dim]; null: none
  const float*   log_sums;  // [rows, heads]
  const index_t* rows;      // [sets, T]: of token t the row of token rows[t]; null: its own
  index_t        base;      // the token of row 0
  index_t        sets   = 1;
  std::int64_t   stride = 0;  // of `rows`, from set to set

  CASCADA_DEVICE CASCADA_INLINE index_t row_of(index_t kv_head, index_t token) const {
    return rows[set_of_head(sets, kv_head) * stride + token] - base;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
