#pragma once
// Chains by keys: what is known of each key before any anchor is (leaf_chains.hpp).

#include <cstdint>

#include "cascada/ascending.hpp"
#include "cascada/hip/attention/clusters.hpp"
#include "cascada/hip/attention/leaf_chains.hpp"
#include "cascada/hip/attention/token_rows.hpp"
#include "cascada/hip/base/canonical.hpp"
#include "cascada/verdict.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Norms, and where clusters lie. Sinks and keys without a norm have chains of their own.
template <matrix_scalar Scalar, class Place = rows_in_order>
struct begin_chains {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  selection_sets            layer;
  cluster_memory            clusters;
  chain_memory              chains;
  token_rows<Scalar, Place> keys;
  index_t                   sinks;

  index_t grid() const { return ((keys.tokens - 1) / threads + 1) * keys.heads; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t head = gpu.block() % keys.heads, place = gpu.block() / keys.heads * threads + gpu.thread();
    const index_t count = *layer.of_head(head).count;
    if (count < 0 || place >= keys.tokens) return;
    const chain_memory   own   = chains.of(head, keys.tokens);
    const cluster_memory of    = clusters.of_head(head, keys.tokens);
    const index_t        next  = detail::first_from(of.offsets, 0, count, place + 1);  // cluster
    const index_t        begin = of.offsets[next - 1], end = of.offsets[next];
    const index_t        token = of.members[place];
    const Scalar* const  key   = keys.row(token, head);
    const float          norm  = detail::norm_or(canonical_product(key, key, keys.dim), 0);
    own.norms[place]           = token < sinks ? 0 : norm;
    own.nearest[place]         = {.place = own.norms[place] > 0 ? -1 : place};
    own.sizes[place]           = 0;
    if (head == 0 || chains.sets > 1) own.begins[place] = begin, own.ends[place] = end;
    if (place % chain_batch == 0) own.rounds[place / chain_batch] = {begin == place ? place : end, 0, 0};
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
