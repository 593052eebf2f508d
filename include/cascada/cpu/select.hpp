#pragma once
// Selection, block by block: tokens against the representatives of earlier blocks in parallel tiles, then the block
// itself in token order.

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "cascada/cpu/count.hpp"
#include "cascada/cpu/gram.hpp"
#include "cascada/report.hpp"
#include "cascada/representatives.hpp"
#include "cascada/selection_options.hpp"
#include "cascada/status.hpp"

namespace cascada::kernel {

/// Owned representatives of one layer (representatives.hpp gives the shapes).
template <cpu_backend B>
struct selection_state {
  buffer<index_t, B> indices;
  buffer<index_t, B> rep;
  buffer<index_t, B> counts;
  index_t            tokens = 0;
  index_t            count  = 0;

  void reserve(index_t T, index_t limit) { rep.reserve(T), indices.reserve(limit), counts.reserve(limit); }

  void assign(const representatives& from) {
    tokens = from.tokens(), count = from.count();
    reserve(tokens, tokens);  // room for the sets of later layers too
    std::copy_n(from.rep.data(), tokens, rep.data());
    std::copy_n(from.indices.data(), count, indices.data());
    std::copy_n(from.counts.data(), count, counts.data());
  }

  CASCADA_INLINE representatives view() const noexcept {
    const auto T = static_cast<std::size_t>(tokens), r = static_cast<std::size_t>(count);
    return {{indices.data(), r}, {rep.data(), T}, {counts.data(), r}};
  }
};

/// What is known of a token of the block before its products with earlier representatives are asked for.
enum class token_evidence : std::uint8_t {
  none,     // nothing: compare it with every earlier representative
  pending,  // it inherits a token of its own block, whose fate is not known yet
  covered,  // its representative is settled
};

/// A covering representative: its position in R, and the pair's product.
struct match {
  index_t position = -1;
  float   product  = 0;
};

/// Tokens resolved together: wide enough for tiles, narrow enough to exit early.
inline constexpr index_t block_tokens = 64;

/// The Gram matrix of a block's tokens that may become representatives, and those of them that did.
template <cpu_backend B>
struct block_gram {
  packed_rows<B>   packed;
  buffer<float, B> products;              // [block_tokens, stride], below the diagonal
  index_t          slot[block_tokens];    // place in the matrix, by place in the block
  index_t          member[block_tokens];  // slots of the tokens that joined R
  index_t          members = 0;

  void reserve(index_t d) {
    packed.reserve(block_tokens, d);
    products.reserve(block_tokens * stride);
  }

  CASCADA_INLINE float* row(index_t i) noexcept { return products.data() + i * stride; }

 private:
  static constexpr std::int64_t stride = (block_tokens + panel_width<B> - 1) / panel_width<B> * panel_width<B>;
};

/// Everything one pass over the tokens reads and writes. The pass appends to `now` and never reads beyond it.
template <row_scalar Scalar, cpu_backend B>
struct selection_pass {
  gram_rows<Scalar>  rows    = {};
  selection_options  options = {};
  index_t            limit   = 0;          // of representatives
  B                  where{};
  packed_rows<B>     packed;               // rows of the representatives so far
  selection_state<B> now;
  buffer<float, B>   norms, scaled_norms;  // [T]
  buffer<index_t, B> position, additions;  // [T], for counting
  std::int64_t       pairs_evaluated = 0;

  // Of the block at hand:
  token_evidence evidence[block_tokens];
  match          found[block_tokens] = {};  // among the representatives of earlier blocks
  block_gram<B>  gram;

  void reserve(index_t T, index_t d, const selection_options& opts, const B& backend) {
    options = opts;
    where   = backend;
    limit   = detail::room(options, T);
    norms.reserve(T), scaled_norms.reserve(T), position.reserve(T), additions.reserve(T);
    packed.reserve(limit, d);
    gram.reserve(d);
    now.reserve(T, limit);
  }

  /// Norms of all tokens; `non_finite_token` if one has none.
  status begin(matrix_view<const Scalar> x) {
    constexpr index_t strip = 256;
    std::atomic<bool> finite{true};
    where.executor.parallel_for((x.rows + strip - 1) / strip, [&](index_t s) {
      const index_t first = s * strip, last = std::min(x.rows, first + strip);
      if (!compute_norms<B>(x, options.threshold, first, last, norms.data(), scaled_norms.data()))
        finite.store(false, std::memory_order_relaxed);
    });
    if (!finite.load()) return status::non_finite_token;
    rows = {x, norms.data(), scaled_norms.data(), tile_margin<B>(x.cols)};
    packed.clear(x.cols);
    now.tokens      = x.rows;
    now.count       = 0;
    pairs_evaluated = 0;
    return status::ok;
  }

  /// Fills in the counts and tells what the pass did, given the state it inherited (null: none).
  selection_report finish(const representatives* before) noexcept {
    selection_report report = before ? count_cascade<B>(*before, now.view(), options, position.data(), additions.data())
                                     : count_selection<B>(now.view(), options.assign, position.data(), additions.data());
    report.pairs_evaluated  = pairs_evaluated;
    std::fill_n(now.counts.data(), now.count, 0);
    for (index_t i = 0; i < now.tokens; ++i) ++now.counts[position[now.rep[i]]];
    return report;
  }

  /// The verdict on token i and the earlier token j from a tile's product.
  CASCADA_INLINE bool tile_covers(index_t i, index_t j, float& product) const noexcept {
    return kernel::tile_covers<B>(rows, i, j, options.assign == assignment::nearest, product);
  }

  /// The verdict on one pair, j earlier than i, without a tile.
  CASCADA_INLINE bool covered_by(index_t i, index_t j, float& product) noexcept {
    product = pair_product<B>(rows.x.row(i), rows.x.row(j), rows.x.cols);
    ++pairs_evaluated;
    return covers<B>(product, rows.scaled_norms[i], rows.norms[j]);
  }

  /// Packs the block's members for the blocks to come.
  void end_block() noexcept { packed.append(gram.packed, gram.member, gram.members); }

  /// Makes token i stand for itself. False where the limit is reached.
  bool add(index_t i) noexcept {
    if (now.count == limit) return false;
    now.indices[now.count++] = i;
    now.rep[i]               = i;
    return true;
  }

  /// A tile's product below this times n_j does not cover token i.
  CASCADA_INLINE float least_scaled_norm(index_t i) const noexcept {
    return B::has_fma ? rows.scaled_norms[i] : rows.scaled_norms[i] - 2 * rows.margin * rows.norms[i];
  }

  CASCADA_INLINE float norm_of_member(index_t place) const noexcept { return rows.norms[now.indices[place]]; }

  /// Gives token i the representative found, or makes it one.
  status settle(index_t begin, index_t i, match best) noexcept {
    if (best.position >= 0) {
      now.rep[i] = now.indices[best.position];
      return status::ok;
    }
    gram.member[gram.members++] = gram.slot[i - begin];
    return add(i) ? status::ok : status::workspace_too_small;
  }

  /// Whether a match at `place` replaces `best`: the first one found, or under `nearest` the one of larger cosine
  /// (ties to the lower index, which is met first).
  CASCADA_INLINE bool improves(match best, index_t place, float product) const noexcept {
    if (best.position < 0) return true;
    return options.assign == assignment::nearest &&
           nearer<B>(product, norm_of_member(place), best.product, norm_of_member(best.position));
  }

  /// Whether no further representative can replace `best`.
  CASCADA_INLINE bool settled(match best) const noexcept {
    return best.position >= 0 && options.assign == assignment::lowest_index;
  }

  /// Looks through a token's products with `columns` representatives from `place` on for one that improves `best`.
  void pick(index_t token, index_t place, index_t columns, const tile_row<B>& row, match& best) const noexcept {
    float products[panel_width<B>];
    row.store(products);
    for (index_t c = 0; c < columns; ++c) {
      if (!tile_covers(token, now.indices[place + c], products[c])) continue;
      if (improves(best, place + c, products[c])) best = {place + c, products[c]};
      if (settled(best)) return;
    }
  }
};

/// Compares `count` tokens with the first `known` representatives, in order, and notes the covering one of each in
/// `found` (by place in the block). Tokens leave as soon as they are settled. Returns the pairs evaluated.
template <row_scalar Scalar, cpu_backend B>
std::int64_t scan(const selection_pass<Scalar, B>& pass, index_t begin, index_t* tokens, index_t count, index_t known,
                  match* found) noexcept {
  constexpr index_t width = panel_width<B>, height = gram_tuning<B>.rows;
  std::int64_t      evaluated = 0;
  for (index_t p = 0; p * width < known && count > 0; ++p) {
    const index_t columns = std::min(known - p * width, width);
    index_t       kept    = 0;
    for (index_t t = 0; t < count; t += height) {
      const index_t tile = std::min(height, count - t);
      const Scalar* rows[height];
      for (index_t i = 0; i < tile; ++i) rows[i] = pass.rows.x.row(tokens[t + i]);
      gram_tile_of<B>(tile, rows, pass.packed.panel(p), pass.rows.x.cols, [&](index_t i, const tile_row<B>& row) {
        const index_t token = tokens[t + i];
        if (row.may_be_covered(pass.least_scaled_norm(token), pass.packed.norms(p)))
          pass.pick(token, p * width, columns, row, found[token - begin]);
      });
      evaluated += std::int64_t{tile} * columns;
      for (index_t i = 0; i < tile; ++i)
        if (!pass.settled(found[tokens[t + i] - begin])) tokens[kept++] = tokens[t + i];
    }
    count = kept;
  }
  return evaluated;
}

/// Scans the tokens of the block without evidence against all representatives so far, in parallel slices.
template <row_scalar Scalar, cpu_backend B>
void scan_block(selection_pass<Scalar, B>& pass, index_t begin, index_t end) {
  index_t tokens[block_tokens];
  index_t count = 0;
  for (index_t i = begin; i < end; ++i)
    if (pass.evidence[i - begin] == token_evidence::none) tokens[count++] = i;
  const index_t known  = pass.now.count;
  const index_t slices = std::clamp<index_t>(pass.where.executor.concurrency(), 1, index_t{block_tokens});
  // Whole tiles to each worker.
  const index_t             tiles = (count + gram_tuning<B>.rows - 1) / gram_tuning<B>.rows;
  const index_t             slice = (tiles + slices - 1) / slices * gram_tuning<B>.rows;
  std::atomic<std::int64_t> evaluated{0};
  if (count == 0 || known == 0) return;
  pass.where.executor.parallel_for((count + slice - 1) / slice, [&](index_t s) {
    const index_t first = s * slice, size = std::min(slice, count - first);
    evaluated.fetch_add(scan(pass, begin, tokens + first, size, known, pass.found), std::memory_order_relaxed);
  });
  pass.pairs_evaluated += evaluated.load();
}

/// Products among the tokens of the block that may become representatives: each with those before it.
template <row_scalar Scalar, cpu_backend B, class MayJoin>
void gram_of_block(selection_pass<Scalar, B>& pass, index_t begin, index_t end, MayJoin may_join) {
  constexpr index_t width = panel_width<B>, height = gram_tuning<B>.rows;
  block_gram<B>&    gram  = pass.gram;
  const Scalar*     rows[block_tokens];
  float             norms[block_tokens];
  index_t           count = 0;
  for (index_t i = begin; i < end; ++i) {
    if (!may_join(i)) continue;
    rows[count]          = pass.rows.x.row(i);
    norms[count]         = pass.rows.norms[i];
    gram.slot[i - begin] = count++;
  }
  gram.packed.clear(pass.rows.x.cols);
  gram.packed.append(rows, norms, count);
  pass.where.executor.parallel_for((count + height - 1) / height, [&](index_t strip) {
    const index_t first = strip * height, tile = std::min(height, count - first);
    for (index_t p = 0; p * width < first + tile - 1; ++p)
      gram_tile_of<B>(tile, rows + first, gram.packed.panel(p), pass.rows.x.cols,
                      [&](index_t i, const tile_row<B>& row) { row.store(gram.row(first + i) + p * width); });
  });
  pass.pairs_evaluated += full_gram_operations(count);
  gram.members = 0;
}

/// Settles token i of the block, given what `found` says of earlier blocks: compares it with the block's members.
template <row_scalar Scalar, cpu_backend B>
status resolve_in_block(selection_pass<Scalar, B>& pass, index_t begin, index_t i) {
  block_gram<B>& gram     = pass.gram;
  const float*   products = gram.row(gram.slot[i - begin]);
  match          best     = pass.found[i - begin];
  for (index_t m = 0; m < gram.members && !pass.settled(best); ++m) {
    float         product  = products[gram.member[m]];
    const index_t position = pass.packed.count() + m;
    if (pass.tile_covers(i, pass.now.indices[position], product) && pass.improves(best, position, product))
      best = {position, product};
  }
  return pass.settle(begin, i, best);
}

/// Settles every token of [begin, end) in order. `inherits(i)` gives the candidate of a pending token: the
/// representative of the token it inherits, which is settled by then.
template <row_scalar Scalar, cpu_backend B, class Inherits>
status resolve_block(selection_pass<Scalar, B>& pass, index_t begin, index_t end, Inherits inherits) {
  const index_t known = pass.now.count;
  scan_block(pass, begin, end);
  gram_of_block(pass, begin, end, [&](index_t i) {
    return pass.evidence[i - begin] != token_evidence::covered && !pass.settled(pass.found[i - begin]);
  });
  for (index_t i = begin; i < end; ++i) {
    if (pass.evidence[i - begin] == token_evidence::covered) continue;
    if (pass.evidence[i - begin] == token_evidence::pending) {
      const index_t candidate = inherits(i);
      float         product;
      if (pass.covered_by(i, candidate, product)) {
        pass.now.rep[i] = candidate;
        continue;
      }
      index_t token = i;
      pass.pairs_evaluated += scan(pass, begin, &token, 1, known, pass.found);
    }
    const status answer = resolve_in_block(pass, begin, i);
    if (answer != status::ok) return answer;
  }
  pass.end_block();
  return status::ok;
}

/// Full selection, O(T r d): every token is compared, nothing is inherited.
template <row_scalar Scalar, cpu_backend B>
status select_all(selection_pass<Scalar, B>& pass) {
  const index_t T = pass.now.tokens;
  for (index_t begin = 0; begin < T; begin += block_tokens) {
    const index_t end = std::min(T, begin + block_tokens);
    for (token_evidence& evidence : pass.evidence) evidence = token_evidence::none;
    for (match& found : pass.found) found = {};
    const status answer = resolve_block(pass, begin, end, [](index_t) { return index_t{-1}; });
    if (answer != status::ok) return answer;
  }
  return status::ok;
}

/// The paper's baseline: forms the T x T Gram matrix (its lower triangle, in `gram` [T, T]), then scans it.
template <row_scalar Scalar, cpu_backend B>
status select_literal(selection_pass<Scalar, B>& pass, packed_rows<B>& all, float* gram) {
  constexpr index_t width = panel_width<B>, height = gram_tuning<B>.rows;
  const index_t     T = pass.now.tokens;
  all.clear(pass.rows.x.cols);
  for (index_t i = 0; i < T; ++i) {
    const Scalar* row = pass.rows.x.row(i);
    all.append(&row, &pass.rows.norms[i], 1);
  }
  pass.where.executor.parallel_for((T + height - 1) / height, [&](index_t strip) {
    const index_t first = strip * height, tile = std::min(height, T - first);
    const Scalar* rows[height];
    for (index_t i = 0; i < tile; ++i) rows[i] = pass.rows.x.row(first + i);
    for (index_t p = 0; p * width < first + tile; ++p)
      gram_tile_of<B>(tile, rows, all.panel(p), pass.rows.x.cols, [&](index_t i, const tile_row<B>& row) {
        float products[width];
        row.store(products);
        std::copy_n(products, std::min(width, T - p * width), gram + std::int64_t{first + i} * T + p * width);
      });
  });
  pass.pairs_evaluated = full_gram_operations(T);
  for (index_t i = 0; i < T; ++i) {
    match best = {};
    for (index_t k = 0; k < pass.now.count; ++k) {
      const index_t j       = pass.now.indices[k];
      float         product = gram[std::int64_t{i} * T + j];
      if (pass.tile_covers(i, j, product) && pass.improves(best, k, product)) best = {k, product};
    }
    if (best.position >= 0)
      pass.now.rep[i] = pass.now.indices[best.position];
    else if (!pass.add(i))
      return status::workspace_too_small;
  }
  return status::ok;
}

}  // namespace cascada::kernel
