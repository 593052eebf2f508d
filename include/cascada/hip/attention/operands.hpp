#pragma once
// What the attention kernel is asked: which tokens ask, which keys answer, and where the softmax goes.

#include <cstdint>

#include "cascada/hip/attention/leaves.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Keys and values in device memory: row i of head h at data + h head_stride + i row_stride.
template <class Scalar>
struct operand_rows {
  const Scalar* keys;
  const Scalar* values;
  std::int64_t  key_row, key_head, value_row, value_head;
};

/// Counts of keys that differ from query to query: log2 of the count of place k of a list, as the token at `place`
/// among those that ask sees it, over the scale of the logits.
struct pair_counts {
  float*       logs;    // [last - first, stride]; the caller's slice of places is [first, last)
  std::int64_t stride;  // a multiple of 32, at least the length of the list

  CASCADA_HOST_DEVICE CASCADA_INLINE float* row(index_t place) const { return logs + place * stride; }
};

/// How much the keys of leaves vary, over groups of dimensions.
struct leaf_variances {
  const std::uint16_t* rows;              // [kv_heads, T, variance_parts]; null: no correction
  std::int64_t         head;              // elements from head to head
  index_t              groups;            // a power of two
  float                half_scale, most;  // of the logits; the largest correction, over their scale times log2(e)
};

/// Keys that a chunk of queries reads through a list: leaves, or representatives.
template <class Scalar>
struct listed_keys {
  operand_rows<Scalar> rows;
  const index_t*       list;                 // [chunks, T], or [r] for all
  const index_t*       count;                // [chunks], or [1]; null: no such keys
  const leaf_range*    leaves    = nullptr;  // or row - leaves[place].begin + 1 is the leaf's size, whose log2 is added
  float                unit      = 1;        // 1 / scale, in which logits are added to
  std::int64_t         stride    = 0;        // of the list, from chunk to chunk
  bool                 causal    = false;    // place k sees places up to k
  pair_counts          counts    = {};       // instead of leaves, for the kernel that is made for them
  leaf_variances       variances = {};
};

/// Keys that follow each other: [from, T) of the tokens, and sinks [0, min(sinks, from)).
template <class Scalar>
struct near_keys {
  operand_rows<Scalar> rows;
  index_t              window    = 0;  // from = begin of the chunk - window, at least 0
  index_t              sinks     = 0;
  bool                 unlimited = false;  // from = 0
  bool                 causal;             // token t sees tokens up to t
  bool                 exists;
};

/// Which tokens ask, and where their answers go.
template <class Scalar, class Out>
struct query_tokens {
  heads_view<const Scalar> q;
  heads_view<Out>          out;
  const index_t*           list    = nullptr;  // all tokens, or those of chunk c from list[c chunk] on
  const index_t*           answers = nullptr;  // the same, or the tokens whose output it is
  const index_t*           count   = nullptr;  // [chunks] with list
  const index_t*           valid   = nullptr;  // or [1]: negative, the selection has failed and nothing is written
  index_t                  kv_heads, chunk;
  index_t                  first    = 0, last;  // of the places of tokens that ask, those in [first, last)
  float*                   log_sums = nullptr;  // or [T, heads]: log2 of the sum of exponentials, too
};

/// A softmax over other keys that has its part in the answer: merged by log-sum-exp.
struct other_softmax {
  const float*   out;       // [rows, heads, dim]; null: none
  const float*   log_sums;  // [rows, heads]
  const index_t* rows;      // of token t row rows[t]; null: row t
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
