#pragma once
// Cascada's attention as an operation of a ggml graph, on the tensors of ggml's K/V cache in place.
//
// It stands where ggml_flash_attn_ext does, takes what that takes, and gives what that gives. README.md says where in
// an engine it goes.

#include <ggml.h>

#include <algorithm>
#include <atomic>
#include <cascada/cpu/attention/attention.hpp>
#include <cascada/cpu/select/growing.hpp>
#include <cstdint>
#include <limits>
#include <new>
#include <span>
#include <utility>
#include <vector>

#include "graph_threads.hpp"
#include "kv_cells.hpp"

namespace ggml_cascada {

using backend = cascada::cpu<cascada::compiled_isa, graph_executor>;

/// What an operation reads. Shapes are ggml's, the dimension whose elements are next to each other first:
///
/// q          F32 [key_dim, tokens, heads, streams]: the last positions of each stream's sequence, ascending
/// k          F16 or Q8_0 [key_dim, cells, kv_heads, streams]
/// v          F16 [value_dim, cells, kv_heads, streams] with any strides: a transposed cache goes in as ggml_transpose
///            has it. Beside keys of Q8_0 also Q8_0
/// mask       F16 or F32 [cells, at least tokens, 1, streams or 1]: 0 where a token sees a cell, else -infinity. It is
///            causal, with cells that are empty or somebody else's, and nothing else. Null: every cell is seen
/// positions  I32 [cells, streams]: the position of the token that a cell holds, negative where a cell is not of the
///            stream's sequence. Null: dense attention takes the order from the mask; near + far and sliding windows
///            need positions
/// sinks      F32 [heads]: a learned logit for each query head, as ggml_flash_attn_ext_add_sinks has it. Null: none
/// features   F32 [width, 1 or kv_heads, tokens, streams]: what near + far selects representatives by, of the tokens of
///            q: the rows that enter the layer, or each KV head's new keys. Null where nothing is selected
struct tensors {
  ggml_tensor* q         = nullptr;
  ggml_tensor* k         = nullptr;
  ggml_tensor* v         = nullptr;
  ggml_tensor* mask      = nullptr;
  ggml_tensor* positions = nullptr;
  ggml_tensor* sinks     = nullptr;
  ggml_tensor* features  = nullptr;
};

namespace detail {

inline status check_rows(const ggml_tensor* q, const ggml_tensor* k, const ggml_tensor* v) {
  if (!q || !k || !v) return {status::invalid_shape, "q, k or v is null"};
  if (q->type != GGML_TYPE_F32) return {status::unsupported, "q is not F32"};
  if (k->type != GGML_TYPE_F16 && k->type != GGML_TYPE_Q8_0) return {status::unsupported, "k is neither F16 nor Q8_0"};
  if (v->type != GGML_TYPE_F16 && v->type != GGML_TYPE_Q8_0) return {status::unsupported, "v is neither F16 nor Q8_0"};
  if (v->type == GGML_TYPE_Q8_0 && k->type != GGML_TYPE_Q8_0) return {status::unsupported, "v is Q8_0 beside k of F16"};
  if (q->nb[0] != sizeof(float)) return {status::invalid_shape, "q has rows whose elements are not next to each other"};
  if (k->nb[0] != ggml_type_size(k->type))
    return {status::invalid_shape, "k has rows whose elements are not next to each other"};
  if (v->type == GGML_TYPE_Q8_0 && v->nb[0] != ggml_type_size(v->type))
    return {status::invalid_shape, "v is Q8_0 and transposed"};
  for (const ggml_tensor* each : {q, k, v})
    for (const std::int64_t extent : each->ne)
      if (extent < 1 || extent > cascada::detail::largest_size)
        return {status::too_large, "q, k or v has an extent of 0, or of more than 2^31 - 4097"};
  if (k->ne[0] != q->ne[0]) return {status::invalid_shape, "k has rows of another length than q"};
  if (v->ne[1] != k->ne[1]) return {status::invalid_shape, "v has not as many cells as k"};
  if (v->ne[2] != k->ne[2]) return {status::invalid_shape, "v has not as many heads as k"};
  if (q->ne[2] % k->ne[2] != 0) return {status::invalid_shape, "the heads of q are no multiple of those of k"};
  if (k->ne[3] != q->ne[3] || v->ne[3] != q->ne[3])
    return {status::invalid_shape, "q, k and v have not as many streams"};
  return status::ok;
}

inline status check_mask(const tensors& in, const cascada::attention_options& options) {
  const ggml_tensor* const mask = in.mask;
  if (!mask && options.causal && in.q->ne[1] > 1)
    return {status::invalid_shape, "mask is null, and q has several tokens"};
  if (!mask) return status::ok;
  if (mask->type != GGML_TYPE_F16 && mask->type != GGML_TYPE_F32)
    return {status::unsupported, "mask is neither F16 nor F32"};
  if (mask->nb[0] != ggml_type_size(mask->type))
    return {status::invalid_shape, "mask has rows whose elements are not next to each other"};
  if (mask->ne[0] != in.k->ne[1]) return {status::invalid_shape, "mask has not as many columns as k has cells"};
  if (mask->ne[1] < in.q->ne[1]) return {status::invalid_shape, "mask has fewer rows than q has tokens"};
  if (mask->ne[2] != 1) return {status::unsupported, "mask differs from head to head"};
  if (mask->ne[3] != 1 && mask->ne[3] != in.q->ne[3])
    return {status::invalid_shape, "mask has neither one stream nor as many as q"};
  return status::ok;
}

inline status check_others(const tensors& in, const cascada::attention_options& options) {
  const bool selects = cascada::needs_selections(options);
  if (const ggml_tensor* const positions = in.positions) {
    if (positions->type != GGML_TYPE_I32) return {status::unsupported, "positions is not I32"};
    if (positions->nb[0] != sizeof(std::int32_t))
      return {status::invalid_shape, "positions has rows whose elements are not next to each other"};
    if (positions->ne[0] != in.k->ne[1] || positions->ne[1] != in.q->ne[3])
      return {status::invalid_shape, "positions is not [cells, streams]"};
  } else if (selects || options.sliding_window) {
    return {status::unsupported, "positions is null with a far field or a sliding window"};
  }
  if (in.sinks && in.sinks->type != GGML_TYPE_F32) return {status::unsupported, "sinks is not F32"};
  if (in.sinks && (in.sinks->ne[0] != in.q->ne[2] || in.sinks->nb[0] != sizeof(float)))
    return {status::invalid_shape, "sinks has not one entry for each head of q"};
  if (!selects) return in.features ? status{status::unsupported, "features is for near + far"} : status::ok;
  const ggml_tensor* const features = in.features;
  if (!features) return {status::unsupported, "features is null with a far field"};
  if (features->type != GGML_TYPE_F32) return {status::unsupported, "features is not F32"};
  if (features->nb[0] != sizeof(float))
    return {status::invalid_shape, "features has rows whose elements are not next to each other"};
  if (features->ne[0] > cascada::detail::largest_size || (features->ne[1] != 1 && features->ne[1] != in.k->ne[2]) ||
      features->ne[2] != in.q->ne[1] || features->ne[3] != in.q->ne[3])
    return {status::invalid_shape, "features is not [width, 1 or kv_heads, tokens, streams]"};
  return status::ok;
}

template <class Element>
Element* stream_of(const ggml_tensor* tensor, int dimension, std::int64_t stream) {
  return static_cast<Element*>(
      static_cast<void*>(static_cast<char*>(tensor->data) + static_cast<std::size_t>(stream) * tensor->nb[dimension]));
}

inline std::int64_t floats(std::size_t bytes) { return static_cast<std::int64_t>(bytes / sizeof(float)); }

}  // namespace detail

/// What layers that attend alike share: options, workspace, threads, and what was refused last. It takes one graph at a
/// time, and outlives the layers.
class shared_attention {
 public:
  explicit shared_attention(cascada::attention_options options = {.keys = cascada::key_set::all})
      : options_(options), attend_(options, {graph_executor{&threads_}}) {}

  shared_attention(const shared_attention&)            = delete;
  shared_attention& operator=(const shared_attention&) = delete;

  const cascada::attention_options& options() const noexcept { return options_; }

  /// What a computed operation refused, the first since this was asked last: its results are NaN, and those of layers
  /// behind it follow. ggml has no way to say it from a graph.
  [[nodiscard]] status answer() noexcept { return std::exchange(answer_, status{status::ok}); }

  /// Of the operation that was computed last.
  const cascada::attention_report& report() const noexcept { return attend_.report(); }

 private:
  friend class layer_attention;

  cascada::attention_options         options_;
  graph_threads                      threads_;
  cascada::attention<float, backend> attend_;
  cell_order                         order_;
  status                             answer_ = status::ok;
};

/// Attention of one layer. With key_set::near_and_far it keeps, for each stream, the set of representatives and the
/// leaves of a sequence that grows.
class layer_attention {
 public:
  /// below: the layer under this one, whose representatives are tried first; null: none. Sets do not depend on it.
  explicit layer_attention(shared_attention& shared, cascada::selection_options selection = {},
                           const layer_attention* below = nullptr)
      : shared_(&shared), selection_(selection), below_(below) {}

  /// An operation for a graph that is computed while this object lives and stays in its place. out: F32 [value_dim,
  /// heads, tokens, streams], contiguous, as ggml_flash_attn_ext has it. Refused are tensors that `tensors` does not
  /// describe, and options that contradict each other; `out` stays as it was then.
  [[nodiscard]] status build(ggml_context* context, const tensors& in, ggml_tensor*& out) {
    const cascada::attention_options& options = shared_->options_;
    if (const status answer = check(options); answer != status::ok) return answer;
    if (options.keys == cascada::key_set::representatives || options.queries == cascada::query_set::grouped)
      return {status::unsupported, "options name a mode in which sequences cannot grow"};
    if (const status answer = detail::check_rows(in.q, in.k, in.v); answer != status::ok) return answer;
    if (const status answer = detail::check_mask(in, options); answer != status::ok) return answer;
    if (const status answer = detail::check_others(in, options); answer != status::ok) return answer;
    ggml_tensor* sources[] = {in.q, in.k, in.v, in.mask, in.positions, in.sinks, in.features};
    out = ggml_custom_4d(context, GGML_TYPE_F32, in.v->ne[0], in.q->ne[2], in.q->ne[1], in.q->ne[3], sources,
                         static_cast<int>(std::size(sources)), &layer_attention::compute, GGML_N_TASKS_MAX, this);
    return status::ok;
  }

  /// Forgets the sequence of a stream: where cells were moved to it, shifted, or loaded without being computed.
  void clear(index_t stream) {
    if (static_cast<std::size_t>(stream) < sequences_.size()) sequences_[static_cast<std::size_t>(stream)] = {};
  }

 private:
  struct sequence {
    std::vector<cascada::growing_selection<float, backend>> selections;  // one, or one for each KV head
    cascada::attention_state<float, backend>                state;
  };

  static void compute(ggml_tensor* out, int ith, int nth, void* layer) {
    auto& own = *static_cast<layer_attention*>(layer);
    own.shared_->threads_.run(ith, nth, [&] { own.compute_all(out); });
  }

  void compute_all(ggml_tensor* out) noexcept {
    const tensors in     = {out->src[0], out->src[1], out->src[2], out->src[3], out->src[4], out->src[5], out->src[6]};
    status        answer = status::ok;
    try {
      for (std::int64_t s = 0; s < out->ne[3] && answer == status::ok; ++s) answer = compute_stream(in, out, s);
    } catch (const std::bad_alloc&) {
      answer = {status::too_large, "memory ran out"};
    }
    if (answer == status::ok) return;
    std::fill_n(static_cast<float*>(out->data), ggml_nelements(out), std::numeric_limits<float>::quiet_NaN());
    if (shared_->answer_ == status::ok) shared_->answer_ = answer;
  }

  status compute_stream(const tensors& in, ggml_tensor* out, std::int64_t stream) {
    const auto     tokens = static_cast<index_t>(in.q->ne[1]), heads = static_cast<index_t>(in.q->ne[2]);
    const cells_of cells = {
        .count     = static_cast<index_t>(in.k->ne[1]),
        .tokens    = tokens,
        .positions = in.positions ? detail::stream_of<std::int32_t>(in.positions, 1, stream) : nullptr,
        .mask      = in.mask,
        .stream    = in.mask && in.mask->ne[3] > 1 ? stream : 0};
    cell_order& order = shared_->order_;
    if (const status answer = order.find(cells, shared_->options_, graph_executor{&shared_->threads_});
        answer != status::ok)
      return answer;

    const cascada::heads_view<const float> q = {detail::stream_of<const float>(in.q, 3, stream),
                                                tokens,
                                                heads,
                                                static_cast<index_t>(in.q->ne[0]),
                                                detail::floats(in.q->nb[1]),
                                                detail::floats(in.q->nb[2])};
    const cascada::heads_view<float> to = cascada::packed_heads(detail::stream_of<float>(out, 3, stream), tokens, heads,
                                                                static_cast<index_t>(out->ne[0]));
    const auto                       use = [&](const auto& kv) { return attend(in, stream, q, kv, to); };
    const cells_view                 k = view_of(in.k, stream), v = view_of(in.v, stream);
    using half   = cascada::strided_row<cascada::float16>;
    using blocks = cascada::block_row<cascada::q8_0_block>;
    if (in.v->type == GGML_TYPE_Q8_0) return use(kv_cells<blocks, blocks>{k, v, order.cells()});
    if (in.k->type == GGML_TYPE_Q8_0) return use(kv_cells<blocks, half>{k, v, order.cells()});
    return use(kv_cells<half, half>{k, v, order.cells()});
  }

  template <class KV>
  status attend(const tensors& in, std::int64_t stream, const cascada::heads_view<const float>& q, const KV& kv,
                const cascada::heads_view<float>& out) {
    std::span<const float> sinks;
    if (in.sinks) sinks = {static_cast<const float*>(in.sinks->data), static_cast<std::size_t>(q.heads)};
    if (!in.features) return shared_->attend_(q, kv, {}, out, {.sink_logits = sinks});

    const auto place = static_cast<std::size_t>(stream);
    if (sequences_.size() <= place) sequences_.resize(place + 1);
    sequence& own = sequences_[place];
    if (const status answer = go_back(own, kv.tokens() - q.tokens); answer != status::ok) return answer;
    if (const status answer = select(own, in.features, stream); answer != status::ok) return answer;
    std::vector<cascada::representatives> kept;
    for (const auto& selection : own.selections) kept.push_back(selection.kept());
    return shared_->attend_.extend(own.state, q, kv, kept, out, {.sink_logits = sinks});
  }

  /// To a sequence of `tokens` tokens: what came after them was refused by the engine, or begins anew.
  static status go_back(sequence& own, index_t tokens) {
    if (own.state.tokens() < tokens)
      return {status::unsupported, "the cache holds tokens that did not come through this operation"};
    if (const status answer = own.state.truncate(tokens); answer != status::ok) return answer;
    for (auto& selection : own.selections)
      if (selection.kept().tokens() > tokens)
        if (const status answer = selection.truncate(tokens); answer != status::ok) return answer;
    return status::ok;
  }

  status select(sequence& own, const ggml_tensor* features, std::int64_t stream) const {
    const auto groups = static_cast<std::size_t>(features->ne[1]), count = static_cast<std::size_t>(features->ne[2]);
    if (own.state.tokens() == 0 && own.selections.size() != groups)
      own.selections.assign(
          groups, cascada::growing_selection<float, backend>(selection_, {graph_executor{&shared_->threads_}}));
    if (own.selections.size() != groups)
      return {status::invalid_shape, "features has another number of groups than before"};
    const float* const rows = detail::stream_of<const float>(features, 3, stream);
    for (std::size_t g = 0; g < groups; ++g) {
      auto&                    selection = own.selections[g];
      const index_t            after     = selection.kept().tokens() + static_cast<index_t>(count);
      std::span<const index_t> inherited;
      if (below_ && below_->sequences_.size() > static_cast<std::size_t>(stream)) {
        const auto& others = below_->sequences_[static_cast<std::size_t>(stream)].selections;
        if (others.size() == groups && others[g].kept().tokens() == after) inherited = others[g].kept().rep.last(count);
      }
      if (const status answer = selection.extend(
              {rows + static_cast<std::int64_t>(g) * detail::floats(features->nb[1]), static_cast<index_t>(count),
               static_cast<index_t>(features->ne[0]), detail::floats(features->nb[2])},
              inherited);
          answer != status::ok)
        return answer;
    }
    return status::ok;
  }

  shared_attention*          shared_;
  cascada::selection_options selection_;
  const layer_attention*     below_;
  std::vector<sequence>      sequences_;  // one for each stream
};

}  // namespace ggml_cascada
