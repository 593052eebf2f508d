#pragma once
// Leaves by keys: the launches from clusters to leaves (leaf_chains.hpp).

#include "cascada/hip/attention/begin_chains.hpp"
#include "cascada/hip/attention/chain_members.hpp"
#include "cascada/hip/attention/find_anchors.hpp"
#include "cascada/hip/attention/meet_anchors.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

template <matrix_scalar Scalar, class Place = rows_in_order>
struct leaves_by_keys {
  selection_sets            layer;
  cluster_memory            clusters;
  chain_memory              chains;
  leaf_memory               leaves;  // only `formed` is written
  token_rows<Scalar, Place> keys;
  float                     threshold;
  index_t                   sinks, size;  // of a leaf: tokens at most

  /// 4 + 2 T / chain_batch launches, but where one batch has all keys; then 5.
  template <class Launch>
  void operator()(Launch& launch) const {
    const index_t tokens = keys.tokens, rounds = chain_memory::ranges(tokens);
    launch(begin_chains<Scalar, Place>{
        .layer = layer, .clusters = clusters, .chains = chains, .keys = keys, .sinks = sinks});
    for (index_t round = 0; round < rounds; ++round) {
      launch(find_anchors<Scalar, Place>{.layer     = layer,
                                         .clusters  = clusters,
                                         .chains    = chains,
                                         .keys      = keys,
                                         .threshold = threshold,
                                         .first     = round == 0});
      if (rounds > 1)
        launch(meet_anchors<Scalar, Place>{
            .layer = layer, .clusters = clusters, .chains = chains, .keys = keys, .threshold = threshold});
    }
    launch(count_chains{.layer = layer, .chains = chains, .tokens = tokens, .kv_heads = keys.heads});
    launch(chain_offsets{.layer = layer, .chains = chains, .tokens = tokens, .kv_heads = keys.heads});
    launch(order_chains{.layer    = layer,
                        .clusters = clusters,
                        .chains   = chains,
                        .leaves   = leaves,
                        .tokens   = tokens,
                        .kv_heads = keys.heads,
                        .sinks    = sinks,
                        .size     = size});
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
