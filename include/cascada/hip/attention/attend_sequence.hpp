#pragma once
// Attention of one sequence on gfx942, by the mode that the options ask for: which kernels, in which order.

#include <cstdint>
#include <span>

#include "cascada/attention_options.hpp"
#include "cascada/hip/attention/compressed.hpp"
#include "cascada/hip/attention/find_rows.hpp"
#include "cascada/hip/attention/launch_by_heads.hpp"
#include "cascada/hip/attention/lay_out_values.hpp"
#include "cascada/hip/attention/near_far.hpp"
#include "cascada/hip/attention/selection_sets.hpp"
#include "cascada/hip/attention/sequence.hpp"
#include "cascada/hip/attention/sequence_launches.hpp"
#include "cascada/hip/attention/workspace.hpp"
#include "cascada/hip/base/selection_layer.hpp"
#include "cascada/status.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// No selection, one, or those of the KV heads, once they are gathered.
template <class Scalar, class B>
selection_sets sets_of(std::span<const selection_layer> selections, const attention_memory<Scalar, B>& memory,
                       index_t tokens) {
  if (selections.size() > 1) return memory.selections.view(tokens, static_cast<index_t>(selections.size()));
  return selections.empty() ? selection_layer{} : selections[0];
}

/// Brings what the kernels read: selections side by side, rows of a pool by token, values in rows.
template <class Scalar, index_t Dim, class B, class Place>
void bring_operands(sequence_launches<Scalar, Dim, B, Place>& launch, std::span<const selection_layer> selections) {
  const auto& of     = launch.of;
  const auto& memory = of.memory;
  if (of.layer.sets > 1)
    launch_by_heads(launch, gather_selections{.to = memory.selections, .tokens = of.tokens}, selections,
                    [](const selection_layer& one) {
                      return gather_selections::source{one.indices, one.rep, one.counts, one.count};
                    });
  if constexpr (Place::in_pages) {
    launch(find_rows{of.kv.pages, of.tokens, memory.pool_rows, of.there()});
    if (memory.member_rows) launch(find_member_rows{of.layer, memory.pool_rows, memory.member_rows});
  }
  if (of.kv.transposed.data) launch(lay_out_values<Scalar>{of.kv.transposed, of.values_in_rows(), of.there()});
}

/// Every query attends to keys token by token.
template <class Scalar, index_t Dim, class B, class Place>
void attend_near(sequence_launches<Scalar, Dim, B, Place>& launch, const near_keys<Scalar, Place>& near) {
  const auto& of = launch.of;
  launch.attend_segments(attend<Scalar, Dim, counts_of_keys, Place>{
      .queries = of.everyone(), .near = near, .scale = of.scale, .sink_logits = of.sink_logits()});
  launch.merge();
}

/// Puts the launches of one sequence on the stream.
template <class Scalar, index_t Dim, class B, class Place = rows_in_order>
status attend_sequence(const attention_options& options, heads_view<const Scalar> q, const placed_kv<Scalar, Place>& kv,
                       std::span<const selection_layer> selections, const result_rows<Scalar>& out,
                       const attention_memory<Scalar, B>& memory, const B& where, const head_terms& terms = {},
                       const row_sums& log_sums = {}, const growing_call& growing = {}) {
  const selection_sets                     layer  = sets_of(selections, memory, kv.tokens());
  sequence_launches<Scalar, Dim, B, Place> launch = {launches<B>(where),
                                                     {options, q, kv, layer, out, memory, terms, log_sums, growing}};
  auto&                                    of     = launch.of;
  if (kv.transposed.data) of.kv.values = of.values_in_rows();
  if constexpr (Place::in_pages) of.kv.place = {memory.pool_rows};
  bring_operands(launch, selections);
  switch (options.keys) {
    case key_set::all: attend_near(launch, of.all()); break;
    case key_set::near: attend_near(launch, of.window()); break;
    case key_set::representatives: attend_representatives(launch); break;
    case key_set::near_and_far:
      detail::opens_everything(options) ? attend_near(launch, of.all()) : attend_near_and_far(launch);
      break;
  }
  return launch.answer();
}

}  // namespace cascada::inline CASCADA_ABI::hip::attention
