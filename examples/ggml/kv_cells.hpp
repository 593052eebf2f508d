#pragma once
// ggml's K/V cache as cascada reads it: cells in any order, rows where they lie.

#include <ggml.h>

#include <algorithm>
#include <atomic>
#include <cascada/attention_options.hpp>
#include <cascada/executor.hpp>
#include <cascada/kv_view.hpp>
#include <cascada/q8_0.hpp>
#include <concepts>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace ggml_cascada {

using cascada::index_t, cascada::status;

/// One stream of a tensor [dim, cells, heads, streams] of the cache.
struct cells_view {
  const char*  data       = nullptr;
  index_t      dim        = 0;
  index_t      heads      = 0;
  std::int64_t step       = 1;  // elements between those of a row
  std::int64_t cell_bytes = 0;
  std::int64_t head_bytes = 0;

  template <class Row>
  CASCADA_INLINE Row row(index_t cell, index_t head) const noexcept {
    const void* const place = data + cell * cell_bytes + head * head_bytes;
    if constexpr (std::same_as<Row, cascada::strided_row<cascada::float16>>)
      return {static_cast<const cascada::float16*>(place), step};
    else
      return {static_cast<const cascada::q8_0_block*>(place)};
  }
};

inline cells_view view_of(const ggml_tensor* tensor, std::int64_t stream) {
  const auto bytes = [&](int dimension) { return static_cast<std::int64_t>(tensor->nb[dimension]); };
  return {static_cast<const char*>(tensor->data) + stream * bytes(3),
          static_cast<index_t>(tensor->ne[0]),
          static_cast<index_t>(tensor->ne[2]),
          bytes(0) / static_cast<std::int64_t>(ggml_type_size(tensor->type)),
          bytes(1),
          bytes(2)};
}

/// Keys and values of a sequence: its token t lies in cells[t].
template <class KeyRow, class ValueRow>
struct kv_cells {
  cells_view               keys;
  cells_view               values;
  std::span<const index_t> cells;

  CASCADA_INLINE index_t tokens() const noexcept { return static_cast<index_t>(cells.size()); }
  CASCADA_INLINE index_t kv_heads() const noexcept { return keys.heads; }
  CASCADA_INLINE index_t key_dim() const noexcept { return keys.dim; }
  CASCADA_INLINE index_t value_dim() const noexcept { return values.dim; }
  CASCADA_INLINE KeyRow  key(index_t token, index_t head) const noexcept {
    return keys.row<KeyRow>(cells.data()[token], head);
  }
  CASCADA_INLINE ValueRow value(index_t token, index_t head) const noexcept {
    return values.row<ValueRow>(cells.data()[token], head);
  }
  CASCADA_INLINE status check() const noexcept { return status::ok; }  // layer_attention::build did
};

/// What is known of a stream's cells.
struct cells_of {
  index_t             count     = 0;
  index_t             tokens    = 0;        // of q, the last of the sequence
  const std::int32_t* positions = nullptr;  // [count], negative: not of this sequence; null: not known
  const ggml_tensor*  mask      = nullptr;  // null: every cell is seen
  std::int64_t        stream    = 0;        // of the mask
};

/// Which cell holds which token. From the positions; without them from the mask, whose every row sees one cell more
/// than the row before: the cells that the first row sees count as they lie, an order that dense attention does not
/// mind but for the rounding of its sums. Then the mask has to say what causality and the order say. O(tokens count).
class cell_order {
 public:
  /// [tokens of the sequence]; with a sliding window, of those that somebody sees.
  std::span<const index_t> cells() const noexcept { return cells_; }

  template <cascada::executor Executor>
  [[nodiscard]] status find(const cells_of& cells, const cascada::attention_options& options, const Executor& where) {
    ranks_.assign(static_cast<std::size_t>(cells.count), absent);
    const status answer = cells.positions                     ? by_position(cells, options)
                          : !cells.mask                       ? all(cells)
                          : cells.mask->type == GGML_TYPE_F16 ? by_mask<std::uint16_t>(cells)
                                                              : by_mask<std::uint32_t>(cells);
    if (answer != status::ok) return answer;
    const auto tokens = static_cast<index_t>(cells_.size());
    if (options.causal && tokens < cells.tokens)
      return {status::invalid_shape, "the cache holds fewer tokens of the sequence than q has"};
    if (!cells.mask) {
      const bool seen = tokens == cells.count && (!options.sliding_window || tokens <= *options.sliding_window);
      return seen ? status{status::ok} : status{status::unsupported, "mask is null, and not every cell is to be seen"};
    }
    for (index_t token = 0; token < tokens; ++token)
      ranks_[static_cast<std::size_t>(cells_[static_cast<std::size_t>(token)])] = token;
    const bool agrees = cells.mask->type == GGML_TYPE_F16 ? mask_agrees<std::uint16_t>(cells, options, where)
                                                          : mask_agrees<std::uint32_t>(cells, options, where);
    return agrees ? status{status::ok}
                  : status{status::unsupported,
                           "mask is not causal with cells of nobody, as the order of the cells has it"};
  }

 private:
  static constexpr index_t absent = std::numeric_limits<index_t>::max();

  // An element of a mask by its bits: 0 (of either sign), or -infinity.
  template <class Bits>
  static constexpr Bits hidden = sizeof(Bits) == 2 ? static_cast<Bits>(0xfc00u) : static_cast<Bits>(0xff80'0000u);
  template <class Bits>
  static constexpr Bits magnitude = static_cast<Bits>(static_cast<Bits>(~Bits{0}) >> 1);

  template <class Bits>
  static const Bits* row_of(const cells_of& cells, index_t row) {
    const ggml_tensor& mask = *cells.mask;
    return static_cast<const Bits*>(static_cast<const void*>(static_cast<const char*>(mask.data) +
                                                             static_cast<std::size_t>(row) * mask.nb[1] +
                                                             static_cast<std::size_t>(cells.stream) * mask.nb[3]));
  }

  status all(const cells_of& cells) {
    cells_.clear();
    for (index_t cell = 0; cell < cells.count; ++cell) cells_.push_back(cell);
    return status::ok;
  }

  status by_position(const cells_of& cells, const cascada::attention_options& options) {
    index_t last = -1, first = absent;
    for (index_t cell = 0; cell < cells.count; ++cell) last = std::max(last, index_t{cells.positions[cell]});
    // Nobody sees what lies before the first query's window.
    const std::int64_t seen_from =
        options.sliding_window ? std::int64_t{last} - cells.tokens + 2 - *options.sliding_window : 0;
    index_t held = 0;
    for (index_t cell = 0; cell < cells.count; ++cell) {
      const index_t position = cells.positions[cell];
      if (position < 0 || position < seen_from) continue;
      first = std::min(first, position), ++held;
    }
    if (held == 0) return {status::invalid_shape, "positions has no token of the sequence"};
    if (last - first != held - 1) return {status::unsupported, "positions has one twice, or leaves one out"};
    if (cascada::needs_selections(options) && first != 0)
      return {status::unsupported, "positions does not begin at 0, as leaves of a far field do"};
    cells_.assign(static_cast<std::size_t>(held), absent);
    for (index_t cell = 0; cell < cells.count; ++cell) {
      const index_t position = cells.positions[cell];
      if (position < first) continue;
      index_t& place = cells_[static_cast<std::size_t>(position - first)];
      if (place != absent) return {status::unsupported, "positions has one twice, or leaves one out"};
      place = cell;
    }
    return status::ok;
  }

  template <class Bits>
  status by_mask(const cells_of& cells) {
    const Bits *const first = row_of<Bits>(cells, 0), *const last = row_of<Bits>(cells, cells.tokens - 1);
    cells_.clear(), later_.clear();
    for (index_t cell = 0; cell < cells.count; ++cell) {
      if ((first[cell] & magnitude<Bits>) == 0)
        cells_.push_back(cell);
      else if ((last[cell] & magnitude<Bits>) == 0)
        later_.push_back(cell);
    }
    for (index_t token = 1; token < cells.tokens && !later_.empty(); ++token) {
      const Bits* const row = row_of<Bits>(cells, token);
      const auto        next =
          std::find_if(later_.begin(), later_.end(), [&](index_t cell) { return (row[cell] & magnitude<Bits>) == 0; });
      if (next == later_.end()) break;  // what the mask says then is no order, and will not agree with one
      cells_.push_back(*next);
      later_.erase(next);
    }
    return status::ok;
  }

  template <class Bits, cascada::executor Executor>
  bool mask_agrees(const cells_of& cells, const cascada::attention_options& options, const Executor& where) const {
    const auto        tokens = static_cast<index_t>(cells_.size()), before = tokens - cells.tokens;
    std::atomic<bool> agrees{true};
    where.parallel_for(cells.tokens, [&](index_t token) {
      const Bits* const    row  = row_of<Bits>(cells, token);
      const index_t* const rank = ranks_.data();
      const index_t        to   = options.causal ? before + token : tokens - 1;
      const index_t        from = options.sliding_window ? to - *options.sliding_window + 1 : 0;
      Bits                 off  = 0;
      for (index_t cell = 0; cell < cells.count; ++cell) {
        const bool seen = rank[cell] >= from && rank[cell] <= to;
        off             = static_cast<Bits>(off | (seen ? row[cell] & magnitude<Bits> : row[cell] ^ hidden<Bits>));
      }
      if (off != 0) agrees.store(false, std::memory_order_relaxed);
    });
    return agrees.load();
  }

  std::vector<index_t> cells_;
  std::vector<index_t> ranks_;  // [cells], absent where a cell is not in cells_
  std::vector<index_t> later_;
};

}  // namespace ggml_cascada
