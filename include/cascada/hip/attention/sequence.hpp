#pragma once
// Parts of what the kernels are given for one sequence: its queries, and which keys they meet.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <numbers>

#include "cascada/attention_options.hpp"
#include "cascada/hip/attention/adjust_scores.hpp"
#include "cascada/hip/attention/grown_state.hpp"
#include "cascada/hip/attention/head_terms.hpp"
#include "cascada/hip/attention/operands.hpp"
#include "cascada/hip/attention/queries.hpp"
#include "cascada/hip/attention/selection_sets.hpp"
#include "cascada/hip/attention/token_rows.hpp"
#include "cascada/hip/attention/workspace.hpp"
#include "cascada/hip/base/growth.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// One sequence of T keys; one that grows has as many as there is room for. Its queries are its last tokens, from token
/// `base` on; not causal, they are as many as there are, and have no places among the keys.
template <class Scalar, class B, class Place>
struct attention_sequence {
  const attention_options&           options;
  heads_view<const Scalar>           q;
  placed_kv<Scalar, Place>           kv;
  selection_sets                     layer;
  result_rows<Scalar>                out;
  const attention_memory<Scalar, B>& memory;
  head_terms                         terms;
  row_sums                           log_sums;  // of the queries
  growing_call                       growing;   // nothing where the sequence does not

  float   of_products = detail::scale_in_base_2(options, q.dim);
  float   scale       = adjusts() ? 1.0f : of_products;  // of what softmaxes take in
  index_t tokens      = kv.tokens();                     // T, or the room
  index_t kv_heads    = kv.kv_heads();
  index_t base        = growing.slices ? 0 : first_query(options, tokens, q.tokens);
  index_t end         = base + q.tokens;                  // of the places of queries
  index_t chunk       = std::min(options.chunk, tokens);  // the kernels add it to positions

  /// Whether more than the scale is between products and logits.
  bool             adjusts() const { return options.softcap.has_value() || terms.slopes; }
  score_adjustment adjustment() const {
    if (!options.softcap) return {.scale = of_products, .slopes = terms.slopes};
    const double cap     = detail::cap_in_base_2(options);
    const double largest = static_cast<double>(std::numeric_limits<float>::max());
    return {.scale  = static_cast<float>(std::min(static_cast<double>(of_products) / cap, largest)),
            .cap    = static_cast<float>(cap),
            .slopes = terms.slopes};
  }

  bool far() const { return detail::kinds_of(options.keys).far_field; }

  operand_rows<Scalar> own_rows() const {
    return {.keys       = kv.keys.data,
            .values     = kv.values.data,
            .key_row    = kv.keys.token_stride,
            .key_head   = kv.keys.head_stride,
            .value_row  = kv.values.token_stride,
            .value_head = kv.values.head_stride};
  }
  /// Where values are that come transposed, once they are laid out.
  heads_view<Scalar> values_in_rows() const {
    return {.data         = memory.values,
            .tokens       = tokens,
            .heads        = kv_heads,
            .dim          = q.dim,
            .token_stride = q.dim,
            .head_stride  = std::int64_t{tokens} * q.dim};
  }
  operand_rows<Scalar> means() const {
    const std::int64_t head = std::int64_t{tokens} * q.dim;
    return {.keys       = memory.mean_keys,
            .values     = memory.mean_values,
            .key_row    = q.dim,
            .key_head   = head,
            .value_row  = q.dim,
            .value_head = head};
  }

  head_logits sink_logits() const { return {terms.sink_logits}; }

  tokens_there there() const {
    return growing.slices ? tokens_there{&growing.of.state->tokens, growing.valid} : tokens_there{};
  }

  /// Null, or negative where nothing is written.
  const index_t* valid() const { return growing.valid ? growing.valid : layer.first.count; }

  /// 0: none. One this long passes no key; places less a longer one could overflow.
  index_t sliding_window() const { return std::min(options.sliding_window.value_or(0), tokens + rows_of_block); }

  near_keys<Scalar, Place> all() const {
    return {.rows      = own_rows(),
            .tokens    = tokens,
            .sliding   = sliding_window(),
            .unlimited = true,
            .causal    = options.causal,
            .exists    = true,
            .place     = kv.place};
  }
  near_keys<Scalar, Place> window() const {
    return {.rows   = own_rows(),
            .window = options.window,
            .sinks  = options.sink_tokens,
            .causal = true,
            .exists = true,
            .place  = kv.place};
  }

  leaf_variances variances() const {
    const float log2e = std::numbers::log2e_v<float>;
    return {.rows       = memory.variances,
            .head       = std::int64_t{tokens} * variance_parts,
            .groups     = memory.variances ? options.moments.value_or(0) : 0,
            .half_scale = of_products * (of_products / scale) / log2e / 2,
            .most       = largest_correction * log2e / scale};
  }

  /// The leaves' means in the far fields at hand: those older than a chunk's near field, or of whole clusters.
  listed_keys<Scalar> leaves(const leaf_memory& at_hand) const {
    return {.rows      = means(),
            .list      = at_hand.far_rows,
            .count     = at_hand.far_count,
            .sizes     = at_hand.far_sizes,
            .unit      = 1 / scale,
            .stride    = far() || at_hand.sets > 1 ? tokens : 0,
            .sets      = at_hand.sets,
            .first     = at_hand.first,
            .variances = variances()};
  }
  listed_keys<Scalar> leaves(const grown_leaves& grown) const {
    return {.rows      = means(),
            .list      = grown.far_rows,
            .count     = grown.far_count,
            .sizes     = grown.far_sizes,
            .unit      = 1 / scale,
            .stride    = tokens,
            .sets      = grown.sets,
            .variances = variances()};
  }
  listed_keys<Scalar> members() const {
    return {.rows   = own_rows(),
            .list   = Place::in_pages ? memory.member_rows : layer.first.indices,
            .count  = layer.first.count,
            .stride = layer.sets > 1 ? tokens : 0,
            .sets   = layer.sets,
            .causal = options.causal};
  }

  query_tokens<Scalar> everyone() const {
    return {.q        = q,
            .out      = out,
            .valid    = valid(),
            .kv_heads = kv_heads,
            .part     = tokens_of_part(options, q.heads / kv_heads, tokens, growing.slices ? tokens : end),
            .base     = base,
            .first    = base,
            .last     = end,
            .log_sums = log_sums,
            .sets     = layer.sets,
            .growing  = growing.slices};
  }
  query_tokens<Scalar> representatives() const {
    auto own = everyone();
    own.list = layer.first.indices, own.count = layer.first.count;
    own.stride = tokens, own.parts = 1;
    return own;
  }

  /// Members of clusters, leaf by leaf.
  cluster_memory members_of_leaves() const {
    return detail::forms_by_keys(options) ? cluster_memory{nullptr, memory.chains.members, kv_heads} : memory.clusters;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
