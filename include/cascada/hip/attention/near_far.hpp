#pragma once
// Attention of every token to its near field token by token, and to older tokens by leaf, launch by launch.

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "cascada/attention_options.hpp"
#include "cascada/hip/attention/attend_groups.hpp"
#include "cascada/hip/attention/extend_leaves.hpp"
#include "cascada/hip/attention/far_field.hpp"
#include "cascada/hip/attention/formed_leaves.hpp"
#include "cascada/hip/attention/linked_leaves.hpp"
#include "cascada/hip/attention/list_far_rows.hpp"
#include "cascada/hip/attention/open_leaves.hpp"
#include "cascada/hip/attention/sequence_launches.hpp"
#include "cascada/hip/attention/shapes.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Queries that open no leaves.
template <class Scalar, index_t Dim, class B, class Place>
void attend_closed(sequence_launches<Scalar, Dim, B, Place>& launch, const query_tokens<Scalar>& queries,
                   const listed_keys<Scalar>& far) {
  const auto& of = launch.of;
  launch.attend_segments(attend<Scalar, Dim, counts_of_keys, Place>{
      .queries = queries, .far = far, .near = of.window(), .scale = of.scale, .sink_logits = of.sink_logits()});
}

/// Queries of some bands ask for leaves, what they asked for is listed, and they attend.
template <class Scalar, index_t Dim, class B, class Place, class Leaves>
void attend_bands(sequence_launches<Scalar, Dim, B, Place>& launch, const query_tokens<Scalar>& queries,
                  const listed_keys<Scalar>& far, const Leaves& leaves, index_t bands) {
  const auto&   of     = launch.of;
  opened_leaves opened = of.memory.opened;
  opened.chunk         = of.chunk;
  launch.ask_for_leaves({.queries        = queries,
                         .far            = far,
                         .near           = of.window(),
                         .scale          = of.scale,
                         .log_open_above = std::log2(of.options.open_above),
                         .opened         = opened,
                         .sink_logits    = of.sink_logits()});
  launch(open_leaves<Leaves>{.leaves         = leaves,
                             .opened         = opened,
                             .bands          = bands,
                             .band           = queries.part,
                             .tile           = std::min(of.options.tile, of.tokens),
                             .blocks_of_band = queries.blocks_of_part(),
                             .kv_heads       = of.kv_heads,
                             .group          = of.q.heads / of.kv_heads});
  launch.attend_segments(attend<Scalar, Dim, closed_leaves_of_bands, Place>{.queries     = queries,
                                                                            .far         = far,
                                                                            .near        = of.window(),
                                                                            .scale       = of.scale,
                                                                            .opened      = opened,
                                                                            .sink_logits = of.sink_logits()});
}

/// Leaves of tokens [begin, end) open slice by slice.
template <class Scalar, index_t Dim, class B, class Place>
void attend_opened(sequence_launches<Scalar, Dim, B, Place>& launch, index_t begin, index_t end,
                   const leaf_memory& leaves) {
  const auto&   of    = launch.of;
  const index_t band  = band_of(of.options, of.q.heads / of.kv_heads, of.tokens);
  const auto    slice = static_cast<index_t>(std::min<std::int64_t>(std::int64_t{of.memory.bands} * band, of.tokens));
  for (index_t first = begin; first < end; first += slice) {
    auto queries  = of.everyone();
    queries.first = first, queries.last = end - first < slice ? end : first + slice;
    attend_bands(launch, queries, of.leaves(leaves),
                 formed_leaves<Place>{.layer    = of.layer,
                                      .clusters = of.members_of_leaves(),
                                      .formed   = leaves,
                                      .tokens   = of.tokens,
                                      .begin    = first,
                                      .end      = queries.last,
                                      .row_of   = of.kv.place},
                 (queries.last - first + band - 1) / band);
  }
}

/// Of a sequence that grows the last chunk's far field gets what it lacks; then queries follow, in slices of as many
/// chunks, or bands, as there is room for their far fields, or for what they ask for.
template <class Scalar, index_t Dim, class B, class Place>
void attend_grown(sequence_launches<Scalar, Dim, B, Place>& launch) {
  const auto&         of   = launch.of;
  const growing_call& call = of.growing;
  extend_leaves(launch);
  for (index_t k = 0; k < call.count; ++k) {
    launch(list_grown_rows{.of     = call.of,
                           .leaves = call.leaves,
                           .slice  = call.slices + k,
                           .room   = of.tokens,
                           .chunk  = of.chunk,
                           .window = of.options.window,
                           .chunks = call.fields});
    auto queries    = of.everyone();
    queries.growing = call.slices + k;
    queries.last    = static_cast<index_t>(std::min(std::int64_t{of.end}, std::int64_t{call.parts} * call.part));
    if (detail::opens_by_mass(of.options))
      attend_bands(launch, queries, of.leaves(call.leaves),
                   linked_leaves<Place>{call.of, call.leaves, call.slices + k, call.remembered, of.kv.place},
                   call.parts);
    else
      attend_closed(launch, queries, of.leaves(call.leaves));
  }
}

template <class Scalar, index_t Dim, class B, class Place>
void attend_near_and_far(sequence_launches<Scalar, Dim, B, Place>& launch) {
  const auto& of = launch.of;
  if (of.growing.slices) {
    attend_grown(launch);
    return launch.merge();
  }
  summarise(launch);
  if (of.options.queries == query_set::grouped) return attend_groups(launch);
  in_slices(launch, [&](index_t first, index_t last, const leaf_memory& leaves) {
    if (detail::opens_by_mass(of.options)) return attend_opened(launch, first, last, leaves);
    auto queries  = of.everyone();
    queries.first = first, queries.last = last;
    attend_closed(launch, queries, of.leaves(leaves));
  });
  launch.merge();
}

}  // namespace cascada::inline CASCADA_ABI::hip::attention
