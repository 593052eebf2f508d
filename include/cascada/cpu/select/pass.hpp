#pragma once
// What one pass over the tokens, a selection or a step of the cascade, knows and decides.
//
// Tokens are walked in stretches. A stretch is compared with the representatives so far in parallel (scan.hpp); what is
// left of it is resolved in token order, block by block (resolve.hpp).

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <utility>

#include "cascada/cpu/select/count.hpp"
#include "cascada/cpu/base/float_environment.hpp"
#include "cascada/cpu/gram/products.hpp"
#include "cascada/report.hpp"
#include "cascada/representatives.hpp"
#include "cascada/selection_options.hpp"
#include "cascada/status.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// Owned representatives of one layer (representatives.hpp gives the shapes). None once moved from.
template <cpu_backend B>
struct selection_state {
  buffer<index_t, B> indices;
  buffer<index_t, B> rep;
  buffer<index_t, B> counts;
  index_t            tokens = 0;
  index_t            count  = 0;

  selection_state()                       = default;
  selection_state(const selection_state&) = default;
  selection_state(selection_state&& other) noexcept
      : indices(std::move(other.indices)),
        rep(std::move(other.rep)),
        counts(std::move(other.counts)),
        tokens(std::exchange(other.tokens, 0)),
        count(std::exchange(other.count, 0)) {}
  selection_state& operator=(selection_state other) noexcept {
    indices = std::move(other.indices), rep = std::move(other.rep), counts = std::move(other.counts);
    tokens = other.tokens, count = other.count;
    return *this;
  }

  /// Room for the sets of T tokens. Forgets the set.
  void reserve(index_t T, index_t limit) {
    tokens = count = 0;
    rep.reserve(T), indices.reserve(limit), counts.reserve(limit);
  }

  /// Copies a set, with room for those of later layers.
  void assign(const representatives& from) {
    reserve(from.tokens(), from.tokens());
    tokens = from.tokens();
    count  = from.count();
    std::copy_n(from.rep.data(), tokens, rep.data());
    std::copy_n(from.indices.data(), count, indices.data());
    std::copy_n(from.counts.data(), count, counts.data());
  }

  /// Room as reserve() makes it, and the set stays. If memory runs out, so does everything.
  void grow(index_t T, index_t limit) {
    if (rep.capacity() >= T && indices.capacity() >= limit && counts.capacity() >= limit) return;
    selection_state larger;
    larger.reserve(std::max(T, tokens), std::max(limit, count));
    larger.tokens = tokens, larger.count = count;
    std::copy_n(rep.data(), tokens, larger.rep.data());
    std::copy_n(indices.data(), count, larger.indices.data());
    std::copy_n(counts.data(), count, larger.counts.data());
    *this = std::move(larger);
  }

  CASCADA_INLINE representatives view() const noexcept {
    const auto T = static_cast<std::size_t>(tokens), r = static_cast<std::size_t>(count);
    return {{indices.data(), r}, {rep.data(), T}, {counts.data(), r}};
  }
};

/// What is known of a token of the stretch before its products with earlier representatives are asked for.
enum class token_evidence : std::uint8_t {
  none,          // nothing: compare it with every earlier representative
  covered,       // it has its representative
  waits,         // it inherits a token of the stretch that does not cover it, but might be replaced by one that does
  waits_covered  // it inherits a token of the stretch that covers it, and might be replaced
};

CASCADA_INLINE constexpr bool waiting(token_evidence evidence) noexcept { return evidence >= token_evidence::waits; }

/// A covering representative: its position in R, and the pair's product.
template <cpu_backend B>
struct match {
  index_t       position = -1;
  pair_value<B> value    = {};
};

template <cpu_backend B>
struct pair_counts {
  std::int64_t evaluated = 0, rechecked = 0;

  CASCADA_INLINE void add(const pair_counts<B>& more) noexcept {
    evaluated += more.evaluated;
    rechecked += more.rechecked;
  }
};

/// The Gram matrix of a block's tokens that may become representatives, by bits: which earlier ones may cover each.
template <cpu_backend B>
struct block_gram {
  static constexpr std::int64_t stride = (block_tokens + strip_width<B> - 1) / strip_width<B> * strip_width<B>;

  buffer<float, B> products;  // [block_tokens, stride], where they are canonical
  std::uint64_t    open[block_tokens];
  std::uint64_t    sure[block_tokens];
  index_t          slot[stretch_tokens];    // place in the matrix, by place in the stretch; -1: none
  index_t          member[block_tokens];    // slots of the tokens that joined R
  index_t          position[block_tokens];  // by slot: place in R
  std::uint64_t    joined  = 0;             // the members, as bits
  index_t          members = 0;

  void reserve() { products.reserve(block_tokens * stride); }

  CASCADA_INLINE float* row(index_t i) noexcept { return products.data() + i * stride; }
};

/// Everything one pass over the tokens reads and writes. The pass appends to `now` and never reads beyond it.
template <row_scalar Scalar, cpu_backend B>
struct selection_pass {
  gram_rows<Scalar>    rows    = {};
  selection_options    options = {};
  index_t              limit   = 0;  // of representatives
  B                    where{};
  product_workspace<B> memory;
  selection_state<B>   now;
  const index_t*       old_rep = nullptr;    // of the state it inherits; null: none
  buffer<float, B>     norms, scaled_norms;  // [T]
  buffer<index_t, B>   position, additions;  // [T], for counting
  pair_counts<B>       pairs;
  index_t              normed = 0;     // tokens whose norms are taken
  bool                 finite = true;  // whether all of them have one

  // Of the stretch at hand:
  index_t        begin = 0, end = 0;
  token_evidence evidence[stretch_tokens];
  match<B>       found[stretch_tokens];  // among the representatives it was compared with
  index_t        tokens[row_places];     // whose row is at a place
  block_gram<B>  gram;

  void reserve(index_t T, index_t d, const selection_options& opts, const B& backend) {
    options = opts;
    where   = backend;
    limit   = detail::room(options, T);
    norms.reserve(T), scaled_norms.reserve(T), position.reserve(T), additions.reserve(T);
    memory.reserve(limit, d);
    gram.reserve();
    now.reserve(T, limit);
  }

  void start(matrix_view<const Scalar> x, const index_t* inherited) noexcept {
    rows       = {x, norms.data(), scaled_norms.data(), sum_margin<B>(x.cols)};
    old_rep    = inherited;
    now.tokens = x.rows, now.count = 0;
    normed = 0;
    finite = true;
    pairs  = {};
  }

  /// Norms of the tokens before `last`; `non_finite_token` if some token has none.
  status take_norms(index_t last) {
    if (normed < last) beside_norms(last, [] {});
    return finite ? status(status::ok) : why_no_norm<B>(rows.x);
  }

  /// Does a task on one thread while others take the norms of the tokens before `last`.
  template <class Task>
  void beside_norms(index_t last, const Task& task) {
    constexpr index_t strip = 32;
    const index_t     first = normed;
    std::atomic<bool> good{finite};
    normed = std::max(first, last);
    parallel_for<B>(where.executor, 1 + (normed - first + strip - 1) / strip, [&](index_t s) {
      if (s == 0) return task();
      const index_t to = std::min(normed, first + s * strip), from = first + (s - 1) * strip;
      if (!compute_norms<B>(rows.x, options.threshold, from, to, norms.data(), scaled_norms.data()))
        good.store(false, std::memory_order_relaxed);
    });
    finite = good.load();
  }

  /// Turns to the tokens [first, last).
  void enter(index_t first, index_t last) noexcept {
    begin = first;
    end   = last;
    for (token_evidence& of_token : evidence) of_token = token_evidence::none;
    for (match<B>& of_token : found) of_token = {};
  }

  /// Fills in the counts and tells what the pass did, given the state it inherited (null: none).
  selection_report finish(const representatives* before) noexcept {
    selection_report report = before
                                  ? count_cascade<B>(*before, now.view(), options, position.data(), additions.data())
                                  : count_selection<B>(now.view(), options.assign, position.data(), additions.data());
    report.pairs_evaluated  = pairs.evaluated;
    report.pairs_rechecked  = pairs.rechecked;
    std::fill_n(now.counts.data(), now.count, 0);
    for (index_t i = 0; i < now.tokens; ++i) ++now.counts[position[now.rep[i]]];
    return report;
  }

  /// Makes token i stand for itself. False where the limit is reached.
  bool add(index_t i) noexcept {
    if (now.count == limit) return false;
    now.indices[now.count++] = i;
    now.rep[i]               = i;
    return true;
  }

  /// Gives token i the representative found, or makes it one.
  status settle(index_t i, const match<B>& best) noexcept {
    if (best.position >= 0) {
      now.rep[i] = now.indices[best.position];
      return status::ok;
    }
    return add(i) ? status::ok : status::too_many_representatives;
  }

  /// The same for a token of the block, which joins the block's members where it has none.
  status settle_in_block(index_t i, const match<B>& best) noexcept {
    if (const status answer = settle(i, best); answer != status::ok || best.position >= 0) return answer;
    const index_t slot = gram.slot[i - begin];
    gram.joined |= std::uint64_t{1} << slot;
    gram.position[slot]         = now.count - 1;
    gram.member[gram.members++] = slot;
    return status::ok;
  }

  /// Whether no further representative can replace `best`.
  CASCADA_INLINE bool settled(const match<B>& best) const noexcept {
    return best.position >= 0 && options.assign == assignment::lowest_index;
  }
  CASCADA_INLINE bool settled(index_t i) const noexcept { return settled(found[i - begin]); }

  /// A covering representative at `place` replaces `best` if it is the first one found, or under `nearest` if its
  /// cosine is larger (ties to the lower index, which is met first).
  void improve(index_t i, index_t place, pair_value<B> value, match<B>& best) const noexcept {
    if (best.position < 0 || (options.assign == assignment::nearest &&
                              nearer<B>(rows, i, now.indices[place], value, now.indices[best.position], best.value)))
      best = {place, value};
  }

  /// The verdict on token i and the representative at `place`, from their product if it is canonical, else asked of the
  /// pair unless it is `sure`.
  template <bool Canonical>
  void weigh(index_t i, index_t place, float product, bool sure, match<B>& best,
             pair_counts<B>& counts) const noexcept {
    pair_value<B> value{product, true};
    if constexpr (Canonical) {
      if (!covers<B>(product, rows.scaled_norms[i], rows.norms[now.indices[place]])) return;
    } else if (!sure || options.assign == assignment::nearest) {
      ++counts.evaluated, ++counts.rechecked;
      if (!pair_covers<B>(rows, i, now.indices[place], value)) return;
    }
    improve(i, place, value, best);
  }
};

}  // namespace cascada::inline CASCADA_ABI::kernel
