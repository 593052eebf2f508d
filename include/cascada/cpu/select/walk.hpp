#pragma once
// Selection and the exact cascade: one walk over the tokens, with or without evidence of the layer before.

#include <algorithm>
#include <cstdint>

#include "cascada/cpu/select/inherit.hpp"
#include "cascada/cpu/select/resolve.hpp"
#include "cascada/cpu/select/scan.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// When estimates pay. A recheck takes as long as `recheck` products in tiles.
struct prefilter_shape {
  index_t recheck       = 3;
  index_t sketch_parts  = 8;      // the first sketch has one of so many coordinates
  bool    vectors_pay   = false;  // whether bfloat16 vectors outrun float ones
  index_t least_columns = 32;     // rows shorter than this are compared in full
};

/// Cores with matrix instructions take two cycles for a vector of bfloat16 pairs, a quarter of their rate for floats
/// (measured on Sapphire Rapids); those without, such as Zen 4, one.
template <cpu_backend B>
inline constexpr prefilter_shape prefilter_tuning = {.vectors_pay = multiplies_pairs<B> && !has_bf16_tiles<B>};

/// Columns of products that a kind multiplies.
template <product_kind Kind, cpu_backend B>
CASCADA_INLINE constexpr index_t depth_of(index_t cols) noexcept {
  if (Kind == product_kind::full) return cols;
  if (Kind == product_kind::sketch)
    return (cols + prefilter_tuning<B>.sketch_parts - 1) / prefilter_tuning<B>.sketch_parts;
  return pairs_of<B>(cols);
}

/// The cost of one product in units of a full one, times 64; of a matrix product 64 / 16, of a vector of pairs half.
template <product_kind Kind>
CASCADA_INLINE constexpr std::int64_t cost_of(index_t depth, index_t cols) noexcept {
  if (Kind == product_kind::bf16_tiles) return 4;
  if (Kind == product_kind::bf16_vectors) return 32;
  return 64 * std::int64_t{depth} / cols;
}

/// One stretch of tokens: evidence, the scan, then the order.
template <class Products, row_scalar Scalar, cpu_backend B>
status select_stretch(selection_pass<Scalar, B>& pass, Products& way, index_t begin, index_t end) {
  if (const status answer = pass.take_norms(end); answer != status::ok) return answer;
  pass.enter(begin, end);
  if (pass.old_rep) check_inherited(pass);
  index_t count = 0;
  for (index_t i = begin; i < end; ++i) {
    const token_evidence evidence = pass.evidence[i - begin];
    if (evidence == token_evidence::none || evidence == token_evidence::waits) pass.tokens[count++] = i;
  }
  open_tokens<B> open;
  open.rows_end = scan_slices(pass, way, 0, count, 0, true);
  for (index_t i = begin; i < end; ++i) {
    const token_evidence evidence = pass.evidence[i - begin];
    if (evidence == token_evidence::covered) continue;
    if (evidence == token_evidence::none && pass.settled(i))
      pass.now.rep[i] = pass.now.indices[pass.found[i - begin].position];
    else
      open.token[open.count++] = i;
  }
  return resolve_stretch(pass, way, open);
}

/// Walks from token `next` on, to the end or until the estimates leave so much open that others are cheaper.
template <product_kind Kind, row_scalar Scalar, cpu_backend B>
status walk(selection_pass<Scalar, B>& pass, index_t depth, index_t& next) {
  const bool           forced = pass.options.filter != prefilter::automatic || Kind == product_kind::full;
  const pair_counts<B> before = pass.pairs;
  const auto           pays   = [&] {
    const std::int64_t rechecked = pass.pairs.rechecked - before.rechecked,
                       all       = pass.pairs.evaluated - before.evaluated;
    const std::int64_t saved     = 64 - cost_of<Kind>(depth, pass.rows.x.cols);
    // Of a sketch, growing is the cheaper remedy: it is due when rechecks cost as much as the sketches.
    const std::int64_t allowed = Kind == product_kind::sketch ? 64 - saved : saved;
    return rechecked < 1024 || rechecked * 64 * prefilter_tuning<B>.recheck <= all * allowed;
  };
  products<Kind, Scalar, B> way(pass.rows, pass.memory, depth);
  append_tokens(way, pass.memory.known, pass.now.indices.data(), pass.now.count);
  for (; next < pass.now.tokens && (forced || pays()); next = pass.end) {
    const index_t end = std::min(pass.now.tokens, next + stretch_tokens);
    if (const status answer = select_stretch(pass, way, next, end); answer != status::ok) return answer;
  }
  return status::ok;
}

/// The estimates that an option stands for, on this target and for rows of this length.
template <cpu_backend B>
prefilter chosen_prefilter(prefilter filter, index_t cols) noexcept {
  if (cols >= (1 << 20)) return prefilter::none;  // no margin decides anything
  switch (filter) {
    case prefilter::automatic:
      if (cols < prefilter_tuning<B>.least_columns) return prefilter::none;
      return has_bf16_tiles<B> && tiles_permitted<B>() ? prefilter::bf16_tiles : prefilter::sketch;
    case prefilter::bf16_tiles: return has_bf16_tiles<B> && tiles_permitted<B>() ? filter : prefilter::none;
    case prefilter::bf16_vectors: return multiplies_pairs<B> ? filter : prefilter::none;
    default: return filter;
  }
}

/// Full selection, O(T r d), or, from pass.old_rep, the exact cascade. The first `next` tokens are settled already.
template <row_scalar Scalar, cpu_backend B>
status select_all(selection_pass<Scalar, B>& pass, index_t next = 0) {
  const index_t   cols   = pass.rows.x.cols;
  const prefilter filter = chosen_prefilter<B>(pass.options.filter, cols);
  const bool      adapts = pass.options.filter == prefilter::automatic;
  status          answer = status::ok;
  if constexpr (has_bf16_tiles<B>)
    if (filter == prefilter::bf16_tiles)
      answer = walk<product_kind::bf16_tiles>(pass, depth_of<product_kind::bf16_tiles, B>(cols), next);
  if (filter == prefilter::sketch) {
    pass.memory.coordinates.rank(pass.rows.x);
    index_t depth = depth_of<product_kind::sketch, B>(cols);
    for (; answer == status::ok && next < pass.now.tokens && 2 * depth <= cols; depth *= 2)
      answer = walk<product_kind::sketch>(pass, depth, next);
  }
  if constexpr (multiplies_pairs<B>)
    if (filter == prefilter::bf16_vectors || (filter == prefilter::sketch && adapts && prefilter_tuning<B>.vectors_pay))
      if (answer == status::ok && next < pass.now.tokens)
        answer = walk<product_kind::bf16_vectors>(pass, depth_of<product_kind::bf16_vectors, B>(cols), next);
  if (answer == status::ok && next < pass.now.tokens) answer = walk<product_kind::full>(pass, cols, next);
  return answer;
}

}  // namespace cascada::inline CASCADA_ABI::kernel
