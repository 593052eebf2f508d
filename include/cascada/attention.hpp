#pragma once
// Attention on selected tokens: the compressed problem, near field + far field, and dense.

#include <cmath>
#include <concepts>
#include <cstdint>
#include <numbers>
#include <span>

#include "cascada/attention_options.hpp"
#include "cascada/attention_report.hpp"
#include "cascada/backend.hpp"
#include "cascada/cpu/attention.hpp"
#include "cascada/kv_view.hpp"
#include "cascada/representatives.hpp"
#include "cascada/scalar.hpp"
#include "cascada/status.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI {

template <row_scalar Scalar, backend B = default_backend>
class attention;

/// Softmax attention over the tokens, representatives or leaves that the options name (attention_options.hpp).
///
/// - Strictly causal, with `causal`: changing token t changes no output before t.
/// - Near + far is bit for bit dense where there is no far field, and with opening::all.
/// - A row that sees nothing, or whose logits are all -infinity, is zero. NaN in q, k or v reaches the rows that see
/// it,
///   and no others; not the other heads of its KV group.
/// - Results do not depend on the number of threads or on the other sequences of a batch, bit for bit.
/// - Statistics and sums are float, whatever the rows are. Where the target multiplies bfloat16 (AMX-BF16, if the
///   process gets it, else AVX512_BF16), rows of it are multiplied so, and with them weights and means rounded to it.
/// - Workspace is kept: a second call of the same shape allocates nothing, whatever its selections. For each KV head it
///   reserves O(T d), never T x T, and uses O(T + leaves d) of it.
///
/// The literal r x r problem is the paper's (arXiv:2605.03110). Logits + log of the cluster's size are ToMe's
/// proportional attention (arXiv:2210.09461). Near field and far field are FMMformer's terms (arXiv:2108.02347). Chunks
/// at absolute positions, leaves of just the older tokens, their correction and opening, and grouped queries are this
/// library's.
template <row_scalar Scalar, cpu_backend B>
class attention<Scalar, B> {
 public:
  explicit attention(attention_options options = {}, B where = {}) : options_(options), where_(where) {}

  /// out [tokens, heads, value_dim] = attention of q [tokens, heads, key_dim] to kv [tokens, kv_heads, ..].
  /// heads % kv_heads == 0; query head h reads KV head h / (heads / kv_heads). `out` must not overlap the inputs.
  ///
  /// selections        one per sequence, which all KV heads share, or one per (sequence, KV head), sequence-major.
  ///                   Not looked at for key_set::all and key_set::near
  /// sequence_offsets  n + 1 ascending offsets from 0 to tokens: sequence s is [offsets[s], offsets[s + 1]), and its
  ///                   positions, chunks and selections count from its own first token. Empty: one sequence
  template <kv_view KV, row_scalar Out>
    requires std::same_as<typename KV::scalar, Scalar> &&(std::same_as<Out, Scalar> || std::same_as<Out, float>)
        [[nodiscard]] status
        operator()(heads_view<const Scalar> q, const KV& kv, std::span<const representatives> selections,
                   heads_view<Out> out, std::span<const index_t> sequence_offsets = {}) {
      const index_t whole[] = {0, q.tokens};
      const auto    offsets = sequence_offsets.empty() ? std::span<const index_t>(whole) : sequence_offsets;
      if (const status answer = check(options_); answer != status::ok) return answer;
      if (const status answer = kernel::check_shapes<B>(q, kv, out, offsets); answer != status::ok) return answer;
      const bool selects = options_.keys == key_set::representatives || options_.keys == key_set::near_and_far;
      if (!selects) selections = {};
      if (selects)
        if (const status answer = kernel::check_selections<B>(selections, offsets, kv.kv_heads()); answer != status::ok)
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

}  // namespace cascada::inline CASCADA_ABI
