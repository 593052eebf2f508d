#pragma once
// Attention of one sequence on gfx942: which kernels the options ask for, in which order.

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <numbers>

#include "cascada/attention_options.hpp"
#include "cascada/hip/attend.hpp"
#include "cascada/hip/attend_chosen.hpp"
#include "cascada/hip/attention_memory.hpp"
#include "cascada/hip/choose_tokens.hpp"
#include "cascada/hip/count_older.hpp"
#include "cascada/hip/lift.hpp"
#include "cascada/hip/score_clusters.hpp"
#include "cascada/kv_view.hpp"

namespace cascada::inline CASCADA_ABI::hip {

/// Launches kernels until one fails.
template <gfx942_stream B>
class launches {
 public:
  explicit launches(const B& where) : where_(where) {}

  template <class Kernel>
  void operator()(const Kernel& kernel) {
    if (answer_ == status::ok) answer_ = where_.launch(kernel);
  }
  status answer() const { return answer_; }

 private:
  const B& where_;
  status   answer_ = status::ok;
};

template <class Scalar, class Out, index_t Dim, class B>
class attention_sequence {
 public:
  attention_sequence(const attention_options& options, heads_view<const Scalar> q, const strided_kv<Scalar>& kv,
                     const selection_layer& layer, heads_view<Out> out, const attention_memory<Scalar, B>& memory,
                     const B& where)
      : options_(options), q_(q), kv_(kv), layer_(layer), out_(out), memory_(memory), launch_(where) {
    const double scale = options.scale > 0 ? options.scale : 1.0 / std::sqrt(static_cast<double>(Dim));
    scale_             = static_cast<float>(scale * std::numbers::log2e);
  }

  status run() {
    switch (options_.keys) {
      case key_set::all: launch_(tokens_to(all())); break;
      case key_set::near: launch_(tokens_to(window())); break;
      case key_set::representatives: attend_representatives(); break;
      case key_set::near_and_far: attend_near_and_far(); break;
    }
    return launch_.answer();
  }

 private:
  using kernel        = attend<Scalar, Out, Dim>;
  using kernel_pairs  = attend<Scalar, Out, Dim, counts_of_pairs>;
  using kernel_groups = attend<Scalar, float, Dim>;

  // Parts of the kernel's question.

  operand_rows<Scalar> own_rows() const {
    return {kv_.keys.data, kv_.values.data, kv_.keys.token_stride, kv_.keys.head_stride, kv_.values.token_stride,
            kv_.values.head_stride};
  }
  operand_rows<Scalar> means() const {
    const std::int64_t head = std::int64_t{q_.tokens} * Dim;
    return {memory_.mean_keys, memory_.mean_values, Dim, head, Dim, head};
  }
  near_keys<Scalar> all() const { return {own_rows(), 0, true, options_.causal, true}; }
  near_keys<Scalar> window() const { return {own_rows(), options_.window, false, true, true}; }

  /// The clusters' means: those older than a chunk's near field, or all.
  listed_keys<Scalar> clusters() const {
    const bool far = options_.keys == key_set::near_and_far;
    return {means(), memory_.clusters.far_rows, memory_.clusters.far_count, memory_.clusters.offsets,
            1 / scale_, far ? q_.tokens : 0, false, {}};
  }
  query_tokens<Scalar, Out> tokens() const {
    const bool chunked = options_.keys == key_set::near || options_.keys == key_set::near_and_far;
    return {q_, out_, nullptr, nullptr, nullptr, layer_.count, kv_.kv_heads(), chunked ? options_.chunk : q_.tokens,
            0, q_.tokens, nullptr};
  }
  query_tokens<Scalar, Out> representatives() const {
    auto asking = tokens();
    asking.list = layer_.indices, asking.count = layer_.count;
    return asking;
  }
  kernel tokens_to(const near_keys<Scalar>& near) const { return {tokens(), {}, near, {}, scale_}; }

  /// Members of the clusters, and if `tables` says so their means.
  void summarise(bool tables) {
    const cluster_memory& to = memory_.clusters;
    launch_(cluster_offsets{layer_, to});
    launch_(cluster_members{layer_, to, q_.tokens});
    if (!tables) return;
    launch_(cluster_means<Scalar>{layer_, to, kv_.keys, memory_.mean_keys});
    launch_(cluster_means<Scalar>{layer_, to, kv_.values, memory_.mean_values});
    launch_(far_fields{layer_, to, q_.tokens, options_.chunk, options_.window,
                       options_.keys == key_set::representatives});
  }

  /// Modes 1 and 2, r x r, and bidirectional T x r.
  void attend_representatives() {
    const bool averages = options_.weighted && !options_.causal, everyone = options_.queries == query_set::all;
    if (options_.weighted) summarise(averages);
    if (averages) {
      kernel ask = {everyone ? tokens() : representatives(), clusters(), {}, {}, scale_};
      if (!everyone) {
        launch_(cluster_means<Scalar>{layer_, memory_.clusters, q_, memory_.mean_queries});
        ask.queries.q       = {memory_.mean_queries, q_.tokens, q_.heads, Dim, Dim, std::int64_t{q_.tokens} * Dim};
        ask.queries.list    = memory_.clusters.far_rows;
        ask.queries.answers = layer_.indices;
      }
      launch_(ask);
    } else {
      const listed_keys<Scalar> members = {own_rows(), layer_.indices, layer_.count, nullptr, 1, 0, options_.causal, {}};
      if (options_.weighted) attend_counted(members);
      else launch_(kernel{representatives(), members, {}, {}, scale_});
    }
    if (!everyone) launch_(lift<Out>{layer_, out_});
  }

  /// Weighted and causal: what a cluster counts depends on who asks, so counts are written slice by slice.
  void attend_counted(const listed_keys<Scalar>& members) {
    for_each_slice(0, [&](index_t first, index_t last) {
      launch_(count_older{layer_, memory_.clusters, memory_.refined.scores, first, last, 1 / scale_});
      kernel_pairs ask = {representatives(), members, {}, {}, scale_};
      ask.queries.first = first, ask.queries.last = last;
      ask.far.counts = memory_.refined.scores;
      launch_(ask);
    });
  }

  /// Modes 3, 4 and 5.
  void attend_near_and_far() {
    const std::int64_t covered = (std::int64_t{options_.budget} + options_.window) / options_.chunk + 1;
    const index_t      refined = covered * options_.chunk < q_.tokens ? static_cast<index_t>(covered) * options_.chunk : q_.tokens;
    if (options_.budget > 0 && refined == q_.tokens) return launch_(tokens_to(all()));
    summarise(true);
    if (options_.queries == query_set::grouped) return attend_groups();
    if (options_.budget > 0) return refine(refined);
    launch_(kernel{tokens(), clusters(), window(), {}, scale_});
  }

  /// Mode 4: groups ask the far field, then every token its near field, and merges its group's answer.
  void attend_groups() {
    const group_memory& groups = memory_.groups;
    launch_(chunk_groups{layer_, memory_.clusters, groups, q_.tokens, options_.chunk});
    launch_(list_askers{layer_, groups, q_.tokens, options_.chunk});
    query_tokens<Scalar, float> asking = {q_, packed_heads(memory_.other_out, q_.tokens, q_.heads, Dim), groups.asks,
                                          nullptr, groups.count, layer_.count, kv_.kv_heads(), options_.chunk, 0,
                                          q_.tokens, memory_.other_sums};
    if (options_.lookahead) {
      launch_(group_means<Scalar>{layer_, groups, q_, options_.chunk, memory_.mean_queries});
      asking.q = packed_heads(static_cast<const Scalar*>(memory_.mean_queries), q_.tokens, q_.heads, Dim);
    }
    launch_(kernel_groups{asking, clusters(), {}, {}, scale_});
    launch_(kernel{tokens(), {}, window(), {memory_.other_out, memory_.other_sums, groups.asker}, scale_});
  }

  /// Mode 5. Tokens before `begin` have no more far tokens than the budget: they are dense.
  void refine(index_t begin) {
    kernel dense       = tokens_to(all());
    dense.queries.last = begin;
    launch_(dense);
    if (memory_.log_sums) {  // heads choose together: their scores need a common measure. The output comes later
      kernel ask            = {tokens(), clusters(), window(), {}, scale_};
      ask.queries.first     = begin;
      ask.queries.log_sums  = memory_.log_sums;
      launch_(ask);
    }
    refined_slice slice = memory_.refined;
    slice.clusters = memory_.clusters, slice.valid = layer_.count, slice.log_sums = memory_.log_sums;
    slice.tokens = q_.tokens, slice.kv_heads = kv_.kv_heads(), slice.chunk = options_.chunk;
    slice.window = options_.window;
    for_each_slice(begin, [&](index_t first, index_t last) {
      slice.first = first, slice.last = last;
      launch_(score_clusters<Scalar, Dim>{slice, q_, memory_.mean_keys, scale_});
      launch_(list_candidates{slice});
      launch_(score_candidates<Scalar, Dim>{slice, q_, kv_.keys, scale_});
      launch_(choose_tokens{slice, 1 / scale_});
      launch_(attend_chosen<Scalar, Dim>{slice, q_, kv_.keys, kv_.values, memory_.other_out, memory_.other_sums, scale_});
      kernel_pairs ask = {tokens(), clusters(), window(), {memory_.other_out, memory_.other_sums, nullptr}, scale_};
      ask.queries.first = first, ask.queries.last = last;
      ask.far.counts = slice.scores;
      launch_(ask);
    });
  }

  template <class Function>
  void for_each_slice(index_t begin, Function function) {
    for (index_t first = begin; first < q_.tokens; first += memory_.slice)
      function(first, q_.tokens - first < memory_.slice ? q_.tokens : first + memory_.slice);
  }

  const attention_options&            options_;
  heads_view<const Scalar>            q_;
  strided_kv<Scalar>                  kv_;
  selection_layer                     layer_;
  heads_view<Out>                     out_;
  const attention_memory<Scalar, B>&  memory_;
  launches<B>                         launch_;
  float                               scale_;
};

}  // namespace cascada::inline CASCADA_ABI::hip
