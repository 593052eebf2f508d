#pragma once
// The tokens that leave a growing sequence's near field join leaves, those of their chains, launch by launch.
//
//   find_chains      by keys: each finds its chain (find_grown_anchors.hpp); by order that is its cluster
//   join_chains      each finds those of its chain that join with it, and the last one before
//   list_new_leaves  leaves that begin are numbered; chains end with their last members
//   extend_means     rows of the tables, for each leaf that gets members
//
// Which tokens these are, the device knows; the host, how many at most. A leaf's sums begin again with its first
// member: it has `leaf` members at most, so a token costs O(leaf d), and no sums are kept.

#include "cascada/attention_options.hpp"
#include "cascada/hip/attention/extend_means.hpp"
#include "cascada/hip/attention/find_grown_anchors.hpp"
#include "cascada/hip/attention/join_chains.hpp"
#include "cascada/hip/attention/list_leaves.hpp"
#include "cascada/hip/attention/sequence_launches.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Batch by batch.
template <class Scalar, index_t Dim, class B, class Place>
void find_chains(sequence_launches<Scalar, Dim, B, Place>& launch) {
  const auto&         of   = launch.of;
  const growing_call& call = of.growing;
  for (index_t number = 0; number * chain_batch < call.most; ++number) {
    const joining_batch batch = {call.of, number};
    launch(meet_grown_anchors<Scalar, Place>{.clusters  = call.clusters,
                                             .batch     = batch,
                                             .chains    = call.chains,
                                             .keys      = of.kv.key_rows(),
                                             .threshold = of.options.leaf_threshold});
    launch(find_grown_anchors<Scalar, Place>{.clusters  = call.clusters,
                                             .batch     = batch,
                                             .chains    = call.chains,
                                             .chain     = call.leaves.chain,
                                             .keys      = of.kv.key_rows(),
                                             .threshold = of.options.leaf_threshold});
  }
}

/// Of a call.
template <class Scalar, index_t Dim, class B, class Place>
void extend_leaves(sequence_launches<Scalar, Dim, B, Place>& launch) {
  const auto&         of    = launch.of;
  const growing_call& call  = of.growing;
  const index_t       sinks = of.options.sink_tokens, leaf = of.options.leaf;
  if (detail::forms_by_keys(of.options)) {
    find_chains(launch);
    launch(join_chains<true>{call.clusters, call.of, call.leaves, of.tokens, call.most, sinks, leaf});
  } else {
    launch(join_chains<false>{call.clusters, call.of, call.leaves, of.tokens, call.most, sinks, leaf});
  }
  launch(list_new_leaves{call.of, call.leaves, of.tokens, call.most});
  launch(extend_means<Scalar, Place>{
      .of          = call.of,
      .leaves      = call.leaves,
      .keys        = of.kv.key_rows(),
      .values      = of.kv.value_rows(),
      .mean_keys   = {of.memory.mean_keys, of.memory.variances, of.options.moments.value_or(0), Dim},
      .mean_values = {of.memory.mean_values, nullptr, 0, Dim},
      .most        = call.most});
}

}  // namespace cascada::inline CASCADA_ABI::hip::attention
