#pragma once
// Attention of one sequence on gfx942: which kernels the options ask for, in which order.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>

#include "cascada/attention_options.hpp"
#include "cascada/hip/attention/attend.hpp"
#include "cascada/hip/attention/workspace.hpp"
#include "cascada/hip/attention/count_older.hpp"
#include "cascada/hip/attention/copy_results.hpp"
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
    const double scale = options.scale ? double{*options.scale} : 1.0 / std::sqrt(static_cast<double>(Dim));
    scale_             = static_cast<float>(scale * std::numbers::log2e);
    chunk_             = std::min(options.chunk, q.tokens);  // the kernels add it to positions
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
    return {kv_.keys.data,        kv_.values.data,         kv_.keys.token_stride,
            kv_.keys.head_stride, kv_.values.token_stride, kv_.values.head_stride};
  }
  operand_rows<Scalar> means() const {
    const std::int64_t head = std::int64_t{q_.tokens} * Dim;
    return {memory_.mean_keys, memory_.mean_values, Dim, head, Dim, head};
  }
  near_keys<Scalar> all() const { return {own_rows(), 0, 0, true, options_.causal, true}; }
  near_keys<Scalar> window() const { return {own_rows(), options_.window, options_.sink_tokens, false, true, true}; }

  /// The leaves' means: those older than a chunk's near field, or of whole clusters.
  listed_keys<Scalar> leaves() const {
    const float          log2e     = std::numbers::log2e_v<float>;
    const leaf_variances variances = {memory_.variances, std::int64_t{q_.tokens} * variance_parts,
                                      options_.moments.value_or(0), scale_ / log2e / 2,
                                      largest_correction * log2e / scale_};
    return {means(),
            memory_.leaves.far_rows,
            memory_.leaves.far_count,
            memory_.leaves.ranges,
            1 / scale_,
            far() ? q_.tokens : 0,
            false,
            {},
            variances};
  }
  query_tokens<Scalar, Out> tokens() const {
    const bool chunked = options_.keys == key_set::near || options_.keys == key_set::near_and_far;
    return {q_, out_,      nullptr, nullptr, nullptr, layer_.count, kv_.kv_heads(), chunked ? chunk_ : q_.tokens,
            0,  q_.tokens, nullptr};
  }
  query_tokens<Scalar, Out> representatives() const {
    auto asking = tokens();
    asking.list = layer_.indices, asking.count = layer_.count;
    return asking;
  }
  kernel tokens_to(const near_keys<Scalar>& near) const { return {tokens(), {}, near, {}, scale_}; }

  bool far() const { return options_.keys == key_set::near_and_far; }

  void list_members() {
    launch_(cluster_offsets{layer_, memory_.clusters});
    launch_(cluster_members{layer_, memory_.clusters, q_.tokens});
  }

  /// Leaves of the clusters, or each cluster as one, and the tables.
  void summarise() {
    const cluster_memory& clusters = memory_.clusters;
    const leaf_memory&    to       = memory_.leaves;
    const index_t         sinks    = far() ? options_.sink_tokens : 0;
    const index_t         size     = far() ? options_.leaf : std::numeric_limits<index_t>::max();
    list_members();
    launch_(open_leaves{layer_, clusters, to, q_.tokens, sinks, size});
    launch_(list_leaves{layer_, to, q_.tokens});
    launch_(
        leaf_means<Scalar>{clusters, to, kv_.keys, memory_.mean_keys, memory_.variances, options_.moments.value_or(0)});
    launch_(leaf_means<Scalar>{clusters, to, kv_.values, memory_.mean_values, nullptr, 0});
    launch_(far_fields{clusters, to, q_.tokens, chunk_, options_.window, !far()});
  }

  /// r x r, and bidirectional T x r.
  void attend_representatives() {
    const bool everyone = options_.queries == query_set::all;
    if (averages(options_)) {
      summarise();
      kernel ask = {everyone ? tokens() : representatives(), leaves(), {}, {}, scale_};
      if (!everyone) {
        launch_(leaf_means<Scalar>{memory_.clusters, memory_.leaves, q_, memory_.mean_queries, nullptr, 0});
        ask.queries.q       = {memory_.mean_queries, q_.tokens, q_.heads, Dim, Dim, std::int64_t{q_.tokens} * Dim};
        ask.queries.list    = memory_.leaves.far_rows;
        ask.queries.answers = layer_.indices;
      }
      launch_(ask);
    } else {
      const listed_keys<Scalar> members = {own_rows(), layer_.indices,  layer_.count, nullptr, 1,
                                           0,          options_.causal, {},           {}};
      if (options_.weighted)
        attend_counted(members);
      else
        launch_(kernel{representatives(), members, {}, {}, scale_});
    }
    if (!everyone) launch_(lift<Out>{layer_, out_});
  }

  /// Weighted and causal: what a cluster counts depends on who asks, so counts are written slice by slice.
  void attend_counted(const listed_keys<Scalar>& members) {
    list_members();
    for (index_t first = 0; first < q_.tokens; first += memory_.slice) {
      const index_t last = q_.tokens - first < memory_.slice ? q_.tokens : first + memory_.slice;
      launch_(count_older{layer_, memory_.clusters, memory_.counts, first, last, 1 / scale_});
      kernel_pairs ask  = {representatives(), members, {}, {}, scale_};
      ask.queries.first = first, ask.queries.last = last;
      ask.far.counts = memory_.counts;
      launch_(ask);
    }
  }

  void attend_near_and_far() {
    if (options_.open == opening::all) return launch_(tokens_to(all()));
    summarise();
    if (options_.queries == query_set::grouped) return attend_groups();
    launch_(kernel{tokens(), leaves(), window(), {}, scale_});
  }

  /// Groups ask the far field, then every token its near field, and merges its group's answer.
  void attend_groups() {
    const group_memory& groups = memory_.groups;
    launch_(chunk_groups{layer_, memory_.clusters, groups, q_.tokens, chunk_});
    launch_(list_askers{layer_, groups, q_.tokens, chunk_});
    const query_tokens<Scalar, float> asking = {q_,
                                                packed_heads(memory_.other_out, q_.tokens, q_.heads, Dim),
                                                groups.asks,
                                                nullptr,
                                                groups.count,
                                                layer_.count,
                                                kv_.kv_heads(),
                                                chunk_,
                                                0,
                                                q_.tokens,
                                                memory_.other_sums};
    launch_(kernel_groups{asking, leaves(), {}, {}, scale_});
    launch_(kernel{tokens(), {}, window(), {memory_.other_out, memory_.other_sums, groups.asker}, scale_});
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

}  // namespace cascada::inline CASCADA_ABI::hip
