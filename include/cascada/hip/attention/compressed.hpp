#pragma once
// Attention on the compressed problem, launch by launch: representatives, or the means of their clusters, instead of
// all tokens.

#include <cstdint>

#include "cascada/attention_options.hpp"
#include "cascada/hip/attention/copy_results.hpp"
#include "cascada/hip/attention/count_older.hpp"
#include "cascada/hip/attention/far_field.hpp"
#include "cascada/hip/attention/leaf_statistics.hpp"
#include "cascada/hip/attention/sequence_launches.hpp"
#include "cascada/hip/attention/shapes.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Keys are the clusters' means, and so may queries be.
template <class Scalar, index_t Dim, class B, class Place>
void attend_means(sequence_launches<Scalar, Dim, B, Place>& launch, bool all_tokens) {
  const auto& of     = launch.of;
  const auto& memory = of.memory;
  summarise(launch);
  attend<Scalar, Dim, counts_of_keys, Place> given = {.queries     = all_tokens ? of.everyone() : of.representatives(),
                                                      .far         = of.leaves(list_far_fields(launch, 0, 0)),
                                                      .scale       = of.scale,
                                                      .sink_logits = of.sink_logits()};
  if (!all_tokens) {
    launch(leaf_means<Scalar>{.clusters = memory.clusters,
                              .leaves   = memory.leaves,
                              .rows     = of.q,
                              .means    = memory.mean_queries,
                              .sharing  = of.q.heads / of.kv_heads});
    given.queries.q       = {.data         = memory.mean_queries,
                             .tokens       = of.tokens,
                             .heads        = of.q.heads,
                             .dim          = Dim,
                             .token_stride = Dim,
                             .head_stride  = std::int64_t{of.tokens} * Dim};
    given.queries.list    = memory.leaves.far_rows;
    given.queries.answers = of.layer.first.indices;
  }
  launch.attend_keys(given);
}

/// Weighted and causal: what a cluster counts depends on whose query it is, so counts are written slice by slice.
template <class Scalar, index_t Dim, class B, class Place>
void attend_counted(sequence_launches<Scalar, Dim, B, Place>& launch) {
  const auto&   of    = launch.of;
  const index_t slice = of.memory.slice;
  launch.list_members();
  for (index_t first = 0; first < of.tokens; first += slice) {
    const index_t last = of.tokens - first < slice ? of.tokens : first + slice;
    launch(count_older{.layer    = of.layer,
                       .clusters = of.memory.clusters,
                       .counts   = of.memory.counts,
                       .first    = first,
                       .last     = last,
                       .unscale  = 1 / of.scale});
    attend<Scalar, Dim, counts_of_pairs, Place> given = {
        .queries = of.representatives(), .far = of.members(), .scale = of.scale, .sink_logits = of.sink_logits()};
    given.queries.first = first, given.queries.last = last;
    given.far.counts = of.memory.counts;
    launch.attend_keys(given);
  }
}

/// r x r, and bidirectional T x r.
template <class Scalar, index_t Dim, class B, class Place>
void attend_representatives(sequence_launches<Scalar, Dim, B, Place>& launch) {
  const auto& of         = launch.of;
  const bool  all_tokens = of.options.queries == query_set::all;
  if (averages(of.options))
    attend_means(launch, all_tokens);
  else if (of.options.weighted)
    attend_counted(launch);
  else
    launch.attend_keys(attend<Scalar, Dim, counts_of_keys, Place>{
        .queries = of.representatives(), .far = of.members(), .scale = of.scale, .sink_logits = of.sink_logits()});
  if (!all_tokens) launch(copy_results<Scalar>{of.layer, of.out, of.log_sums});
}

}  // namespace cascada::inline CASCADA_ABI::hip::attention
