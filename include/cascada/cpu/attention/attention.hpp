#pragma once
// attention on the CPU: the class of attention.hpp.

#include <cmath>
#include <numbers>
#include <span>

#include "cascada/attention.hpp"
#include "cascada/attention_checks.hpp"
#include "cascada/cpu/attention/batch.hpp"
#include "cascada/cpu/base/float_environment.hpp"

namespace cascada::inline CASCADA_ABI {

/// As attention.hpp says.
template <row_scalar Scalar, cpu_backend B>
class attention<Scalar, B> {
 public:
  explicit attention(attention_options options = {}, B where = {}) : options_(options), where_(where) {}

  template <kv_view_of<Scalar> KV, result_of<Scalar> Out>
  [[nodiscard]] status operator()(heads_view<const Scalar> q, const KV& kv, std::span<const representatives> selections,
                                  heads_view<Out> out, std::span<const index_t> sequence_offsets = {}) {
    const index_t whole[] = {0, q.tokens};
    const auto    offsets = sequence_offsets.empty() ? std::span<const index_t>(whole) : sequence_offsets;
    if (const status answer = check(options_); answer != status::ok) return answer;
    if (const status answer = detail::check_shapes<B>(q, kv, out, offsets); answer != status::ok) return answer;
    const bool selects = options_.keys == key_set::representatives || options_.keys == key_set::near_and_far;
    if (!selects) selections = {};
    if (selects)
      if (const status answer = detail::check_selections<B>(selections, offsets, kv.kv_heads()); answer != status::ok)
        return answer;
    if (q.tokens == 0) return status::ok;

    const double scale = options_.scale ? double{*options_.scale} : 1.0 / std::sqrt(static_cast<double>(q.dim));
    kernel::attention_sequence<Scalar, KV, Out> sequence = {
        q, kv, out, 0, 0, q.heads / kv.kv_heads(), static_cast<float>(scale * std::numbers::log2e)};
    const kernel::float_environment<B> usual;
    attention_report                   report = {};  // no constructor, which unoptimised objects would share
    kernel::attend_batch(sequence, options_, selections, offsets, workspace_, where_, report);
    report_ = report;
    return status::ok;
  }

  /// What the last call that succeeded did.
  const attention_report& report() const noexcept { return report_; }

 private:
  attention_options                                             options_;
  B                                                             where_;
  attention_report                                              report_ = {};
  kernel::attention_workspace<B, kernel::operand_of<Scalar, B>> workspace_;
};

static_assert(token_attention<attention<float, default_backend>, float, representatives>);

}  // namespace cascada::inline CASCADA_ABI
