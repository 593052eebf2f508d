#pragma once
// The workspace of attention on the device: what a sequence of a given shape needs, cut from one allocation.

#include <algorithm>
#include <cstdint>

#include "cascada/attention_options.hpp"
#include "cascada/hip/groups.hpp"
#include "cascada/hip/memory.hpp"
#include "cascada/hip/refine_operands.hpp"

namespace cascada::inline CASCADA_ABI::hip {

/// Words that a slice of tokens may have in tables with a column for every cluster. The longer the sequence, the fewer
/// tokens in a slice: nothing is T x T. A backend may say otherwise.
template <class B>
inline constexpr std::int64_t table_words = std::int64_t{1} << 26;

/// Shapes of a call: its longest sequence.
struct attention_shape {
  index_t tokens, heads, kv_heads, dim;
};

template <class Scalar, class B>
struct attention_memory {
  cluster_memory clusters     = {};
  Scalar*        mean_keys    = nullptr;  // [kv_heads, T, dim]
  Scalar*        mean_values  = nullptr;
  Scalar*        mean_queries = nullptr;  // [heads, T, dim] of clusters, [T, heads, dim] of groups
  group_memory   groups       = {};
  float*         other_out    = nullptr;  // [T, heads, dim]: the softmax to be merged
  float*         other_sums   = nullptr;  // [T, heads]
  float*         log_sums     = nullptr;  // [T, heads]
  refined_slice  refined      = {};       // its memory, and the shape of its rows
  index_t        slice        = 0;        // tokens of a slice

  /// Cuts the arrays that the options need off `from`.
  void cut(carver& from, const attention_options& options, const attention_shape& shape) {
    const std::int64_t tokens  = shape.tokens, rows = tokens * shape.heads, means = tokens * shape.kv_heads * shape.dim;
    const bool         far     = options.keys == key_set::near_and_far;
    const bool         counts  = options.weighted && options.causal;
    const bool         average = far || (options.weighted && !options.causal);
    const bool         grouped = options.queries == query_set::grouped;
    const bool         asks    = average && options.queries == query_set::representatives;
    const std::int64_t fields  = far ? (tokens + options.chunk - 1) / options.chunk : 1;
    if (average || counts)
      from.cut(clusters.offsets, tokens + 1), from.cut(clusters.members, tokens), from.cut(clusters.slots, tokens);
    if (average) {
      from.cut(clusters.far_rows, fields * tokens), from.cut(clusters.far_count, fields);
      from.cut(mean_keys, means), from.cut(mean_values, means);
    }
    if (asks || options.lookahead) from.cut(mean_queries, rows * shape.dim);
    if (grouped) from.cut(groups.asker, tokens), from.cut(groups.asks, tokens), from.cut(groups.count, fields);
    if (grouped || options.budget > 0) from.cut(other_out, rows * shape.dim), from.cut(other_sums, rows);
    if (options.budget > 0 && shape.heads > shape.kv_heads) from.cut(log_sums, rows);
    if (options.budget > 0 || counts) cut_slice(from, options, shape);
  }

 private:
  void cut_slice(carver& from, const attention_options& options, const attention_shape& shape) {
    const std::int64_t tokens = shape.tokens, candidates = std::int64_t{options.budget} * options.candidates;
    const index_t      heads  = options.budget > 0 ? shape.kv_heads : 1;
    refined.budget            = std::min(options.budget, shape.tokens);
    refined.limit             = static_cast<index_t>(std::min(candidates, tokens));
    refined.scores.stride     = (tokens + 31) / 32 * 32;
    refined.scores.heads      = heads;
    const std::int64_t width  = heads * (refined.scores.stride + refined.limit + refined.budget);
    slice = static_cast<index_t>(std::clamp<std::int64_t>(table_words<B> / width, 32, std::max<std::int64_t>(tokens, 32)));
    const std::int64_t rows = std::int64_t{slice} * heads;
    from.cut(refined.scores.logs, rows * refined.scores.stride);
    if (options.budget == 0) return;
    from.cut(refined.candidates, rows * refined.limit), from.cut(refined.candidate_count, rows);
    from.cut(refined.chosen, rows * refined.budget), from.cut(refined.chosen_count, rows);
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip
