#pragma once
// attention on gfx942: the class of attention.hpp for rows in device memory.

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>

#include "cascada/attention.hpp"
#include "cascada/attention_checks.hpp"
#include "cascada/hip/attention/attend_sequence.hpp"
#include "cascada/hip/attention/begin_tokens.hpp"
#include "cascada/hip/attention/gather_clusters.hpp"
#include "cascada/hip/attention/launch_by_heads.hpp"
#include "cascada/hip/attention/state.hpp"
#include "cascada/hip/attention/stored_kv.hpp"
#include "cascada/hip/base/aligned_rows.hpp"
#include "cascada/hip/base/launches.hpp"
#include "cascada/hip/base/memory.hpp"
#include "cascada/hip/base/selection_layer.hpp"

namespace cascada::inline CASCADA_ABI {

/// Softmax attention on gfx942, as attention.hpp says, on the caller's stream, with these limits (else a sentence and
/// `unsupported_by_device`): leaves corrected by 1, 2 or 4 moments or not at all; key_dim = value_dim = 64, 128 or 256;
/// rows 16-byte aligned, strides multiples of 8 and between tokens less than 2^26, KV heads apart; no summaries of
/// their own. A call's sink logits, slopes and log-sum-exps are in device memory. Fewer queries than keys begin, by
/// mass, with a band: the tiles that a block of threads has room for (band_of). Means are rounded to Scalar, and so are
/// the softmax's weights before they are summed and meet the values: leaves open as elsewhere, but for those within
/// 0.01 nat of `open_above`. A NaN or an infinity in v can make rows NaN that lie up to 127 tokens before it, and with
/// a sliding window up to 127 after the last that sees it. Sequences grow in all modes that grow on the CPU. There is
/// no report. One call at a time; threads as hip/select/selector.hpp says.
///
/// kv           strided_kv, transposed_value_kv or paged_kv. Nobody checks a table of pages, which is in device memory.
///              Transposed values are laid out in rows first, in each call, in T dim of memory a KV head. Those of a
///              sequence that grows lie in each call as it comes: blocks and values of earlier tokens may have moved.
///              There have to be blocks in the table, and transposed values, of the tokens that are there when the call
///              runs, and kv.tokens() may be more: in a graph, all that will come
/// selections   one per sequence, or one per (sequence, KV head), as selector and cascade keep them on the device.
///              Nothing is written for the heads of one that has failed; of a sequence that grows, for none. KV heads
///              run side by side
template <row_scalar Scalar, gfx942_backend B>
class attention<Scalar, B> {
  static_assert(hip::matrix_scalar<Scalar>, "attention on gfx942: rows are bfloat16 or float16");

 public:
  explicit attention(attention_options options = {}, B where = {}) : options_(options), where_(where), memory_(where) {}

  template <hip::attention::stored_kv<Scalar> KV = strided_kv<Scalar>, result_of<Scalar> Out>
  [[nodiscard]] status operator()(heads_view<const Scalar> q, const KV& kv,
                                  std::span<const hip::selection_layer> selections, heads_view<Out> out,
                                  const attention_call& call = {}) {
    const detail::only_sequence all   = {{0, q.tokens}, {0, kv.tokens()}};
    detail::sequence_spans      spans = {all.queries, all.keys};
    if (const status answer =
            detail::check_call<B>(options_, q, hip::attention::layout_of(kv), selections, out, call, all, spans);
        answer != status::ok)
      return answer;
    if (const status answer = check_leaves(options_); answer != status::ok) return answer;
    if (const status answer = check_bands(spans, q.heads / kv.kv_heads()); answer != status::ok) return answer;
    if (const status answer = check_device(q, kv, out); answer != status::ok) return answer;
    return run_all(q, hip::attention::placed(kv), selections, spans, results::of(out), terms_of(call),
                   call.log_sum_exp);
  }

  template <hip::attention::stored_kv<Scalar> KV = strided_kv<Scalar>, std::same_as<hip::selection_layer> One,
            result_of<Scalar> Out>
  [[nodiscard]] status operator()(heads_view<const Scalar> q, const KV& kv, const One& selection, heads_view<Out> out,
                                  const attention_call& call = {}) {
    return (*this)(q, kv, std::span<const hip::selection_layer>(&selection, 1), out, call);
  }

  template <hip::attention::stored_kv<Scalar> KV = strided_kv<Scalar>, result_of<Scalar> Out>
  [[nodiscard]] status operator()(heads_view<const Scalar> q, const KV& kv, heads_view<Out> out,
                                  const attention_call& call = {}) {
    return (*this)(q, kv, std::span<const hip::selection_layer>(), out, call);
  }

  template <hip::attention::stored_kv<Scalar> KV = strided_kv<Scalar>, result_of<Scalar> Out>
  [[nodiscard]] status extend(attention_state<Scalar, B>& state, heads_view<const Scalar> q, const KV& kv,
                              std::span<const hip::selection_layer> selections, heads_view<Out> out,
                              const attention_extension& call = {}) {
    if (const status answer = check_growing_call(q, kv, out, call); answer != status::ok) return answer;
    if (q.tokens == 0) return status::ok;
    if (!needs_selections(options_)) selections = {};
    const hip::attention::sequence_sizes sizes = sizes_of(q, kv, static_cast<index_t>(selections.size()));
    if (const status answer = state.check(options_, sizes, kv.tokens(), selections); answer != status::ok)
      return answer;
    const auto  with_room = state.with_room(sizes, std::int64_t{state.tokens()} + q.tokens);
    call_memory memory;
    if (const status answer = reserve(with_room, memory); answer != status::ok) return answer;
    if (const status answer = state.make_room(options_, with_room); answer != status::ok) return answer;
    state.begin(options_);
    const status answer = run_grown(state, q, hip::attention::placed(kv), selections, results::of(out), memory,
                                    terms_of(call), call.log_sum_exp);
    if (answer == status::ok) state.add(q.tokens);
    return answer;
  }

  template <hip::attention::stored_kv<Scalar> KV = strided_kv<Scalar>, std::same_as<hip::selection_layer> One,
            result_of<Scalar> Out>
  [[nodiscard]] status extend(attention_state<Scalar, B>& state, heads_view<const Scalar> q, const KV& kv,
                              const One& selection, heads_view<Out> out, const attention_extension& call = {}) {
    return extend(state, q, kv, std::span<const hip::selection_layer>(&selection, 1), out, call);
  }

  template <hip::attention::stored_kv<Scalar> KV = strided_kv<Scalar>, result_of<Scalar> Out>
  [[nodiscard]] status extend(attention_state<Scalar, B>& state, heads_view<const Scalar> q, const KV& kv,
                              heads_view<Out> out, const attention_extension& call = {}) {
    return extend(state, q, kv, std::span<const hip::selection_layer>(), out, call);
  }

  /// Memory for a state of so many tokens, and for calls that bring at most `piece` of them, and so many selections,
  /// one or one for each KV head, where the options ask for any: these then allocate nothing, keys and values in pages
  /// or not. Transposed values take memory of their own: reserve<transposed_value_kv<Scalar>> has it, too.
  template <hip::attention::stored_kv<Scalar> KV = strided_kv<Scalar>>
  [[nodiscard]] status reserve(attention_state<Scalar, B>& state, index_t tokens, index_t heads, index_t kv_heads,
                               index_t dim, index_t piece = 1, index_t selections = 1) {
    if (tokens < 0) return {status::invalid_shape, "tokens is negative"};
    if (piece < 1) return {status::invalid_shape, "piece is less than 1"};
    if (!detail::one_or_each(static_cast<std::size_t>(selections), kv_heads))
      return {status::invalid_shape, "selections is neither 1 nor kv_heads"};
    const heads_view<Scalar>       q    = nobody_s_rows(piece, heads, dim);
    const heads_view<const Scalar> keys = nobody_s_rows(std::max(tokens, piece), kv_heads, dim);
    const strided_kv<Scalar>       kv   = {keys, keys};
    if (const status answer = check_growing_call(q, kv, q, {}); answer != status::ok) return answer;
    hip::attention::sequence_sizes sizes = sizes_of(q, kv, needs_selections(options_) ? selections : 1);
    sizes.paged                          = true;  // they may be
    sizes.transposed                     = std::same_as<KV, transposed_value_kv<Scalar>>;
    if (const status answer = state.check(options_, sizes); answer != status::ok) return answer;
    if (!detail::as_many_as(state.sets(), static_cast<std::size_t>(sizes.sets)))
      return {status::invalid_shape, "selections is another number than the state's"};
    sizes               = state.with_room(sizes, std::max(tokens, piece));
    auto        largest = sizes;
    std::size_t most    = 0;
    for (; sizes.queries > 0; --sizes.queries)  // fewer queries may need more
      if (const std::size_t bytes = bytes_of(sizes); bytes > most) largest = sizes, most = bytes;
    call_memory unused;
    if (const status answer = reserve(largest, unused); answer != status::ok) return answer;
    largest.queries = piece;
    return state.make_room(options_, largest);
  }

  /// The CPU's states are saved.
  template <class Bytes>
  status load(attention_state<Scalar, B>&, const strided_kv<Scalar>&, const Bytes&) {
    static_assert(sizeof(Bytes) == 0, "attention on gfx942: there is no load(); the CPU's attention has it");
    return status::unsupported_by_device;
  }

  /// Computed rows, and rows of another type: no kernel reads them.
  template <kv_view KV>
    requires(!hip::attention::stored_kv<KV, Scalar>)
  status operator()(const heads_view<const Scalar>&, const KV&, const auto&...) {
    static_assert(
        sizeof(KV) == 0,
        "attention on gfx942: keys and values have to be strided_kv, transposed_value_kv or paged_kv, with the "
        "Scalar of q");
    return status::unsupported_by_device;
  }
  template <kv_view KV>
    requires(!hip::attention::stored_kv<KV, Scalar>)
  status extend(attention_state<Scalar, B>&, const heads_view<const Scalar>&, const KV&, const auto&...) {
    static_assert(sizeof(KV) == 0,
                  "attention_state on gfx942: keys and values have to be strided_kv, transposed_value_kv or paged_kv, "
                  "with the Scalar of q");
    return status::unsupported_by_device;
  }

  /// What a call read is not counted there.
  template <class Self = attention>
  attention_report report() const {
    static_assert(sizeof(Self) == 0, "attention on gfx942: there is no report(); the CPU's attention has it");
    return {};
  }

 private:
  using results     = hip::attention::result_rows<Scalar>;
  using call_memory = hip::attention::attention_memory<Scalar, B>;

  /// Tokens [begin, begin + tokens).
  static heads_view<const Scalar> part(heads_view<const Scalar> all, index_t begin, index_t tokens) noexcept {
    all.data += begin * all.token_stride;
    all.tokens = tokens;
    return all;
  }

  /// Which leaves the kernels make. Where all of them open, none are made.
  static status check_leaves(const attention_options& options) noexcept {
    if (!detail::has_leaves(options)) return status::ok;
    if (options.summaries != summary_type::as_multiplied)
      return {status::unsupported_by_device, "options.summaries is not as_multiplied: on gfx942 means are kept so"};
    const index_t groups = options.moments.value_or(1);
    if (groups > hip::attention::most_groups || (groups & (groups - 1)) != 0)
      return {status::unsupported_by_device, "options.moments is not 1, 2, 4 or none, as gfx942 needs it"};
    return status::ok;
  }

  /// What a call, or an extension, has for its heads.
  template <class Call>
  static hip::attention::head_terms terms_of(const Call& call) noexcept {
    return {.sink_logits = call.sink_logits.empty() ? nullptr : call.sink_logits.data(),
            .slopes      = call.slopes.empty() ? nullptr : call.slopes.data()};
  }

  /// Options and arguments of a sequence that grows.
  template <class KV, class Out>
  status check_growing_call(const heads_view<const Scalar>& q, const KV& kv, const heads_view<Out>& out,
                            const attention_extension& call) const noexcept {
    if (const status answer = detail::check_growing_call<B>(options_, q, hip::attention::layout_of(kv), out, call);
        answer != status::ok)
      return answer;
    if (const status answer = check_leaves(options_); answer != status::ok) return answer;
    return q.tokens > 0 ? check_device(q, kv, out) : status(status::ok);
  }

  /// Rows that nobody reads or writes.
  static heads_view<Scalar> nobody_s_rows(index_t tokens, index_t heads, index_t dim) noexcept {
    return packed_heads(const_cast<Scalar*>(hip::aligned_nothing<B, Scalar>()), tokens, heads, dim);
  }

  template <class KV>
  static hip::attention::sequence_sizes sizes_of(const heads_view<const Scalar>& q, const KV& kv,
                                                 index_t selections) noexcept {
    return {.tokens     = 0,
            .heads      = q.heads,
            .kv_heads   = kv.kv_heads(),
            .dim        = q.dim,
            .queries    = q.tokens,
            .sets       = std::max<index_t>(1, selections),
            .transposed = std::same_as<KV, transposed_value_kv<Scalar>>,
            .paged      = std::same_as<KV, paged_kv<Scalar>>,
            .growing    = true};
  }

  /// Tiles of a band share a list of opened tokens: a later one reads behind what the first ones asked for.
  status check_bands(const detail::sequence_spans& spans, index_t group) const noexcept {
    if (!detail::opens_by_mass(options_)) return status::ok;
    for (std::size_t s = 0; s < spans.count(); ++s)
      if (spans.queries_of(s) > 0 &&
          (spans.tokens(s) - spans.queries_of(s)) % hip::attention::band_of(options_, group) != 0)
        return {status::unsupported_by_device,
                "queries begin inside a band of tiles, which on gfx942 share a list of opened tokens"};
    return status::ok;
  }

  template <class KV, class Out>
  static status check_device(const heads_view<const Scalar>& q, const KV& kv, const heads_view<Out>& out) noexcept {
    if (q.dim != out.dim)
      return {status::unsupported_by_device, "out.dim differs from q.dim: gfx942 needs values as wide as keys"};
    if (q.dim != 64 && q.dim != 128 && q.dim != 256)
      return {status::unsupported_by_device, "q.dim is not 64, 128 or 256, as gfx942 needs it"};
    status answer = check_rows(q, "q is not on 16-byte boundaries, row by row, as gfx942 needs it",
                               "q.token_stride is 2^26 or more, too much for gfx942",
                               "q.head_stride is 0: gfx942's kernels take no heads that share their rows");
    if (answer == status::ok)
      answer = check_rows(kv.keys, "kv.keys are not on 16-byte boundaries, row by row, as gfx942 needs them",
                          "kv.keys.token_stride is 2^26 or more, too much for gfx942",
                          "kv.keys.head_stride is 0: gfx942's kernels take no heads that share their rows");
    if constexpr (!std::same_as<KV, transposed_value_kv<Scalar>>)
      if (answer == status::ok)
        answer = check_rows(kv.values, "kv.values are not on 16-byte boundaries, row by row, as gfx942 needs them",
                            "kv.values.token_stride is 2^26 or more, too much for gfx942",
                            "kv.values.head_stride is 0: gfx942's kernels take no heads that share their rows");
    return answer;
  }

  static status check_rows(const heads_view<const Scalar>& rows, const char* misaligned, const char* far,
                           const char* shared) noexcept {
    if (!hip::rows_are_aligned(rows.data, {rows.token_stride, rows.head_stride}))
      return {status::unsupported_by_device, misaligned};
    if (rows.token_stride >= std::int64_t{1} << 26)  // 32 rows are within reach of 32 bits
      return {status::unsupported_by_device, far};
    if (rows.heads > 1 && rows.head_stride == 0) return {status::unsupported_by_device, shared};
    return status::ok;
  }

  /// One sequence after the other. Memory is for the one that takes most, so that a shape allocates once.
  template <class Place>
  status run_all(const heads_view<const Scalar>& q, const hip::attention::placed_kv<Scalar, Place>& kv,
                 std::span<const hip::selection_layer> selections, const detail::sequence_spans& spans,
                 const results& out, const hip::attention::head_terms& terms, const matrix_view<float>& sums) {
    const std::size_t each  = selections.size() / std::max<std::size_t>(1, spans.count());  // of a sequence
    const auto        sizes = [&](std::size_t s) {
      return hip::attention::sequence_sizes{.tokens     = spans.tokens(s),
                                                   .heads      = q.heads,
                                                   .kv_heads   = kv.kv_heads(),
                                                   .dim        = q.dim,
                                                   .queries    = spans.queries_of(s),
                                                   .sets       = std::max<index_t>(1, static_cast<index_t>(each)),
                                                   .transposed = kv.transposed.data != nullptr,
                                                   .paged      = Place::in_pages};
    };
    std::size_t widest = 0, most = 0;
    for (std::size_t s = 0; s < spans.count(); ++s) {
      const std::size_t bytes = spans.queries_of(s) > 0 ? bytes_of(sizes(s)) : 0;
      if (bytes > most) widest = s, most = bytes;
    }
    call_memory memory;
    if (most > 0)
      if (const status answer = reserve(sizes(widest), memory); answer != status::ok) return answer;
    for (std::size_t s = 0; s < spans.count(); ++s) {
      if (spans.queries_of(s) == 0) continue;
      if (const status answer = reserve(sizes(s), memory); answer != status::ok) return answer;
      const index_t first = spans.queries[s], queries = spans.queries_of(s);
      const status  answer =
          run(part(q, first, queries), kv.sequence(spans.keys[s], spans.tokens(s)), selections.subspan(s * each, each),
              out.part(first, queries), memory, terms, hip::attention::row_sums::natural(sums, first));
      if (answer != status::ok) return answer;
    }
    return status::ok;
  }

  std::size_t bytes_of(const hip::attention::sequence_sizes& sizes) const {
    return hip::device_memory<B>::bytes_of([&](hip::carver& from) { call_memory{}.cut(from, options_, sizes); });
  }
  /// Memory for a call on a sequence, cut from what there is.
  status reserve(const hip::attention::sequence_sizes& sizes, call_memory& to) {
    to = {};
    return memory_.carve([&](hip::carver& from) { to.cut(from, options_, sizes); });
  }

  /// The launches of an extension. Keys are as many as there is room for, wherever those of later calls will lie.
  template <class Place>
  status run_grown(const attention_state<Scalar, B>& state, const heads_view<const Scalar>& q,
                   hip::attention::placed_kv<Scalar, Place> kv, std::span<const hip::selection_layer> selections,
                   const results& out, call_memory memory, const hip::attention::head_terms& terms,
                   const matrix_view<float>& sums) {
    const auto& arrays                       = state.arrays_;
    auto        sizes                        = arrays.plan.sizes;
    sizes.queries                            = q.tokens;  // the state may have room for larger calls
    const auto                         plan  = hip::attention::grown_plan::of<B>(options_, sizes);
    const hip::selection_layer         layer = selections.empty() ? hip::selection_layer{} : selections[0];
    const bool                         each  = sizes.sets > 1;
    hip::launches<B>                   launch(where_);
    const hip::attention::begin_tokens begin = {.of         = arrays.grown,
                                                .queries    = q.tokens,
                                                .room       = std::min(sizes.tokens, kv.tokens()),
                                                .selected   = each ? arrays.selections.count : layer.count,
                                                .selections = sizes.sets,
                                                .leaves     = arrays.leaves,
                                                .chunk      = plan.chunk,
                                                .window     = options_.window,
                                                .sinks      = options_.sink_tokens,
                                                .part       = plan.part(),
                                                .parts      = plan.parts,
                                                .slices     = plan.slices,
                                                .bands      = plan.band > 0};
    if (each) gather(launch, selections, arrays, begin, plan.most_joining(q.tokens));
    launch(begin);
    if (launch.answer() != status::ok) return launch.answer();
    kv.keys.tokens = kv.values.tokens = sizes.tokens;
    memory.mean_keys = arrays.mean_keys, memory.mean_values = arrays.mean_values, memory.variances = arrays.variances;
    return run(q, kv, {&layer, 1}, out, memory, terms, hip::attention::row_sums::natural(sums, 0),
               {.slices     = arrays.grown.slices,
                .valid      = &arrays.grown.state->valid,
                .of         = arrays.grown,
                .leaves     = arrays.leaves,
                .fields     = plan.fields,
                .count      = plan.slices,
                .parts      = plan.parts,
                .part       = plan.part(),
                .most       = plan.most_joining(q.tokens),
                .remembered = arrays.remembered,
                .chains     = arrays.chains,
                .clusters   = {each ? arrays.selections.rep : layer.rep, each ? sizes.tokens : 0}});
  }

  /// Clusters of each KV head's tokens that join leaves.
  static void gather(hip::launches<B>& launch, std::span<const hip::selection_layer> selections,
                     const hip::attention::grown_arrays<Scalar>& arrays, const hip::attention::begin_tokens& begin,
                     index_t joining) {
    using kernel = hip::attention::gather_clusters;
    hip::attention::launch_by_heads(launch,
                                    kernel{.of      = begin.of,
                                           .to      = arrays.selections,
                                           .stride  = arrays.plan.sizes.tokens,
                                           .queries = begin.queries,
                                           .room    = begin.room,
                                           .chunk   = begin.chunk,
                                           .window  = begin.window,
                                           .joining = joining},
                                    selections,
                                    [](const hip::selection_layer& one) { return kernel::source{one.rep, one.count}; });
  }

  template <class Place>
  status run(const heads_view<const Scalar>& q, const hip::attention::placed_kv<Scalar, Place>& kv,
             std::span<const hip::selection_layer> layers, const results& out, const call_memory& memory,
             const hip::attention::head_terms& terms, const hip::attention::row_sums& sums = {},
             const hip::attention::growing_call& growing = {}) {
    const auto attend = [&]<index_t Dim>(std::integral_constant<index_t, Dim>) {
      return hip::attention::attend_sequence<Scalar, Dim>(options_, q, kv, layers, out, memory, where_, terms, sums,
                                                          growing);
    };
    return q.dim == 64    ? attend(std::integral_constant<index_t, 64>{})
           : q.dim == 128 ? attend(std::integral_constant<index_t, 128>{})
                          : attend(std::integral_constant<index_t, 256>{});
  }

  attention_options     options_;
  B                     where_;
  hip::device_memory<B> memory_;
};

static_assert(extending_token_attention<attention<bfloat16, hip_gfx942>, attention_state<bfloat16, hip_gfx942>,
                                        bfloat16, hip::selection_layer>);

}  // namespace cascada::inline CASCADA_ABI
