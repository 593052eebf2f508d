#pragma once
// Paper mode of the cascade: the cross-Gram matrix first, block by block, then what removals and additions need.
//
// All products are the tokens' own; the exact cascade is in walk.hpp.

#include <algorithm>
#include <cstdint>

#include "cascada/cpu/select/resolve.hpp"
#include "cascada/cpu/select/walk.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// Paper mode's own workspace: the former representatives' rows of this layer, and a block's cross-Gram products.
template <cpu_backend B>
struct cross_gram_workspace {
  packed_rows<B>     former;    // rows of the former representatives
  buffer<float, B>   products;  // [block_tokens, r rounded up to strips] of the tokens that were none
  buffer<index_t, B> position;  // [T] place among the former representatives, -1 for other tokens
  std::int64_t       stride = 0;

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
void cross_gram_block(selection_pass<Scalar, B>& pass, full_products<Scalar, B>& way, cross_gram_workspace<B>& cross) {
  constexpr index_t width = strip_width<B>, height = gram_tuning<B>.rows;
  index_t           count = 0;
  for (index_t i = pass.begin; i < pass.end; ++i) {
    if (cross.position[i] >= 0) continue;
    pass.tokens[count] = i;
    way.load(i, count++, i - pass.begin);
  }
  parallel_for<B>(pass.where.executor, (count + height - 1) / height, [&](index_t group) {
    const index_t first = group * height, tile = std::min(height, count - first);
    for (index_t s = 0, strips; s < cross.former.strips(); s += strips) {
      strips = next_strips(way.strips, cross.former.strips() - s);
      way.multiply(first, tile, cross.former, s, strips);
      for (index_t i = first; i < first + tile; ++i)
        std::copy_n(way.sums(i), strips * width,
                    cross.products.data() + (pass.tokens[i] - pass.begin) * cross.stride + s * width);
    }
  });
  pass.pairs.evaluated += std::int64_t{count} * cross.former.count();
}

/// Settles a token that was no representative, from the cross-Gram products where they reach.
template <row_scalar Scalar, cpu_backend B>
status resolve_from_cross_gram(selection_pass<Scalar, B>& pass, const cross_gram_workspace<B>& cross, index_t candidate,
                               index_t i) {
  const float* products = cross.products.data() + (i - pass.begin) * cross.stride;
  const auto   covered  = [&](index_t j, pair_value<B>& value) {
    if (cross.position[j] >= 0) return tile_covers<B>(pass.rows, i, j, products[cross.position[j]], value);
    ++pass.pairs.evaluated;
    return pair_covers<B>(pass.rows, i, j, value);
  };
  pair_value<B> value;
  if (covered(candidate, value)) {
    pass.now.rep[i] = candidate;
    return status::ok;
  }
  match<B> best = {};
  for (index_t k = 0; k < pass.now.count && !pass.settled(best); ++k)
    if (pass.now.indices[k] != candidate && covered(pass.now.indices[k], value)) pass.improve(i, k, value, best);
  return pass.settle_in_block(i, best);
}

/// Paper mode.
template <row_scalar Scalar, cpu_backend B>
status cascade_cross_gram(selection_pass<Scalar, B>& pass, cross_gram_workspace<B>& cross,
                          const representatives& before) {
  full_products<Scalar, B> way(pass.rows, pass.memory, pass.rows.x.cols);
  if (const status answer = pass.take_norms(pass.now.tokens); answer != status::ok) return answer;
  cross.begin(way, before);
  for (index_t begin = 0; begin < pass.now.tokens; begin += block_tokens) {
    pass.enter(begin, std::min(pass.now.tokens, begin + block_tokens));
    cross_gram_block(pass, way, cross);
    index_t count = 0;
    for (index_t i = pass.begin; i < pass.end; ++i)
      if (cross.position[i] >= 0) pass.tokens[count++] = i;
    scan_slices(pass, way, 0, count, 0, true);
    gram_of_block(pass, way, gather_all(pass, way), pass.where.executor);
    for (index_t i = pass.begin; i < pass.end; ++i) {
      const status answer = cross.position[i] >= 0
                                ? resolve_in_block<full_products<Scalar, B>>(pass, i)
                                : resolve_from_cross_gram(pass, cross, pass.now.rep[before.rep.data()[i]], i);
      if (answer != status::ok) return answer;
    }
    append_members(pass, way);
  }
  return status::ok;
}

}  // namespace cascada::inline CASCADA_ABI::kernel
