#pragma once
// What the last tiles of a sequence asked for: a call that begins within a tile goes on from there.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "cascada/backend.hpp"
#include "cascada/cpu/base/buffer.hpp"
#include "cascada/cpu/base/saved_state.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Of one KV head, the leaves that the last two tiles opened, in the order in which they were asked for, and how many
/// of them each token found open. A call that stands alone begins at a tile's edge and remembers nothing.
template <cpu_backend B>
class remembered_leaves {
 public:
  /// Room for `tokens` tokens, and so for as many leaves, in tiles of `tile` tokens. What is remembered stays, also if
  /// memory runs out.
  void grow(index_t tokens, index_t tile) {
    const auto make_room = [&](record& one) {
      one.leaves.grow(tokens, one.open());
      one.seen.grow(tile < tokens ? tile : tokens, one.tokens);
    };
    make_room(kept_[0]), make_room(kept_[1]), make_room(start_);
    tile_ = tile;
  }

  void clear() noexcept { kept_[0].tokens = kept_[1].tokens = start_.tokens = 0; }

  /// Whether it is known what the tile of `position` asked for by then.
  bool knows(index_t position) const noexcept {
    return position % tile_ == 0 || kept(position / tile_).holds(position / tile_, position % tile_);
  }

  /// Turns to a call for the tokens [first, end). Its tiles may then be worked on by several threads.
  void begin_call(index_t first, index_t end) noexcept {
    if (tile_ == 0) return;
    last_                = (end - 1) / tile_;
    start_.tokens        = 0;
    const index_t tokens = first % tile_;
    if (tokens > 0 && kept(first / tile_).holds(first / tile_, tokens)) start_.copy(kept(first / tile_), tokens);
  }

  /// Leaves that earlier calls opened in the tile of `position`.
  std::span<const index_t> before(index_t position) const noexcept {
    if (tile_ == 0 || position % tile_ == 0 || !start_.holds(position / tile_, position % tile_)) return {};
    return {start_.leaves.data(), static_cast<std::size_t>(start_.open())};
  }

  /// `count` tokens from `position` asked, up to the end of a tile at most: seen[i] of `leaves` are open for token i.
  void remember(index_t position, index_t count, const index_t* leaves, const index_t* seen) noexcept {
    if (tile_ == 0 || position / tile_ + 1 < last_) return;
    record&       one     = kept_[position / tile_ % 2];
    const index_t earlier = position % tile_;
    if (earlier > 0) std::copy_n(start_.seen.data(), earlier, one.seen.data());
    std::copy_n(seen, count, one.seen.data() + earlier);
    one.tile = position / tile_, one.tokens = earlier + count;
    std::copy_n(leaves, one.open(), one.leaves.data());
  }

  /// Of the last two tiles of a sequence of `tokens` tokens: how many of their tokens are known, 0 or all that there
  /// are; how many leaves each found open; the leaves.
  void put(index_t tokens, state_writer<B>& to) const noexcept {
    const index_t last = (tokens - 1) / tile_;
    for (index_t tile = last > 0 ? last - 1 : 0; tile <= last; ++tile) {
      const index_t all   = tokens_of(tile, tokens);
      const record& one   = kept(tile);
      const index_t known = one.holds(tile, all) ? all : 0;
      to.put(known);
      if (known == 0) continue;
      to.put(one.seen.data(), known);
      to.put(one.leaves.data(), one.seen[known - 1]);
    }
  }

  /// What put() wrote, where there is room for the sequence's tokens. False where it is something else: `leaves(tile)`
  /// is how many leaves there are for the tile, and one that it opened is among the first of those, once.
  template <class Leaves>
  bool take(index_t tokens, state_reader<B>& from, const Leaves& leaves) noexcept {
    clear();
    const index_t last = (tokens - 1) / tile_;
    for (index_t tile = last > 0 ? last - 1 : 0; tile <= last; ++tile) {
      record& one   = kept_[tile % 2];
      index_t known = 0;
      if (!from.take(known)) return false;
      if (known == 0) continue;
      if (known != tokens_of(tile, tokens) || !from.take(one.seen.data(), known)) return false;
      const index_t count = leaves(tile);
      for (index_t i = 0, before = 0; i < known; before = one.seen[i++])
        if (one.seen[i] < before || one.seen[i] > count) return false;
      if (!from.take(one.leaves.data(), one.seen[known - 1])) return false;
      std::fill_n(start_.leaves.data(), count, 0);  // lends its memory for marks
      for (index_t i = 0; i < one.seen[known - 1]; ++i)
        if (one.leaves[i] < 0 || one.leaves[i] >= count || start_.leaves[one.leaves[i]]++ > 0) return false;
      one.tile = tile, one.tokens = known;
    }
    return true;
  }

 private:
  struct record {
    index_t            tile   = 0;
    index_t            tokens = 0;  // of the tile, that have asked; 0: nothing is known
    buffer<index_t, B> leaves;
    buffer<index_t, B> seen;  // [tile], as far as there is room for tokens

    index_t open() const noexcept { return tokens == 0 ? 0 : seen[tokens - 1]; }
    bool    holds(index_t which, index_t first) const noexcept { return tokens >= first && tile == which; }
    void    copy(const record& from, index_t first) noexcept {
      tile   = from.tile;
      tokens = first;
      std::copy_n(from.seen.data(), first, seen.data());
      std::copy_n(from.leaves.data(), open(), leaves.data());
    }
  };

  const record& kept(index_t tile) const noexcept { return kept_[tile % 2]; }

  /// How many of a sequence's tokens lie in a tile.
  index_t tokens_of(index_t tile, index_t tokens) const noexcept { return std::min(tile_, tokens - tile * tile_); }

  record  kept_[2];   // of the last two tiles, by the tile's number
  index_t tile_ = 0;  // 0: nothing is remembered

  // Of the call at hand: the tile in which it begins, and the last one's number.
  call_memory<record> start_;
  index_t             last_ = 0;
};

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
