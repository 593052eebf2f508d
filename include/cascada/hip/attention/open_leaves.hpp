#pragma once
// Opening by mass: from the rows that ask for leaves to those for which these are open, and to lists of their tokens.

#include <cstdint>
#include <limits>

#include "cascada/hip/attention/formed_leaves.hpp"
#include "cascada/hip/attention/opened_leaves.hpp"
#include "cascada/hip/base/running_sums.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// One block for each band and KV head. Tokens are listed in the order of their leaves' first askers, and of leaves:
/// which of them a row sees, and at which places, does not depend on later rows. Places are counted, for 64 askers at a
/// time. O(leaves (1 + tokens of the band / 64) + members).
template <class Leaves = formed_leaves<>>
struct open_leaves {
  static constexpr index_t threads        = 1024;
  static constexpr index_t waves_per_simd = 4;
  static constexpr index_t waves          = threads / gfx942::wave;

  struct shared {
    std::uint32_t members[waves][gfx942::wave];  // of the leaves that a wave has and an asker asks for first
  };

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
    const index_t      tokens  = last - begin < band ? last - begin : band;
    const auto         list    = static_cast<std::uint32_t>(gpu.block()) * static_cast<std::uint32_t>(opened.stride);
    const index_t      earlier = first > begin ? first - begin : 0;
    const band_of_rows own     = {begin, earlier, tokens * group, number * blocks_of_band, kv_head};
    const index_t      field   = leaves.field_of(begin / opened.chunk, kv_head);
    const index_t      count   = gpu.uniform(leaves.count_of(field));
    const index_t      each = (count + threads - 1) / threads * gfx942::wave, from = gpu.wave() * each;
    const leaf_span    has = {from, count - from < each ? count : from + each};
    open_all(gpu, own, field, has, opened.asked + list);
    std::uint32_t listed = 0;
    for (index_t asker = 0; asker < tokens; asker += gfx942::wave)
      listed += list_tokens(gpu, own, field, has, asker, listed, list);
    if (gpu.thread() == 0) opened.count[gpu.block()] = static_cast<index_t>(listed);
  }

 private:
  static constexpr index_t nobody = std::numeric_limits<index_t>::max();

  /// Rows of queries, (token, head) pairs from token `begin` on, in blocks from `block` on. Those of the first
  /// `earlier` tokens were in earlier calls.
  struct band_of_rows {
    index_t begin, earlier, rows, block, kv_head;
  };

  /// What is remembered of a band: earlier tokens are, and this call's shall be.
  struct band_record {
    index_t slot;  // negative: nothing
    bool    reads, writes;
  };

  /// Leaves of a wave, which lanes take turns at.
  struct leaf_span {
    index_t begin, end;
  };

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void open_all(Gpu& gpu, const band_of_rows& own, index_t field, const leaf_span& has,
                                              asked_leaf* asked) const {
    const band_record record = record_of(own);
    for (index_t place = has.begin + gpu.lane(); place < has.end; place += gfx942::wave)
      asked[place].asker = leaves.size_of(field, place) > 1 ? open(own, record, place) : close(own, place);
  }

  CASCADA_DEVICE CASCADA_INLINE band_record record_of(const band_of_rows& own) const {
    if constexpr (Leaves::remembers) {
      const index_t number = own.begin / band;
      return {leaves.call.state->slots.of(number), own.earlier > 0, leaves.is_told_of(number, band)};
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
    index_t asker = nobody, end = own.earlier * group;  // rows below are done
    if constexpr (Leaves::remembers)
      if (record.slot >= 0) asker = recall(own, record, place);
#pragma GCC unroll 1
    for (index_t number = end / 32; 32 * number < own.rows; ++number)
      while (const std::uint32_t asks = word(own, number, place) & bits_from(end - 32 * number)) {
        const index_t token = (32 * number + __builtin_ctz(asks)) / group;
        if (asker == nobody) asker = token;
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
  /// the last of them, and their tile goes on, this call's first row asks for it, too. Where this call's are wanted,
  /// what is remembered becomes that of earlier tokens alone.
  CASCADA_DEVICE CASCADA_INLINE index_t recall(const band_of_rows& own, const band_record& record,
                                               index_t place) const {
    std::uint32_t* const open  = leaves.remembered.of(record.slot, own.kv_head, place);
    index_t              asker = nobody;
    bool                 last  = false;
#pragma GCC unroll 1
    for (index_t n = 0; n < leaves.remembered.words; ++n) {
      const std::uint32_t was = record.reads ? open[n] & ~bits_from(own.earlier - 32 * n) : 0;
      if (asker == nobody && was != 0) asker = 32 * n + __builtin_ctz(was);
      if (record.reads && n == (own.earlier - 1) / 32) last = (was >> (own.earlier - 1) % 32 & 1) != 0;
      if (record.writes) open[n] = was;
    }
    const index_t row = own.earlier * group;
    if (last && own.earlier % tile != 0) word(own, row / 32, place) |= std::uint32_t{1} << row % 32;
    return asker;
  }

  /// A leaf of one token is what it stands for.
  CASCADA_DEVICE CASCADA_INLINE index_t close(const band_of_rows& own, index_t place) const {
    for (index_t number = own.earlier * group / 32; 32 * number < own.rows; ++number) word(own, number, place) = 0;
    return nobody;
  }

  /// Lists the members of leaves that tokens [asker, asker + 64) of the band ask for first, behind `listed` others, by
  /// asker and place. Returns how many they are.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE std::uint32_t list_tokens(Gpu& gpu, const band_of_rows& own, index_t field,
                                                          const leaf_span& has, index_t asker, std::uint32_t listed,
                                                          std::uint32_t list) const {
    auto&             lds               = gpu.template shared<shared>();
    asked_leaf* const asked             = opened.asked + list;
    lds.members[gpu.wave()][gpu.lane()] = count_members(gpu, field, has, asker, asked);
    gpu.barrier();
    std::uint32_t all = 0, before = 0;  // of asker `lane`: members, and those of earlier waves
    for (index_t w = 0; w < waves; ++w) {
      if (w < gpu.wave()) before += lds.members[w][gpu.lane()];
      all += lds.members[w][gpu.lane()];
    }
    const std::uint32_t sum = sum_up_to_lane(gpu, all), first = listed + sum - all + before;
    gpu.barrier();
    for (index_t base = has.begin; base < has.end; base += gfx942::wave) {
      const index_t       place = base + gpu.lane(), by = asked_by(asked, has, place) - asker;
      const std::uint32_t from = gpu.shuffle(first, by & (gfx942::wave - 1));
      if (by < 0 || by >= gfx942::wave) continue;
      const std::uint32_t to = list + from + static_cast<std::uint32_t>(asked[place].before);
      leaves.for_members(own.kv_head, field, place, leaves.size_of(field, place), [&](index_t m, index_t row) {
        opened.tokens[to + static_cast<std::uint32_t>(m)] = row;
        opened.places[to + static_cast<std::uint32_t>(m)] = place;
      });
    }
    return gpu.shuffle(sum, gfx942::wave - 1);
  }

  /// Members of a wave's leaves, by asker, each in the lane of its number; and, of each leaf, those before it.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE std::uint32_t count_members(Gpu& gpu, index_t field, const leaf_span& has,
                                                            index_t asker, asked_leaf* asked) const {
    std::uint32_t members = 0;
    for (index_t base = has.begin; base < has.end; base += gfx942::wave) {
      const index_t       place = base + gpu.lane(), by = asked_by(asked, has, place) - asker;
      const bool          counts = by >= 0 && by < gfx942::wave;
      const std::uint32_t size   = counts ? static_cast<std::uint32_t>(leaves.size_of(field, place)) : 0;
      for (std::uint64_t left = gpu.ballot(counts); left != 0;) {
        const index_t       number = gpu.read_lane(by, __builtin_ctzll(left));
        const bool          alike  = by == number;
        const std::uint32_t before = gpu.shuffle(members, number), sum = sum_up_to_lane(gpu, alike ? size : 0);
        const std::uint32_t after = before + gpu.shuffle(sum, gfx942::wave - 1);
        if (alike) asked[place].before = static_cast<index_t>(before + sum - size);
        if (gpu.lane() == number) members = after;
        left &= ~gpu.ballot(alike);
      }
    }
    return members;
  }

  /// The first asker of a wave's leaf, or nobody.
  CASCADA_DEVICE CASCADA_INLINE static index_t asked_by(const asked_leaf* asked, const leaf_span& has, index_t place) {
    return place < has.end ? asked[place].asker : nobody;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
