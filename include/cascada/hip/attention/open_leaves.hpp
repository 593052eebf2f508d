#pragma once
// Opening by mass: from the rows that ask for leaves to those for which these are open, and to lists of their tokens.

#include <cstdint>
#include <limits>

#include "cascada/hip/attention/formed_leaves.hpp"
#include "cascada/hip/attention/opened_leaves.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// One wave for each band and KV head. Tokens are listed in the order of their leaves' first askers: which of them a
/// row sees, and at which places, does not depend on later rows. O(leaves + tokens + asked leaves^2 / 64).
template <class Leaves = formed_leaves<>>
struct open_leaves {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  Leaves        leaves;
  opened_leaves opened;
  index_t       bands;            // at most
  index_t       band, tile;       // tokens
  index_t       blocks_of_band;   // of queries
  index_t       kv_heads, group;  // query heads that share a KV head

  index_t grid() const { return bands * kv_heads; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t kv_head = gpu.block() % kv_heads, number = gpu.block() / kv_heads;
    if (leaves.failed(kv_head)) return;
    const index_t first = gpu.uniform(leaves.first()), last = gpu.uniform(leaves.last());
    const index_t begin = (first / band + number) * band;
    if (begin >= last) return;
    const index_t      tokens = last - begin < band ? last - begin : band;
    const std::int64_t list   = std::int64_t{gpu.block()} * opened.stride;
    const index_t      asks   = first > begin ? first - begin : 0;
    const band_of_rows own    = {begin, asks, tokens * group, number * blocks_of_band, kv_head};
    const index_t      field  = leaves.field_of(begin / opened.chunk, kv_head);
    asked_leaf* const  asked  = opened.asked + list;
    const index_t      count  = list_asked(gpu, own, field, asked);
    gpu.barrier();
    list_tokens(gpu, own, field, asked, count, list);
  }

 private:
  static constexpr index_t nobody = std::numeric_limits<index_t>::max();

  /// Rows of queries, (token, head) pairs from token `begin` on, in blocks from `block` on. Those of the first `asks`
  /// tokens asked in earlier calls.
  struct band_of_rows {
    index_t begin, asks, rows, block, kv_head;
  };

  /// What is remembered of a band: earlier tokens are, and this call's shall be.
  struct band_record {
    index_t slot;  // negative: nothing
    bool    reads, writes;
  };

  /// Opens leaves, lists those that somebody asked for, by place, and counts their members. Returns how many they are.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE index_t list_asked(Gpu& gpu, const band_of_rows& own, index_t field,
                                                   asked_leaf* asked) const {
    const index_t     count   = gpu.uniform(leaves.count_of(field));
    const band_record record  = record_of(own);
    index_t           listed  = 0;
    std::uint32_t     members = 0;
    for (index_t base = 0; base < count; base += gfx942::wave) {
      const index_t place = base + gpu.lane();
      asked_leaf    leaf  = {nobody, place, place < count ? leaves.size_of(field, place) : 1};
      if (place < count) leaf.asker = leaf.size > 1 ? open(own, record, place) : close(own, place);
      const bool asked_for = leaf.asker != nobody;
      members += sum_of_wave(gpu, static_cast<std::uint32_t>(asked_for ? leaf.size : 0));
      listed += append(gpu, asked_for, leaf, asked + listed);
    }
    if (gpu.lane() == 0) opened.count[gpu.block()] = static_cast<index_t>(members);
    return listed;
  }

  CASCADA_DEVICE CASCADA_INLINE band_record record_of(const band_of_rows& own) const {
    if constexpr (Leaves::remembers) {
      const index_t number = own.begin / band;
      return {leaves.call.state->slots.of(number), own.asks > 0, leaves.is_told_of(number, band)};
    }
    return {-1, false, false};
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

  /// Of bits [begin, end) those of word `number`.
  CASCADA_DEVICE CASCADA_INLINE static std::uint32_t bits_of(index_t begin, index_t end, index_t number) {
    return bits_from(begin - 32 * number) & ~bits_from(end - 32 * number);
  }

  /// Rows that ask open a leaf for all heads of their token, and of the later ones of its tile, as earlier tokens have.
  /// Returns the first that asks.
  CASCADA_DEVICE CASCADA_INLINE index_t open(const band_of_rows& own, const band_record& record, index_t place) const {
    index_t asker = nobody, end = own.asks * group;  // rows below are done
    if constexpr (Leaves::remembers)
      if (record.slot >= 0) asker = recall(own, record, place);
#pragma GCC unroll 1
    for (index_t number = end / 32; 32 * number < own.rows; ++number)
      while (const std::uint32_t asks = word(own, number, place) & bits_from(end - 32 * number)) {
        const index_t token = (32 * number + __builtin_ctz(asks)) / group;
        if (asker == nobody) asker = own.begin + token;
        end = open_from(own, record, place, token);
      }
    return asker;
  }

  /// A leaf is open from a token of the band on, for the rest of its tile. Returns the row after those.
  CASCADA_DEVICE CASCADA_INLINE index_t open_from(const band_of_rows& own, const band_record& record, index_t place,
                                                  index_t token) const {
    const index_t next = (token / tile + 1) * tile;  // tile's
    const index_t all = next * group, end = all > own.rows ? own.rows : all;
#pragma GCC unroll 1
    for (index_t n = token * group / 32; 32 * n < end; ++n) word(own, n, place) |= bits_of(token * group, end, n);
    if constexpr (Leaves::remembers)
      if (record.writes) {
        std::uint32_t* const open = leaves.remembered.of(record.slot, own.kv_head, place);
        for (index_t n = token / 32; n < leaves.remembered.words && 32 * n < next; ++n)
          open[n] |= bits_of(token, next, n);
      }
    return end;
  }

  /// The first token of the band, of those before this call's, for which a leaf was open, or nobody. If it was open for
  /// the last of them, and their tile goes on, this call's first row asks, too. Where this call's are wanted, what is
  /// remembered becomes that of earlier tokens alone.
  CASCADA_DEVICE CASCADA_INLINE index_t recall(const band_of_rows& own, const band_record& record,
                                               index_t place) const {
    std::uint32_t* const open  = leaves.remembered.of(record.slot, own.kv_head, place);
    index_t              asker = nobody;
    bool                 last  = false;
#pragma GCC unroll 1
    for (index_t n = 0; n < leaves.remembered.words; ++n) {
      const std::uint32_t was = record.reads ? open[n] & ~bits_from(own.asks - 32 * n) : 0;
      if (asker == nobody && was != 0) asker = own.begin + 32 * n + __builtin_ctz(was);
      if (record.reads && n == (own.asks - 1) / 32) last = (was >> (own.asks - 1) % 32 & 1) != 0;
      if (record.writes) open[n] = was;
    }
    const index_t row = own.asks * group;
    if (last && own.asks % tile != 0) word(own, row / 32, place) |= std::uint32_t{1} << row % 32;
    return asker;
  }

  /// A leaf of one token is what it stands for.
  CASCADA_DEVICE CASCADA_INLINE index_t close(const band_of_rows& own, index_t place) const {
    for (index_t number = own.asks * group / 32; 32 * number < own.rows; ++number) word(own, number, place) = 0;
    return nobody;
  }

  /// The members of asked leaves, by asker and place.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void list_tokens(Gpu& gpu, const band_of_rows& band_at, index_t field,
                                                 const asked_leaf* asked, index_t count, std::int64_t list) const {
    for (index_t i = gpu.lane(); i < count; i += gfx942::wave) {
      const asked_leaf own    = asked[i];
      index_t          before = 0;  // members of leaves before it
      for (index_t k = 0; k < count; ++k) {
        const asked_leaf other = asked[k];
        if (other.asker < own.asker || (other.asker == own.asker && k < i)) before += other.size;
      }
      leaves.for_members(band_at.kv_head, field, own.place, own.size, [&](index_t m, index_t row) {
        opened.tokens[list + before + m] = row;
        opened.places[list + before + m] = own.place;
      });
    }
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
