#pragma once
// Keys and values in the pages of a pool: which row each token has there.

#include <cstdint>

#include "cascada/hip/attention/selection_sets.hpp"
#include "cascada/hip/base/device.hpp"
#include "cascada/hip/base/growth.hpp"
#include "cascada/kv_view.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Positions [p blocks, (p + 1) blocks) of a pool's tokens lie in the block that the table, in device memory, has
/// there.
struct page_table {
  const index_t* blocks       = nullptr;  // null: rows are in order
  index_t        block_tokens = 1;
  index_t        first        = 0;  // the position of the sequence's first token
};

/// The rows of all tokens that are there: a thread for each. No block of later ones is looked up.
struct find_rows {
  using shared                            = no_shared;
  static constexpr index_t threads        = 256;
  static constexpr index_t waves_per_simd = 1;

  page_table   table;
  index_t      tokens;  // or how many there is room for
  index_t*     rows;
  tokens_there there = {};

  index_t grid() const { return (tokens - 1) / threads + 1; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t token = gpu.block() * threads + gpu.thread(), position = table.first + token;
    if (token >= there.of(gpu, tokens)) return;
    rows[token] = detail::place_in_pool(table.blocks, table.block_tokens, position);
  }
};

/// Those of the representatives [sets, T], r in use.
struct find_member_rows {
  using shared                            = no_shared;
  static constexpr index_t threads        = 256;
  static constexpr index_t waves_per_simd = 1;

  selection_sets layer;
  const index_t* rows;  // of all tokens
  index_t*       to;

  index_t grid() const { return ((layer.first.length - 1) / threads + 1) * layer.sets; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t         set = gpu.block() % layer.sets, k = gpu.block() / layer.sets * threads + gpu.thread();
    const selection_layer of = layer.of(set);
    if (k < *of.count) to[std::int64_t{set} * of.length + k] = rows[of.indices[k]];
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
