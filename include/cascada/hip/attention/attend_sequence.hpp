#pragma once
// Attention of one sequence on gfx942: which kernels the options need, in which order.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

#include "cascada/attention_options.hpp"
#include "cascada/hip/attention/ask_leaves.hpp"
#include "cascada/hip/attention/attend.hpp"
#include "cascada/hip/attention/copy_results.hpp"
#include "cascada/hip/attention/count_older.hpp"
#include "cascada/hip/attention/extend_leaves.hpp"
#include "cascada/hip/attention/find_grown_anchors.hpp"
#include "cascada/hip/attention/form_leaves.hpp"
#include "cascada/hip/attention/launch_by_heads.hpp"
#include "cascada/hip/attention/leaf_statistics.hpp"
#include "cascada/hip/attention/leaves_by_keys.hpp"
#include "cascada/hip/attention/linked_leaves.hpp"
#include "cascada/hip/attention/list_far_rows.hpp"
#include "cascada/hip/attention/list_leaves.hpp"
#include "cascada/hip/attention/merge_segments.hpp"
#include "cascada/hip/attention/open_leaves.hpp"
#include "cascada/hip/attention/sequence.hpp"
#include "cascada/hip/attention/workspace.hpp"
#include "cascada/hip/base/growth.hpp"
#include "cascada/hip/base/launches.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// The launches of one sequence.
template <class Scalar, index_t Dim, class B, class Place = rows_in_order>
class attention_steps {
 public:
  attention_steps(const attention_options& options, heads_view<const Scalar> q, const placed_kv<Scalar, Place>& kv,
                  std::span<const selection_layer> selections, const result_rows<Scalar>& out,
                  const attention_memory<Scalar, B>& memory, const B& where, const head_terms& terms = {},
                  const row_sums& log_sums = {}, const growing_call& growing = {})
      : of_{options, q, kv, sets_of(selections, memory, kv.tokens()), out, memory, terms, log_sums, growing},
        options_(options),
        memory_(memory),
        selections_(selections),
        launch_(where) {
    if (kv.transposed.data) of_.kv.values = values_in_rows();
    if constexpr (Place::in_pages) of_.kv.place = {memory.pool_rows};
  }

  status run() {
    if (of_.layer.sets > 1) gather();
    if constexpr (Place::in_pages) find_rows_of_tokens();
    if (of_.kv.transposed.data) launch_(lay_out_values<Scalar>{of_.kv.transposed, values_in_rows(), there()});
    switch (options_.keys) {
      case key_set::all: attend_near(of_.all()); break;
      case key_set::near: attend_near(of_.window()); break;
      case key_set::representatives: attend_representatives(); break;
      case key_set::near_and_far: attend_near_and_far(); break;
    }
    return launch_.answer();
  }

 private:
  template <class Counts>
  using attend_as     = attend<Scalar, Dim, Counts, Place>;
  using kernel        = attend_as<counts_of_keys>;
  using kernel_pairs  = attend_as<counts_of_pairs>;
  using kernel_opened = attend_as<closed_leaves_of_bands>;
  template <class Counts>
  using ask_as      = ask_leaves<Scalar, Dim, Counts, Place>;
  using means_of_kv = leaf_means<Scalar, Place>;

  /// No selection, one, or those of the KV heads, once they are gathered.
  static selection_sets sets_of(std::span<const selection_layer> selections, const attention_memory<Scalar, B>& memory,
                                index_t tokens) {
    if (selections.size() > 1) return memory.selections.view(tokens, static_cast<index_t>(selections.size()));
    return selections.empty() ? selection_layer{} : selections[0];
  }

  void gather() {
    launch_by_heads(launch_, gather_selections{.to = memory_.selections, .tokens = of_.tokens}, selections_,
                    [](const selection_layer& one) {
                      return gather_selections::source{one.indices, one.rep, one.counts, one.count};
                    });
  }

  void find_rows_of_tokens() {
    launch_(find_rows{of_.kv.pages, of_.tokens, memory_.pool_rows, there()});
    if (memory_.member_rows) launch_(find_member_rows{of_.layer, memory_.pool_rows, memory_.member_rows});
  }

  tokens_there there() const {
    const growing_call& call = of_.growing;
    return call.slices ? tokens_there{&call.of.state->tokens, call.valid} : tokens_there{};
  }

  heads_view<Scalar> values_in_rows() const {
    return {.data         = memory_.values,
            .tokens       = of_.tokens,
            .heads        = of_.kv_heads,
            .dim          = Dim,
            .token_stride = Dim,
            .head_stride  = std::int64_t{of_.tokens} * Dim};
  }

  // Launch a kernel as it is, or the one that adjusts products, which is given the same.

  template <class Counts>
  void attend_keys(const attend_as<Counts>& given) {
    if (!of_.adjusts()) return launch_(given);
    if constexpr (attend_as<Counts>::logits_of::opens)
      launch_(adjusted<adjusted_closed_leaves_of_bands>(given));
    else if (of_.terms.slopes)
      launch_(adjusted<sloped_keys>(given));
    else
      launch_(adjusted<adjusted_counts>(given));
  }

  template <class As, class Counts>
  attend_as<As> adjusted(const attend_as<Counts>& given) const {
    const auto& [queries, far, near, other, scale, opened, segments, sink_logits, unadjusted] = given;
    return {queries, far, near, other, scale, opened, segments, sink_logits, of_.adjustment()};
  }

  /// All in one; or where segments have blocks of their own, these leave their sums before leaves are compared.
  void ask_for_leaves(ask_as<leaves_of_bands> ask) {
    ask.segments = memory_.segments;
    if (ask.segments.blocks == 1) return ask_for_leaves(ask, ask_step::all);
    ask_for_leaves(ask, ask_step::sum);
    ask_for_leaves(ask, ask_step::compare);
  }
  void ask_for_leaves(ask_as<leaves_of_bands>& ask, ask_step one) {
    ask.step = one;
    if (!of_.adjusts()) return launch_(ask);
    const auto& [queries, far, near, scale, log_open_above, opened, sink_logits, segments, step, unadjusted] = ask;
    launch_(ask_as<adjusted_leaves_of_bands>{queries, far, near, scale, log_open_above, opened, sink_logits, segments,
                                             step, of_.adjustment()});
  }

  void attend_near(const near_keys<Scalar, Place>& near) {
    attend_segments(
        kernel{.queries = of_.everyone(), .near = near, .scale = of_.scale, .sink_logits = of_.sink_logits()});
    merge();
  }

  /// Segments side by side, which `merge` joins; or one after the other, in slices of blocks whose softmaxes have room.
  template <class Kernel>
  void attend_segments(Kernel given) {
    given.segments = memory_.segments;
    if (given.segments.blocks > 1) return attend_keys(given);
    const index_t all = given.queries.blocks(), slice = std::min(memory_.blocks, all);
    for (index_t skipped = 0; skipped < all; skipped += slice) {
      given.queries.skipped = skipped, given.queries.most = slice;
      attend_keys(given);
    }
  }

  void merge() {
    if (memory_.segments.blocks > 1)
      launch_(merge_segments<Scalar, Dim>{.segments    = memory_.segments,
                                          .out         = of_.out,
                                          .valid       = of_.valid(),
                                          .scale       = of_.scale,
                                          .sink_logits = of_.sink_logits(),
                                          .sets        = of_.layer.sets,
                                          .log_sums    = of_.log_sums});
  }

  void list_members() {
    launch_(cluster_offsets{of_.layer, memory_.clusters});
    launch_(cluster_members{of_.layer, memory_.clusters, of_.tokens});
  }

  /// Leaves of the clusters, or each cluster as one, and the tables.
  void summarise() {
    const cluster_memory clusters = of_.members_of_leaves();
    const leaf_memory&   to       = memory_.leaves;
    list_members();
    if (detail::forms_by_keys(options_))
      leaves_by_keys<Scalar, Place>{.layer     = of_.layer,
                                    .clusters  = memory_.clusters,
                                    .chains    = memory_.chains,
                                    .leaves    = to,
                                    .keys      = of_.kv.key_rows(),
                                    .threshold = options_.leaf_threshold,
                                    .sinks     = options_.sink_tokens,
                                    .size      = options_.leaf}(launch_);
    else
      launch_(form_leaves{.layer    = of_.layer,
                          .clusters = clusters,
                          .leaves   = to,
                          .tokens   = of_.tokens,
                          .sinks    = of_.far() ? options_.sink_tokens : 0,
                          .size     = of_.far() ? options_.leaf : std::numeric_limits<index_t>::max()});
    launch_(list_leaves{of_.layer, to, of_.tokens});
    launch_(means_of_kv{.clusters  = clusters,
                        .leaves    = to,
                        .rows      = of_.kv.key_rows(),
                        .means     = memory_.mean_keys,
                        .variances = memory_.variances,
                        .moments   = options_.moments.value_or(0)});
    launch_(means_of_kv{.clusters = clusters, .leaves = to, .rows = of_.kv.value_rows(), .means = memory_.mean_values});
  }

  /// The far fields of some chunks, or one of all tokens; with them, the leaves.
  leaf_memory list_far_fields(index_t first_chunk, index_t chunks) {
    leaf_memory leaves = memory_.leaves;
    leaves.first       = first_chunk;
    launch_(list_far_rows{.clusters = of_.members_of_leaves(),
                          .leaves   = leaves,
                          .tokens   = of_.tokens,
                          .chunk    = of_.chunk,
                          .window   = options_.window,
                          .chunks   = chunks});
    return leaves;
  }

  /// attend(first, last, leaves) for the tokens of as many chunks as there is room for their far fields.
  template <class Attend>
  void in_slices(const Attend& attend) {
    for (index_t first = of_.base; first < of_.end;) {
      const index_t begin = first / of_.chunk, left = (of_.end - 1) / of_.chunk + 1 - begin;
      const index_t chunks = std::min(memory_.chunks, left);
      const index_t last   = chunks == left ? of_.end : (begin + chunks) * of_.chunk;
      attend(first, last, list_far_fields(begin, chunks));
      first = last;
    }
  }

  /// r x r, and bidirectional T x r.
  void attend_representatives() {
    const bool all_tokens = options_.queries == query_set::all;
    if (averages(options_))
      attend_means(all_tokens);
    else if (options_.weighted)
      attend_counted();
    else
      attend_keys(kernel{.queries     = of_.representatives(),
                         .far         = of_.members(),
                         .scale       = of_.scale,
                         .sink_logits = of_.sink_logits()});
    if (!all_tokens) launch_(copy_results<Scalar>{of_.layer, of_.out, of_.log_sums});
  }

  /// Keys are the clusters' means, and so may queries be.
  void attend_means(bool all_tokens) {
    summarise();
    kernel given = {.queries     = all_tokens ? of_.everyone() : of_.representatives(),
                    .far         = of_.leaves(list_far_fields(0, 0)),
                    .scale       = of_.scale,
                    .sink_logits = of_.sink_logits()};
    if (!all_tokens) {
      launch_(leaf_means<Scalar>{.clusters = memory_.clusters,
                                 .leaves   = memory_.leaves,
                                 .rows     = of_.q,
                                 .means    = memory_.mean_queries,
                                 .sharing  = of_.q.heads / of_.kv_heads});
      given.queries.q       = {.data         = memory_.mean_queries,
                               .tokens       = of_.tokens,
                               .heads        = of_.q.heads,
                               .dim          = Dim,
                               .token_stride = Dim,
                               .head_stride  = std::int64_t{of_.tokens} * Dim};
      given.queries.list    = memory_.leaves.far_rows;
      given.queries.answers = of_.layer.first.indices;
    }
    attend_keys(given);
  }

  /// Weighted and causal: what a cluster counts depends on whose query it is, so counts are written slice by slice.
  void attend_counted() {
    list_members();
    for (index_t first = 0; first < of_.tokens; first += memory_.slice) {
      const index_t last = of_.tokens - first < memory_.slice ? of_.tokens : first + memory_.slice;
      launch_(count_older{.layer    = of_.layer,
                          .clusters = memory_.clusters,
                          .counts   = memory_.counts,
                          .first    = first,
                          .last     = last,
                          .unscale  = 1 / of_.scale});
      kernel_pairs given = {
          .queries = of_.representatives(), .far = of_.members(), .scale = of_.scale, .sink_logits = of_.sink_logits()};
      given.queries.first = first, given.queries.last = last;
      given.far.counts = memory_.counts;
      attend_keys(given);
    }
  }

  void attend_near_and_far() {
    if (detail::opens_everything(options_)) return attend_near(of_.all());
    if (of_.growing.slices) return attend_grown();
    summarise();
    if (options_.queries == query_set::grouped) return attend_groups();
    if (detail::opens_by_mass(options_))
      in_slices([&](index_t first, index_t last, const leaf_memory& leaves) { attend_opened(first, last, leaves); });
    else
      in_slices([&](index_t first, index_t last, const leaf_memory& leaves) { attend_closed(first, last, leaves); });
    merge();
  }

  /// Queries of tokens [first, last).
  void attend_closed(index_t first, index_t last, const leaf_memory& leaves) {
    kernel given        = {.queries     = of_.everyone(),
                           .far         = of_.leaves(leaves),
                           .near        = of_.window(),
                           .scale       = of_.scale,
                           .sink_logits = of_.sink_logits()};
    given.queries.first = first, given.queries.last = last;
    attend_segments(given);
  }

  /// The last chunk's far field gets what it lacks; then queries follow, in slices of as many chunks, or bands, as
  /// there is room for their far fields, or for what they ask for.
  void attend_grown() {
    const growing_call& call = of_.growing;
    join_leaves();
    for (index_t k = 0; k < call.count; ++k) {
      launch_(list_grown_rows{.of     = call.of,
                              .leaves = call.leaves,
                              .slice  = call.slices + k,
                              .room   = of_.tokens,
                              .chunk  = of_.chunk,
                              .window = options_.window,
                              .chunks = call.fields});
      auto queries    = of_.everyone();
      queries.growing = call.slices + k;
      queries.last    = static_cast<index_t>(std::min(std::int64_t{of_.end}, std::int64_t{call.parts} * call.part));
      if (detail::opens_by_mass(options_))
        attend_bands(queries, of_.leaves(call.leaves),
                     linked_leaves<Place>{call.of, call.leaves, call.slices + k, call.remembered, of_.kv.place},
                     call.parts);
      else
        attend_segments(kernel{.queries     = queries,
                               .far         = of_.leaves(call.leaves),
                               .near        = of_.window(),
                               .scale       = of_.scale,
                               .sink_logits = of_.sink_logits()});
    }
    merge();
  }

  /// Tokens that leave the near field join leaves.
  void join_leaves() {
    const growing_call& call  = of_.growing;
    const index_t       sinks = options_.sink_tokens;
    if (detail::forms_by_keys(options_)) {
      find_chains();
      launch_(join_chains<true>{call.clusters, call.of, call.leaves, of_.tokens, call.most, sinks, options_.leaf});
    } else {
      launch_(join_chains<false>{call.clusters, call.of, call.leaves, of_.tokens, call.most, sinks, options_.leaf});
    }
    launch_(list_new_leaves{call.of, call.leaves, of_.tokens, call.most});
    launch_(extend_means<Scalar, Place>{
        .of          = call.of,
        .leaves      = call.leaves,
        .keys        = of_.kv.key_rows(),
        .values      = of_.kv.value_rows(),
        .mean_keys   = {memory_.mean_keys, memory_.variances, options_.moments.value_or(0), Dim},
        .mean_values = {memory_.mean_values, nullptr, 0, Dim},
        .most        = call.most});
  }

  /// They find their chains by keys, batch by batch.
  void find_chains() {
    const growing_call& call = of_.growing;
    for (index_t number = 0; number * chain_batch < call.most; ++number) {
      const joining_batch batch = {call.of, number};
      launch_(meet_grown_anchors<Scalar, Place>{.clusters  = call.clusters,
                                                .batch     = batch,
                                                .chains    = call.chains,
                                                .keys      = of_.kv.key_rows(),
                                                .threshold = options_.leaf_threshold});
      launch_(find_grown_anchors<Scalar, Place>{.clusters  = call.clusters,
                                                .batch     = batch,
                                                .chains    = call.chains,
                                                .chain     = call.leaves.chain,
                                                .keys      = of_.kv.key_rows(),
                                                .threshold = options_.leaf_threshold});
    }
  }

  /// Leaves of tokens [begin, end) open slice by slice.
  void attend_opened(index_t begin, index_t end, const leaf_memory& leaves) {
    const index_t band  = band_of(options_, of_.q.heads / of_.kv_heads, of_.tokens);
    const auto    slice = static_cast<index_t>(std::min<std::int64_t>(std::int64_t{memory_.bands} * band, of_.tokens));
    for (index_t first = begin; first < end; first += slice) {
      auto queries  = of_.everyone();
      queries.first = first, queries.last = end - first < slice ? end : first + slice;
      attend_bands(queries, of_.leaves(leaves),
                   formed_leaves<Place>{.layer    = of_.layer,
                                        .clusters = of_.members_of_leaves(),
                                        .formed   = leaves,
                                        .tokens   = of_.tokens,
                                        .begin    = first,
                                        .end      = queries.last,
                                        .row_of   = of_.kv.place},
                   (queries.last - first + band - 1) / band);
    }
  }

  /// Queries of some bands ask for leaves, what they asked for is listed, and they attend.
  template <class Leaves>
  void attend_bands(const query_tokens<Scalar>& queries, const listed_keys<Scalar>& far, const Leaves& leaves,
                    index_t bands) {
    opened_leaves opened = memory_.opened;
    opened.chunk         = of_.chunk;
    ask_for_leaves({.queries        = queries,
                    .far            = far,
                    .near           = of_.window(),
                    .scale          = of_.scale,
                    .log_open_above = std::log2(options_.open_above),
                    .opened         = opened,
                    .sink_logits    = of_.sink_logits()});
    launch_(open_leaves<Leaves>{.leaves         = leaves,
                                .opened         = opened,
                                .bands          = bands,
                                .band           = queries.part,
                                .tile           = std::min(options_.tile, of_.tokens),
                                .blocks_of_band = queries.blocks_of_part(),
                                .kv_heads       = of_.kv_heads,
                                .group          = of_.q.heads / of_.kv_heads});
    attend_segments(kernel_opened{.queries     = queries,
                                  .far         = far,
                                  .near        = of_.window(),
                                  .scale       = of_.scale,
                                  .opened      = opened,
                                  .sink_logits = of_.sink_logits()});
  }

  /// Groups read the far field, then every token its near field, and merges its group's answer.
  void attend_groups() {
    const group_memory& groups = memory_.groups;
    const index_t       heads  = of_.q.heads;
    launch_(chunk_groups{
        .layer = of_.layer, .clusters = memory_.clusters, .groups = groups, .tokens = of_.tokens, .chunk = of_.chunk});
    const list_leaders list = {
        .layer = of_.layer, .groups = groups, .tokens = of_.tokens, .chunk = of_.chunk, .first = of_.base};
    launch_(list);
    in_slices([&](index_t first, index_t last, const leaf_memory& leaves) {
      const query_tokens<Scalar> leaders = {
          .q        = of_.q,
          .out      = result_rows<Scalar>::of(packed_heads(memory_.other_out, of_.q.tokens, heads, Dim)),
          .list     = groups.leaders,
          .count    = groups.count,
          .valid    = of_.layer.first.count,
          .kv_heads = of_.kv_heads,
          .part     = of_.chunk,
          .base     = of_.base,
          .first    = first,
          .last     = last,
          .log_sums = {memory_.other_sums, heads},
          .sets     = of_.layer.sets,
          .stride   = of_.tokens,
          .parts    = list.chunks()};
      attend_keys(kernel{.queries = leaders, .far = of_.leaves(leaves), .scale = of_.scale});
    });
    const other_softmax other = {.out      = memory_.other_out,
                                 .log_sums = memory_.other_sums,
                                 .rows     = groups.leader,
                                 .base     = of_.base,
                                 .sets     = of_.layer.sets,
                                 .stride   = of_.tokens};
    attend_keys(kernel{.queries     = of_.everyone(),
                       .near        = of_.window(),
                       .other       = other,
                       .scale       = of_.scale,
                       .sink_logits = of_.sink_logits()});
  }

  attention_sequence<Scalar, B, Place> of_;
  const attention_options&             options_;
  const attention_memory<Scalar, B>&   memory_;
  std::span<const selection_layer>     selections_;
  launches<B>                          launch_;
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
