#pragma once
// Opening by mass: from the rows that ask for leaves to those for which these are open, and to lists of their tokens.

#include <cstdint>
#include <limits>

#include "cascada/hip/attention/clusters.hpp"
#include "cascada/hip/attention/leaves.hpp"
#include "cascada/hip/attention/opened_leaves.hpp"
#include "cascada/hip/attention/operands.hpp"
#include "cascada/hip/attention/token_rows.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// One wave for each band and KV head. Tokens are listed in the order of their leaves' first askers: which of them a
/// row sees, and at which places, does not depend on later rows. O(leaves + tokens + asked leaves^2 / 64).
template <class Place = rows_in_order>
struct open_leaves {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  selection_sets layer;
  cluster_memory clusters;
  leaf_memory    leaves;
  opened_leaves  opened;
  index_t        tokens, first, last;  // T; the bands of tokens [first, last)
  index_t        band, tile;           // tokens
  index_t        blocks_of_band;       // of queries
  index_t        kv_heads, group;      // query heads that share a KV head

  [[no_unique_address]] Place row_of = {};

  index_t grid() const { return (last - first + band - 1) / band * kv_heads; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (layer.of_head(gpu.block() % kv_heads).failed()) return;
    const index_t      number = gpu.block() / kv_heads, begin = first + number * band;
    const index_t      end   = last - begin < band ? last : begin + band;
    const std::int64_t list  = std::int64_t{gpu.block()} * opened.stride;
    const band_of_rows own   = {begin, (end - begin) * group, number * blocks_of_band, gpu.block() % kv_heads};
    asked_leaf* const  asked = opened.asked + list;
    const index_t      count = list_asked(gpu, own, asked);
    gpu.barrier();
    list_tokens(gpu, own.kv_head, asked, count, list);
  }

 private:
  static constexpr index_t nobody = std::numeric_limits<index_t>::max();

  /// Rows of queries, (token, head) pairs from token `begin` on, in blocks from `block` on.
  struct band_of_rows {
    index_t begin, rows, block, kv_head;
  };

  /// Opens leaves, lists those that somebody asked for, by place, and counts their members. Returns how many they are.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE index_t list_asked(Gpu& gpu, const band_of_rows& own, asked_leaf* asked) const {
    const index_t           field   = leaves.field_of(own.begin / opened.chunk, leaves.set_of(own.kv_head));
    const index_t           count   = gpu.uniform(leaves.far_count[field]);
    const index_t* const    rows    = leaves.far_rows + std::int64_t{field} * tokens;
    const leaf_range* const ranges  = leaves.ranges_of(leaves.set_of(own.kv_head), tokens);
    index_t                 listed  = 0;
    std::uint32_t           members = 0;
    for (index_t base = 0; base < count; base += gfx942::wave) {
      const index_t place = base + gpu.lane();
      asked_leaf    leaf  = {nobody, place, place < count ? rows[place] - ranges[place].begin + 1 : 1};
      if (place < count) leaf.asker = leaf.size > 1 ? open(own, place) : close(own, place);
      const bool asked_for = leaf.asker != nobody;
      members += sum_of_wave(gpu, static_cast<std::uint32_t>(asked_for ? leaf.size : 0));
      listed += append(gpu, asked_for, leaf, asked + listed);
    }
    if (gpu.lane() == 0) opened.count[gpu.block()] = static_cast<index_t>(members);
    return listed;
  }

  /// The bits of rows [32 number, 32 number + 32) of a band.
  CASCADA_DEVICE CASCADA_INLINE std::uint32_t& word(const band_of_rows& own, index_t number, index_t place) const {
    const index_t block = own.block + number / waves_of_block;
    return opened.rows_of(block * kv_heads + own.kv_head, number % waves_of_block)[place];
  }

  /// Bits `from` and above.
  CASCADA_DEVICE CASCADA_INLINE static std::uint32_t bits_from(index_t from) {
    return from >= 32 ? 0 : ~std::uint32_t{0} << (from < 0 ? 0 : from);
  }

  /// Rows that ask open a leaf for all heads of their token, and of the later ones of its tile. Returns the first that
  /// asks.
  CASCADA_DEVICE CASCADA_INLINE index_t open(const band_of_rows& own, index_t place) const {
    index_t asker = nobody, end = 0;  // rows below are done
    for (index_t number = 0; 32 * number < own.rows; ++number)
      while (const std::uint32_t asks = word(own, number, place) & bits_from(end - 32 * number)) {
        const index_t token = (32 * number + __builtin_ctz(asks)) / group;
        if (asker == nobody) asker = own.begin + token;
        end = (token / tile + 1) * tile * group;
        if (end > own.rows) end = own.rows;
        for (index_t n = token * group / 32; 32 * n < end; ++n)
          word(own, n, place) |= bits_from(token * group - 32 * n) & ~bits_from(end - 32 * n);
      }
    return asker;
  }

  /// A leaf of one token is what it stands for.
  CASCADA_DEVICE CASCADA_INLINE index_t close(const band_of_rows& own, index_t place) const {
    for (index_t number = 0; 32 * number < own.rows; ++number) word(own, number, place) = 0;
    return nobody;
  }

  /// The members of asked leaves, by asker and place.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void list_tokens(Gpu& gpu, index_t kv_head, const asked_leaf* asked, index_t count,
                                                 std::int64_t list) const {
    const index_t           set     = leaves.set_of(kv_head);
    const leaf_range* const ranges  = leaves.ranges_of(set, tokens);
    const index_t* const    members = clusters.members_of_set(set, tokens).members;
    for (index_t i = gpu.lane(); i < count; i += gfx942::wave) {
      const asked_leaf own    = asked[i];
      index_t          before = 0;  // members of leaves before it
      for (index_t k = 0; k < count; ++k) {
        const asked_leaf other = asked[k];
        if (other.asker < own.asker || (other.asker == own.asker && k < i)) before += other.size;
      }
      const index_t* const member = members + ranges[own.place].begin;
      for (index_t m = 0; m < own.size; ++m) {
        opened.tokens[list + before + m] = row_of(member[m]);
        opened.places[list + before + m] = own.place;
      }
    }
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
