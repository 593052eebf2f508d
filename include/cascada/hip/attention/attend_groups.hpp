#pragma once
// Grouped queries, launch by launch: groups read the far field, then every token its near field, and merges its group's
// answer.

#include <cstdint>

#include "cascada/hip/attention/far_field.hpp"
#include "cascada/hip/attention/groups.hpp"
#include "cascada/hip/attention/sequence_launches.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

template <class Scalar, index_t Dim, class B, class Place>
void attend_groups(sequence_launches<Scalar, Dim, B, Place>& launch) {
  using kernel = attend<Scalar, Dim, counts_of_keys, Place>;

  const auto&         of     = launch.of;
  const auto&         memory = of.memory;
  const group_memory& groups = memory.groups;
  const index_t       heads  = of.q.heads;
  launch(chunk_groups{
      .layer = of.layer, .clusters = memory.clusters, .groups = groups, .tokens = of.tokens, .chunk = of.chunk});
  const list_leaders list = {
      .layer = of.layer, .groups = groups, .tokens = of.tokens, .chunk = of.chunk, .first = of.base};
  launch(list);
  in_slices(launch, [&](index_t first, index_t last, const leaf_memory& leaves) {
    const query_tokens<Scalar> leaders = {
        .q        = of.q,
        .out      = result_rows<Scalar>::of(packed_heads(memory.other_out, of.q.tokens, heads, Dim)),
        .list     = groups.leaders,
        .count    = groups.count,
        .valid    = of.layer.first.count,
        .kv_heads = of.kv_heads,
        .part     = of.chunk,
        .base     = of.base,
        .first    = first,
        .last     = last,
        .log_sums = {memory.other_sums, heads},
        .sets     = of.layer.sets,
        .stride   = of.tokens,
        .parts    = list.chunks()};
    launch.attend_keys(kernel{.queries = leaders, .far = of.leaves(leaves), .scale = of.scale});
  });
  const other_softmax other = {.out      = memory.other_out,
                               .log_sums = memory.other_sums,
                               .rows     = groups.leader,
                               .base     = of.base,
                               .sets     = of.layer.sets,
                               .stride   = of.tokens};
  launch.attend_keys(kernel{.queries     = of.everyone(),
                            .near        = of.window(),
                            .other       = other,
                            .scale       = of.scale,
                            .sink_logits = of.sink_logits()});
}

}  // namespace cascada::inline CASCADA_ABI::hip::attention
