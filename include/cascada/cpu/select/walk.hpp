#pragma once
// Selection and the exact cascade: one walk over the tokens, with or without evidence of the layer before.

#include <algorithm>
#include <cstdint>

#include "cascada/cpu/select/inherit.hpp"
#include "cascada/cpu/select/prefilter.hpp"
#include "cascada/cpu/select/resolve.hpp"
#include "cascada/cpu/select/scan.hpp"

namespace cascada::inline CASCADA_ABI::kernel::select {

/// Tokens [begin, end), a stretch: evidence, the scan, then the order.
template <class Products, row_scalar Scalar, cpu_backend B>
status select_stretch(selection_call<Scalar, B>& call, Products& way, index_t begin, index_t end) {
  if (const status answer = call.take_norms(end); answer != status::ok) return answer;
  selection_stretch<B> stretch{begin, end};
  if (call.old_rep) check_inherited(call, stretch);
  index_t unknown[stretch_tokens], count = 0;
  for (index_t i = begin; i < end; ++i) {
    const inherited_evidence evidence = stretch.evidence[stretch.local(i)];
    if (evidence == inherited_evidence::none || evidence == inherited_evidence::waits) unknown[count++] = i;
  }
  unsettled_tokens<B> unsettled;
  unsettled.rows_end = scan_slices(call, stretch, way, unknown, 0, count, 0, call.pairs);
  for (index_t i = begin; i < end; ++i) {
    const inherited_evidence evidence = stretch.evidence[stretch.local(i)];
    const match<B>&          best     = stretch.found[stretch.local(i)];
    if (evidence == inherited_evidence::covered) continue;
    if (evidence == inherited_evidence::none && call.settled(best))
      call.represent(i, call.now().indices[best.position]);
    else
      unsettled.token[unsettled.count++] = i;
  }
  return resolve_stretch(call, stretch, way, unsettled);
}

/// Walks from token `next` on, to the end or until the estimates leave so much open that others are cheaper.
template <product_kind Kind, row_scalar Scalar, cpu_backend B>
status walk(selection_call<Scalar, B>& call, product_workspace<B>& space, index_t depth, index_t& next) {
  const bool              forced = call.options.filter != prefilter::automatic || Kind == product_kind::full;
  const compared_pairs<B> before = call.pairs;
  const auto              pays   = [&] {
    const std::int64_t rechecked = call.pairs.rechecked - before.rechecked,
                       all       = call.pairs.evaluated - before.evaluated;
    const std::int64_t saved     = 64 - cost_of<Kind>(depth, call.rows.x.cols);
    // Of a sketch, growing is the cheaper remedy: it is due when rechecks cost as much as the sketches.
    const std::int64_t allowed = Kind == product_kind::sketch ? 64 - saved : saved;
    // Below a thousand, chance decides.
    return rechecked < 1024 || rechecked * 64 * prefilter_tuning<B>.recheck <= all * allowed;
  };
  products<Kind, Scalar, B> way(call.rows, space, depth);
  append_tokens(way, way.known(), call.now().indices.data(), call.now().count);
  while (next < call.tokens() && (forced || pays())) {
    const index_t end = std::min(call.tokens(), next + stretch_tokens);
    if (const status answer = select_stretch(call, way, next, end); answer != status::ok) return answer;
    next = end;
  }
  return status::ok;
}

/// Full selection, O(T r d), or, from call.old_rep, the exact cascade. The first `next` tokens are settled already.
template <row_scalar Scalar, cpu_backend B>
status select_all(selection_call<Scalar, B>& call, product_workspace<B>& space, index_t next = 0) {
  const index_t   cols   = call.rows.x.cols;
  const prefilter filter = chosen_prefilter<B>(call.options.filter, cols);
  const bool      adapts = call.options.filter == prefilter::automatic;
  status          answer = status::ok;
  if constexpr (has_bf16_tiles<B>)
    if (filter == prefilter::bf16_tiles)
      answer = walk<product_kind::bf16_tiles>(call, space, depth_of<product_kind::bf16_tiles, B>(cols), next);
  if (filter == prefilter::sketch) {
    space.coordinates.rank(call.rows.x);
    index_t depth = depth_of<product_kind::sketch, B>(cols);
    for (; answer == status::ok && next < call.tokens() && 2 * depth <= cols; depth *= 2)
      answer = walk<product_kind::sketch>(call, space, depth, next);
  }
  if constexpr (multiplies_pairs<B>)
    if (filter == prefilter::bf16_vectors || (filter == prefilter::sketch && adapts && prefilter_tuning<B>.vectors_pay))
      if (answer == status::ok && next < call.tokens())
        answer = walk<product_kind::bf16_vectors>(call, space, depth_of<product_kind::bf16_vectors, B>(cols), next);
  if (answer == status::ok && next < call.tokens()) answer = walk<product_kind::full>(call, space, cols, next);
  return answer;
}

}  // namespace cascada::inline CASCADA_ABI::kernel::select
