#pragma once
// The far field of a sequence that does not grow, launch by launch: leaves of its clusters, tables of their means, and
// which of them each chunk has.

#include <algorithm>
#include <limits>

#include "cascada/attention_options.hpp"
#include "cascada/hip/attention/form_leaves.hpp"
#include "cascada/hip/attention/leaf_statistics.hpp"
#include "cascada/hip/attention/leaves_by_keys.hpp"
#include "cascada/hip/attention/list_far_rows.hpp"
#include "cascada/hip/attention/list_leaves.hpp"
#include "cascada/hip/attention/sequence_launches.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Leaves of the clusters, or each cluster as one, and the tables.
template <class Scalar, index_t Dim, class B, class Place>
void summarise(sequence_launches<Scalar, Dim, B, Place>& launch) {
  using means_of_kv = leaf_means<Scalar, Place>;

  const auto&              of       = launch.of;
  const auto&              memory   = of.memory;
  const attention_options& options  = of.options;
  const cluster_memory     clusters = of.members_of_leaves();
  launch.list_members();
  if (detail::forms_by_keys(options))
    leaves_by_keys<Scalar, Place>{.layer     = of.layer,
                                  .clusters  = memory.clusters,
                                  .chains    = memory.chains,
                                  .leaves    = memory.leaves,
                                  .keys      = of.kv.key_rows(),
                                  .threshold = options.leaf_threshold,
                                  .sinks     = options.sink_tokens,
                                  .size      = options.leaf}(launch);
  else
    launch(form_leaves{.layer    = of.layer,
                       .clusters = clusters,
                       .leaves   = memory.leaves,
                       .tokens   = of.tokens,
                       .sinks    = of.far() ? options.sink_tokens : 0,
                       .size     = of.far() ? options.leaf : std::numeric_limits<index_t>::max()});
  launch(list_leaves{of.layer, memory.leaves, of.tokens});
  launch(means_of_kv{.clusters  = clusters,
                     .leaves    = memory.leaves,
                     .rows      = of.kv.key_rows(),
                     .means     = memory.mean_keys,
                     .variances = memory.variances,
                     .moments   = options.moments.value_or(0)});
  launch(means_of_kv{
      .clusters = clusters, .leaves = memory.leaves, .rows = of.kv.value_rows(), .means = memory.mean_values});
}

/// The far fields of some chunks, or one of all tokens; with them, the leaves.
template <class Scalar, index_t Dim, class B, class Place>
leaf_memory list_far_fields(sequence_launches<Scalar, Dim, B, Place>& launch, index_t first_chunk, index_t chunks) {
  leaf_memory leaves = launch.of.memory.leaves;
  leaves.first       = first_chunk;
  launch(list_far_rows{.clusters = launch.of.members_of_leaves(),
                       .leaves   = leaves,
                       .tokens   = launch.of.tokens,
                       .chunk    = launch.of.chunk,
                       .window   = launch.of.options.window,
                       .chunks   = chunks});
  return leaves;
}

/// attend(first, last, leaves) for the tokens of as many chunks as there is room for their far fields.
template <class Scalar, index_t Dim, class B, class Place, class Attend>
void in_slices(sequence_launches<Scalar, Dim, B, Place>& launch, const Attend& attend) {
  const auto& of = launch.of;
  for (index_t first = of.base; first < of.end;) {
    const index_t begin = first / of.chunk, left = (of.end - 1) / of.chunk + 1 - begin;
    const index_t chunks = std::min(of.memory.chunks, left);
    const index_t last   = chunks == left ? of.end : (begin + chunks) * of.chunk;
    attend(first, last, list_far_fields(launch, begin, chunks));
    first = last;
  }
}

}  // namespace cascada::inline CASCADA_ABI::hip::attention
