#pragma once
// Attention of one sequence on gfx942: which kernels the options ask for, in which order.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>

#include "cascada/attention_options.hpp"
#include "cascada/hip/attention/ask_leaves.hpp"
#include "cascada/hip/attention/attend.hpp"
#include "cascada/hip/attention/copy_results.hpp"
#include "cascada/hip/attention/count_older.hpp"
#include "cascada/hip/attention/leaves_by_keys.hpp"
#include "cascada/hip/attention/open_leaves.hpp"
#include "cascada/hip/attention/workspace.hpp"
#include "cascada/hip/base/launches.hpp"
#include "cascada/kv_view.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// The launches of one sequence.
template <class Scalar, class Out, index_t Dim, class B>
class attention_steps {
 public:
  attention_steps(const attention_options& options, heads_view<const Scalar> q, const strided_kv<Scalar>& kv,
                  const selection_layer& layer, heads_view<Out> out, const attention_memory<Scalar, B>& memory,
                  const B& where)
      : options_(options), q_(q), kv_(kv), layer_(layer), out_(out), memory_(memory), launch_(where) {
    scale_ = detail::scale_in_base_2(options, Dim);
    chunk_ = std::min(options.chunk, q.tokens);  // the kernels add it to positions
  }

  status run() {
    switch (options_.keys) {
      case key_set::all: ask_near(all()); break;
      case key_set::near: ask_near(window()); break;
      case key_set::representatives: attend_representatives(); break;
      case key_set::near_and_far: attend_near_and_far(); break;
    }
    return launch_.answer();
  }

 private:
  using kernel        = attend<Scalar, Out, Dim>;
  using kernel_pairs  = attend<Scalar, Out, Dim, counts_of_pairs>;
  using kernel_groups = attend<Scalar, float, Dim>;
  using kernel_opened = attend<Scalar, Out, Dim, closed_leaves_of_bands>;

  // Parts of the kernel's question.

  operand_rows<Scalar> own_rows() const {
    return {.keys       = kv_.keys.data,
            .values     = kv_.values.data,
            .key_row    = kv_.keys.token_stride,
            .key_head   = kv_.keys.head_stride,
            .value_row  = kv_.values.token_stride,
            .value_head = kv_.values.head_stride};
  }
  operand_rows<Scalar> means() const {
    const std::int64_t head = std::int64_t{q_.tokens} * Dim;
    return {.keys       = memory_.mean_keys,
            .values     = memory_.mean_values,
            .key_row    = Dim,
            .key_head   = head,
            .value_row  = Dim,
            .value_head = head};
  }
  near_keys<Scalar> all() const {
    return {.rows = own_rows(), .unlimited = true, .causal = options_.causal, .exists = true};
  }
  near_keys<Scalar> window() const {
    return {
        .rows = own_rows(), .window = options_.window, .sinks = options_.sink_tokens, .causal = true, .exists = true};
  }

  /// The leaves' means: those older than a chunk's near field, or of whole clusters.
  listed_keys<Scalar> leaves() const {
    const float          log2e     = std::numbers::log2e_v<float>;
    const leaf_variances variances = {.rows       = memory_.variances,
                                      .head       = std::int64_t{q_.tokens} * variance_parts,
                                      .groups     = options_.moments.value_or(0),
                                      .half_scale = scale_ / log2e / 2,
                                      .most       = largest_correction * log2e / scale_};
    return {.rows      = means(),
            .list      = memory_.leaves.far_rows,
            .count     = memory_.leaves.far_count,
            .leaves    = memory_.leaves.ranges,
            .unit      = 1 / scale_,
            .stride    = far() ? q_.tokens : 0,
            .sets      = memory_.leaves.sets,
            .variances = variances};
  }
  query_tokens<Scalar, Out> everyone() const {
    const bool chunked = detail::kinds_of(options_.keys).near_field;
    return {.q        = q_,
            .out      = out_,
            .valid    = layer_.count,
            .kv_heads = kv_.kv_heads(),
            .chunk    = chunked ? chunk_ : q_.tokens,
            .last     = q_.tokens};
  }
  query_tokens<Scalar, Out> representatives() const {
    auto asking = everyone();
    asking.list = layer_.indices, asking.count = layer_.count;
    return asking;
  }

  bool far() const { return detail::kinds_of(options_.keys).far_field; }

  void ask_near(const near_keys<Scalar>& near) {
    launch_(kernel{.queries = everyone(), .near = near, .scale = scale_});
  }

  void list_members() {
    launch_(cluster_offsets{layer_, memory_.clusters});
    launch_(cluster_members{layer_, memory_.clusters, q_.tokens});
  }

  /// Members of clusters, leaf by leaf.
  cluster_memory members_of_leaves() const {
    return detail::forms_by_keys(options_) ? cluster_memory{nullptr, memory_.chains.members} : memory_.clusters;
  }

  /// Leaves of the clusters, or each cluster as one, and the tables.
  void summarise() {
    const cluster_memory clusters = members_of_leaves();
    const leaf_memory&   to       = memory_.leaves;
    list_members();
    if (detail::forms_by_keys(options_))
      leaves_by_keys<Scalar>{.layer     = layer_,
                             .clusters  = memory_.clusters,
                             .chains    = memory_.chains,
                             .leaves    = to,
                             .keys      = kv_.keys,
                             .threshold = options_.leaf_threshold,
                             .sinks     = options_.sink_tokens,
                             .size      = options_.leaf}(launch_);
    else
      launch_(form_leaves{.layer    = layer_,
                          .clusters = clusters,
                          .leaves   = to,
                          .tokens   = q_.tokens,
                          .sinks    = far() ? options_.sink_tokens : 0,
                          .size     = far() ? options_.leaf : std::numeric_limits<index_t>::max()});
    launch_(list_leaves{layer_, to, q_.tokens});
    launch_(leaf_means<Scalar>{.clusters  = clusters,
                               .leaves    = to,
                               .rows      = kv_.keys,
                               .means     = memory_.mean_keys,
                               .variances = memory_.variances,
                               .moments   = options_.moments.value_or(0)});
    launch_(leaf_means<Scalar>{.clusters = clusters, .leaves = to, .rows = kv_.values, .means = memory_.mean_values});
    launch_(far_fields{.clusters = clusters,
                       .leaves   = to,
                       .tokens   = q_.tokens,
                       .chunk    = chunk_,
                       .window   = options_.window,
                       .whole    = !far()});
  }

  /// r x r, and bidirectional T x r.
  void attend_representatives() {
    const bool all_ask = options_.queries == query_set::all;
    if (averages(options_)) {
      summarise();
      kernel ask = {.queries = all_ask ? everyone() : representatives(), .far = leaves(), .scale = scale_};
      if (!all_ask) {
        launch_(leaf_means<Scalar>{
            .clusters = memory_.clusters, .leaves = memory_.leaves, .rows = q_, .means = memory_.mean_queries});
        ask.queries.q       = {.data         = memory_.mean_queries,
                               .tokens       = q_.tokens,
                               .heads        = q_.heads,
                               .dim          = Dim,
                               .token_stride = Dim,
                               .head_stride  = std::int64_t{q_.tokens} * Dim};
        ask.queries.list    = memory_.leaves.far_rows;
        ask.queries.answers = layer_.indices;
      }
      launch_(ask);
    } else {
      const listed_keys<Scalar> members = {
          .rows = own_rows(), .list = layer_.indices, .count = layer_.count, .causal = options_.causal};
      if (options_.weighted)
        attend_counted(members);
      else
        launch_(kernel{.queries = representatives(), .far = members, .scale = scale_});
    }
    if (!all_ask) launch_(copy_results<Out>{layer_, out_});
  }

  /// Weighted and causal: what a cluster counts depends on who asks, so counts are written slice by slice.
  void attend_counted(const listed_keys<Scalar>& members) {
    list_members();
    for (index_t first = 0; first < q_.tokens; first += memory_.slice) {
      const index_t last = q_.tokens - first < memory_.slice ? q_.tokens : first + memory_.slice;
      launch_(count_older{.layer    = layer_,
                          .clusters = memory_.clusters,
                          .counts   = memory_.counts,
                          .first    = first,
                          .last     = last,
                          .unscale  = 1 / scale_});
      kernel_pairs ask  = {.queries = representatives(), .far = members, .scale = scale_};
      ask.queries.first = first, ask.queries.last = last;
      ask.far.counts = memory_.counts;
      launch_(ask);
    }
  }

  void attend_near_and_far() {
    if (options_.open == opening::all) return ask_near(all());
    summarise();
    if (options_.queries == query_set::grouped) return attend_groups();
    if (options_.open == opening::by_mass) return attend_opened();
    launch_(kernel{.queries = everyone(), .far = leaves(), .near = window(), .scale = scale_});
  }

  /// Leaves open slice by slice: queries ask, what they asked for is listed, and they attend.
  void attend_opened() {
    const index_t group = q_.heads / kv_.kv_heads(), tile = std::min(options_.tile, q_.tokens);
    const index_t band   = std::min(band_of(options_, group), q_.tokens);
    const auto    slice  = static_cast<index_t>(std::min<std::int64_t>(std::int64_t{memory_.bands} * band, q_.tokens));
    opened_leaves opened = memory_.opened;
    opened.chunk         = chunk_;
    for (index_t first = 0; first < q_.tokens; first += slice) {
      const index_t                     last   = q_.tokens - first < slice ? q_.tokens : first + slice;
      const query_tokens<Scalar, float> askers = {.q        = q_,
                                                  .out      = {},
                                                  .valid    = layer_.count,
                                                  .kv_heads = kv_.kv_heads(),
                                                  .chunk    = band,
                                                  .first    = first,
                                                  .last     = last};
      launch_(ask_leaves<Scalar, Dim>{.queries        = askers,
                                      .far            = leaves(),
                                      .near           = window(),
                                      .scale          = scale_,
                                      .log_open_above = std::log2(options_.open_above),
                                      .opened         = opened});
      launch_(open_leaves{.layer          = layer_,
                          .clusters       = members_of_leaves(),
                          .leaves         = memory_.leaves,
                          .opened         = opened,
                          .tokens         = q_.tokens,
                          .first          = first,
                          .last           = last,
                          .band           = band,
                          .tile           = tile,
                          .blocks_of_band = askers.blocks_of_chunk(),
                          .kv_heads       = kv_.kv_heads(),
                          .group          = group});
      kernel_opened ask = {.queries = everyone(), .far = leaves(), .near = window(), .scale = scale_, .opened = opened};
      ask.queries.chunk = band, ask.queries.first = first, ask.queries.last = last;
      launch_(ask);
    }
  }

  /// Groups ask the far field, then every token its near field, and merges its group's answer.
  void attend_groups() {
    const group_memory& groups = memory_.groups;
    launch_(chunk_groups{
        .layer = layer_, .clusters = memory_.clusters, .groups = groups, .tokens = q_.tokens, .chunk = chunk_});
    launch_(list_askers{.layer = layer_, .groups = groups, .tokens = q_.tokens, .chunk = chunk_});
    const query_tokens<Scalar, float> askers = {.q        = q_,
                                                .out      = packed_heads(memory_.other_out, q_.tokens, q_.heads, Dim),
                                                .list     = groups.asks,
                                                .count    = groups.count,
                                                .valid    = layer_.count,
                                                .kv_heads = kv_.kv_heads(),
                                                .chunk    = chunk_,
                                                .last     = q_.tokens,
                                                .log_sums = memory_.other_sums};
    launch_(kernel_groups{.queries = askers, .far = leaves(), .scale = scale_});
    launch_(kernel{.queries = everyone(),
                   .near    = window(),
                   .other   = {.out = memory_.other_out, .log_sums = memory_.other_sums, .rows = groups.asker},
                   .scale   = scale_});
  }

  const attention_options&           options_;
  heads_view<const Scalar>           q_;
  strided_kv<Scalar>                 kv_;
  selection_layer                    layer_;
  heads_view<Out>                    out_;
  const attention_memory<Scalar, B>& memory_;
  launches<B>                        launch_;
  float                              scale_;
  index_t                            chunk_;
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
