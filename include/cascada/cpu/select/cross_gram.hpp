#pragma once
// Paper mode of the cascade: the cross-Gram matrix first, block by block, then what removals and additions need.
//
// All products are the tokens' own; the exact cascade is in walk.hpp.

#include <algorithm>
#include <cstdint>

#include "cascada/cpu/select/resolve.hpp"
#include "cascada/cpu/select/walk.hpp"

namespace cascada::inline CASCADA_ABI::kernel::select {

/// Paper mode's own workspace: the former representatives' rows of this layer, and a block's cross-Gram products.
template <cpu_backend B>
struct cross_gram_workspace {
  packed_rows<B>     former;    // rows of the former representatives
  buffer<float, B>   products;  // [block_tokens, r rounded up to strips] of the tokens that were none
  buffer<index_t, B> position;  // [T] position among the former representatives, -1 for other tokens
  std::int64_t       stride = 0;

  /// The products of the token of that number in the block.
  CASCADA_INLINE float*       row(index_t local) noexcept { return products.data() + local * stride; }
  CASCADA_INLINE const float* row(index_t local) const noexcept { return products.data() + local * stride; }

  void reserve(index_t T, index_t d) {
    former.reserve(T, d);
    position.reserve(T);
    products.reserve(block_tokens * (std::int64_t{T} + strip_width<B>));
  }

  template <row_scalar Scalar>
  void begin(full_products<Scalar, B>& way, const representatives& before) {
    former.clear(way.depth());
    std::fill_n(position.data(), before.tokens(), -1);
    for (index_t k = 0; k < before.count(); ++k) position[before.indices.data()[k]] = k;
    append_tokens(way, former, before.indices.data(), before.count());
    stride = std::int64_t{former.strips()} * strip_width<B>;
  }
};

/// Products of the block's tokens that were no representatives with all former representatives, later ones included.
template <row_scalar Scalar, cpu_backend B>
void cross_gram_block(selection_call<Scalar, B>& call, const selection_stretch<B>& stretch,
                      full_products<Scalar, B>& way, cross_gram_workspace<B>& cross) {
  index_t count = 0;
  for (index_t i = stretch.begin; i < stretch.end; ++i)
    if (cross.position[i] < 0) way.load(i, count++, stretch.local(i));
  multiply_all(
      way, call.where.executor, cross.former, count, cross.stride, [&](index_t) { return cross.former.count(); },
      [&](index_t place) { return cross.row(stretch.local(way.token(place))); });
  call.pairs.evaluated += std::int64_t{count} * cross.former.count();
}

/// Settles a token of a block that was no representative, from its cross-Gram products where they reach.
template <row_scalar Scalar, cpu_backend B>
status resolve_from_cross_gram(selection_call<Scalar, B>& call, selection_block<B>& block, index_t line, index_t i,
                               const cross_gram_workspace<B>& cross, index_t candidate) {
  const float* products = cross.row(block.local[line]);
  const auto   covered  = [&](index_t j, pair_value<B>& value) {
    if (cross.position[j] >= 0) return tile_covers<B>(call.rows, i, j, products[cross.position[j]], value);
    ++call.pairs.evaluated;
    return pair_covers<B>(call.rows, i, j, value);
  };
  pair_value<B> value;
  if (covered(candidate, value)) {
    call.represent(i, candidate);
    return status::ok;
  }
  match<B> best = {};
  for (index_t k = 0; k < call.now().count && !call.settled(best); ++k)
    if (call.now().indices[k] != candidate && covered(call.now().indices[k], value)) call.improve(i, k, value, best);
  return settle_in_block(call, block, line, i, best);
}

/// Paper mode.
template <row_scalar Scalar, cpu_backend B>
status cascade_cross_gram(selection_call<Scalar, B>& call, product_workspace<B>& space, cross_gram_workspace<B>& cross,
                          const representatives& before) {
  full_products<Scalar, B> way(call.rows, space, call.rows.x.cols);
  if (const status answer = call.take_norms(call.tokens()); answer != status::ok) return answer;
  cross.begin(way, before);
  for (index_t begin = 0; begin < call.tokens(); begin += block_tokens) {
    selection_stretch<B> stretch{begin, std::min(call.tokens(), begin + block_tokens)};
    cross_gram_block(call, stretch, way, cross);
    index_t were[block_tokens], count = 0;
    for (index_t i = begin; i < stretch.end; ++i)
      if (cross.position[i] >= 0) were[count++] = i;
    scan_slices(call, stretch, way, were, 0, count, 0, call.pairs);
    selection_block<B> block(way.gram());
    gather_all(stretch, block, way);
    gram_of_block(block, way, call.where.executor, call.pairs);
    for (index_t line = 0; line < block.count; ++line) {
      const index_t i = begin + line;
      const status  answer =
          cross.position[i] >= 0
               ? resolve_in_block<full_products<Scalar, B>>(call, block, line, i, stretch.found[line])
               : resolve_from_cross_gram(call, block, line, i, cross, call.now().rep[before.rep.data()[i]]);
      if (answer != status::ok) return answer;
    }
    append_joined(block, way);
  }
  return status::ok;
}

}  // namespace cascada::inline CASCADA_ABI::kernel::select
