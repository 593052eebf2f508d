#pragma once
// attention on the CPU: the class of attention.hpp.

#include <concepts>
#include <cstddef>
#include <numbers>
#include <span>

#include "cascada/attention.hpp"
#include "cascada/attention_checks.hpp"
#include "cascada/cpu/attention/batch.hpp"
#include "cascada/cpu/attention/state.hpp"
#include "cascada/cpu/base/float_environment.hpp"

namespace cascada::inline CASCADA_ABI {

/// As attention.hpp says.
template <row_scalar Scalar, cpu_backend B>
class attention<Scalar, B> {
 public:
  explicit attention(attention_options options = {}, B where = {}) : options_(options), where_(where) {}

  template <kv_view_for<Scalar> KV, result_of<Scalar> Out>
  [[nodiscard]] status operator()(heads_view<const Scalar> q, const KV& kv, std::span<const representatives> selections,
                                  heads_view<Out> out, const attention_call& call = {}) {
    const detail::only_sequence all   = {{0, q.tokens}, {0, kv.tokens()}};
    detail::sequence_spans      spans = {all.queries, all.keys};
    if (const status answer = detail::check_call<B>(options_, q, kv, selections, out, call, all, spans);
        answer != status::ok)
      return answer;
    if (q.tokens == 0) {
      report_ = {};
      return status::ok;
    }

    const kernel::float_environment<B> usual;
    attention_report                   report = {};  // no constructor, which unoptimised objects would share
    kernel::attention::attend_batch(sequence_of(q, kv, out, call), options_, selections, spans, workspace_, where_,
                                    report);
    report_ = report;
    return status::ok;
  }

  template <kv_view_for<Scalar> KV, std::same_as<representatives> One, result_of<Scalar> Out>
  [[nodiscard]] status operator()(heads_view<const Scalar> q, const KV& kv, const One& selection, heads_view<Out> out,
                                  const attention_call& call = {}) {
    return (*this)(q, kv, std::span<const representatives>(&selection, 1), out, call);
  }

  template <kv_view_for<Scalar> KV, result_of<Scalar> Out>
  [[nodiscard]] status operator()(heads_view<const Scalar> q, const KV& kv, heads_view<Out> out,
                                  const attention_call& call = {}) {
    return (*this)(q, kv, std::span<const representatives>(), out, call);
  }

  template <kv_view_for<Scalar> KV, result_of<Scalar> Out>
  [[nodiscard]] status extend(attention_state<Scalar, B>& state, heads_view<const Scalar> q, const KV& kv,
                              std::span<const representatives> selections, heads_view<Out> out,
                              const attention_extension& call = {}) {
    if (const status answer = detail::check_growing_call<B>(options_, q, kv, out, call); answer != status::ok)
      return answer;
    if (q.tokens == 0) {
      report_ = {};
      return status::ok;
    }
    if (const status answer = state.check(options_, kv, q.heads, q.tokens, selections); answer != status::ok)
      return answer;
    const kernel::float_environment<B> usual;
    attention_report                   report   = {};
    auto                               sequence = sequence_of(q, kv, out, call);
    sequence.first                              = state.tokens();
    sequence.tokens = state.tokens() + q.tokens, sequence.query_base = -state.tokens();
    state.prepare(options_, sequence, selections, workspace_, where_);
    kernel::attention::attend_sequence(sequence, options_, state.heads_.data(), workspace_, where_, report);
    state.finish(sequence.tokens, workspace_);
    report_ = report;
    return status::ok;
  }

  template <kv_view_for<Scalar> KV, std::same_as<representatives> One, result_of<Scalar> Out>
  [[nodiscard]] status extend(attention_state<Scalar, B>& state, heads_view<const Scalar> q, const KV& kv,
                              const One& selection, heads_view<Out> out, const attention_extension& call = {}) {
    return extend(state, q, kv, std::span<const representatives>(&selection, 1), out, call);
  }

  template <kv_view_for<Scalar> KV, result_of<Scalar> Out>
  [[nodiscard]] status extend(attention_state<Scalar, B>& state, heads_view<const Scalar> q, const KV& kv,
                              heads_view<Out> out, const attention_extension& call = {}) {
    return extend(state, q, kv, std::span<const representatives>(), out, call);
  }

  template <kv_view_for<Scalar> KV>
  [[nodiscard]] status load(attention_state<Scalar, B>& state, const KV& kv, std::span<const std::byte> bytes) {
    if (const status answer = check(options_); answer != status::ok) return answer;
    if (const status answer = detail::check_growing(options_); answer != status::ok) return answer;
    if (const status answer = detail::check_kv<B>(kv); answer != status::ok) return answer;
    const kernel::float_environment<B> usual;
    return state.load(options_, kv, bytes, workspace_, where_);
  }

  /// What the last call that succeeded did.
  const attention_report& report() const noexcept { return report_; }

 private:
  template <class KV, class Out, class Call>
  auto sequence_of(const heads_view<const Scalar>& q, const KV& kv, const heads_view<Out>& out,
                   const Call& call) const noexcept {
    kernel::attention::attention_sequence<Scalar, KV, Out> sequence = {.q = q, .kv = kv, .out = out};
    sequence.log_sum_exp                                            = call.log_sum_exp;
    sequence.sink_logits          = call.sink_logits.empty() ? nullptr : call.sink_logits.data();
    sequence.terms.cap            = static_cast<float>(detail::cap_in_base_2(options_));
    sequence.terms.sliding_window = options_.sliding_window.value_or(0);
    sequence.terms.slopes         = call.slopes.empty() ? nullptr : call.slopes.data();
    sequence.group                = q.heads / kv.kv_heads();
    sequence.scale                = detail::scale_in_base_2(options_, q.dim);
    return sequence;
  }

  attention_options                                                                             options_;
  B                                                                                             where_;
  attention_report                                                                              report_ = {};
  kernel::call_memory<kernel::attention::attention_workspace<B, kernel::operand_of<Scalar, B>>> workspace_;
};

static_assert(growing_token_attention<attention<float, default_backend>, attention_state<float, default_backend>, float,
                                      representatives>);

}  // namespace cascada::inline CASCADA_ABI
