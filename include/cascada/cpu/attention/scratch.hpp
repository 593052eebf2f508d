#pragma once
// What one worker needs: to attend to rows, and to a far field.

#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/query_tile.hpp"
#include "cascada/cpu/attention/shapes.hpp"
#include "cascada/cpu/base/buffer.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/base/simd.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Rows of all KV heads that share the keys' way through memory, where nothing is packed (in_place.hpp): groups of four
/// query heads of eight KV heads.
inline constexpr index_t rows_of_heads = 32;

/// Memory for the query rows of a tile, a block of packed keys and values, and scores.
template <cpu_backend B, class E>
struct attention_scratch {
  query_tile<B, E> tile;
  buffer<float, B> keys;    // panels [key_lanes, panel_keys] of block_keys keys
  buffer<float, B> values;  // [lanes of block_keys, value_stride]
  buffer<float, B> wild;    // pairs: as values
  buffer<float, B> reach;   // pairs: [block_keys]
  buffer<float, B> scores;  // rows of score_stride; pairs: and of weight_stride
  buffer<float, B> bias;    // [tokens, block_keys]; weighted r x r only: prepare reserves it

  buffer<index_t, B> positions;  // of the keys of a block, with slopes

  void reserve(index_t tokens, index_t group, index_t key_dim, index_t value_dim) {
    constexpr std::int64_t step = block_keys<B, E>;
    tile.reserve(std::int64_t{tokens} * group, key_dim, value_dim);
    keys.reserve(lanes_of<B, E>(key_dim) * step);
    values.reserve(whole_vectors<B>(value_dim) * step / elements_per_lane<E>);
    if constexpr (!std::same_as<E, float>) wild.reserve(values.capacity()), reach.reserve(rows_of_heads * step);
    positions.reserve(step);
    constexpr index_t beside = std::same_as<E, float> ? 0 : weight_stride<B, E>;
    scores.reserve(std::int64_t{rows_of_heads} * (score_stride<B, E> + beside));
  }
};

/// What one worker needs for the far field of a tile, and what it counted.
template <cpu_backend B>
struct far_field_scratch {
  buffer<float, B>         weights;        // [rows, leaves]
  buffer<float, B>         query_squares;  // [rows, moments]
  buffer<float, B>         factors;        // [rows]: of what a row attended to before
  buffer<float, B>         maxima;         // [rows]: what weights are relative to
  buffer<float, B>         closed;         // [rows, vec width]: weights of closed leaves of several tokens
  buffer<float, B>         bounds;         // [rows]: the weight above which leaves open
  buffer<float, B>         near_maxima;    // [rows]: what the near field left, where leaves open
  buffer<float, B>         near_sums;      // [rows, vec width]
  buffer<std::uint32_t, B> open;           // [leaves]: bits of those that the tile asked for so far
  buffer<index_t, B>       leaves;         // open ones in the order in which they were asked for
  buffer<index_t, B>       leaves_seen;    // [tokens]: how many of them are open for a token
  buffer<index_t, B>       opened;         // their tokens
  buffer<index_t, B>       seen;           // [tokens]: how many of those a token sees

  struct {
    // Of the sequence so far, as in attention_report; mass times 2^32, over heads.
    std::int64_t opened = 0, computed = 0, mass = 0;
  } counts;

  CASCADA_INLINE float closed_of(index_t row) const noexcept {
    return reduce_sum(vec<B>::load(closed.data() + row * vec<B>::width));
  }
};

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
