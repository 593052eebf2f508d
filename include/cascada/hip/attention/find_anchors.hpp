#pragma once
// Chains by keys: of a range's keys that no anchor covers, which are anchors (leaf_chains.hpp).

#include <cstdint>

#include "cascada/hip/attention/anchor_batch.hpp"
#include "cascada/hip/attention/clusters.hpp"
#include "cascada/hip/attention/compared_keys.hpp"
#include "cascada/hip/attention/leaf_chains.hpp"
#include "cascada/hip/base/votes.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// One block for each range and KV head settles a batch (anchor_batch.hpp).
template <matrix_scalar Scalar, class Place = rows_in_order>
struct find_anchors {
  static constexpr index_t threads        = chain_batch;
  static constexpr index_t waves_per_simd = 2;

  using batch_of = anchor_batch<Scalar, Place>;
  struct shared : batch_of::shared {
    block_votes<threads> waiting;
  };

  selection_sets            layer;
  cluster_memory            clusters;
  chain_memory              chains;
  token_rows<Scalar, Place> keys;
  float                     threshold;
  bool                      first;  // round

  index_t grid() const { return chain_memory::ranges(keys.tokens) * keys.heads; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t head = gpu.block() % keys.heads, range = gpu.block() / keys.heads;
    if (layer.of_head(head).failed()) return;
    auto&                              lds  = gpu.template shared<shared>();
    const chain_memory                 own  = chains.of(head, keys.tokens);
    const compared_keys<Scalar, Place> with = {keys, head, threshold};
    const index_t                      last = (range + 1) * chain_batch;
    const index_t                      end  = gpu.uniform(own.ends[(last < keys.tokens ? last : keys.tokens) - 1]);
    index_t                            next = gpu.uniform(own.rounds[range].next);
    if (next >= end) {
      if (gpu.thread() == 0) own.rounds[range].count = 0;
      return;
    }
    const index_t count = gather(gpu, lds, own, clusters.of_head(head, keys.tokens).members, next, end);
    batch_of::compare(gpu, lds, with, count, [&](index_t i, const chain_anchor& key) {
      const index_t begin = detail::first_from(lds.batch, 0, i, own.begins[key.place]);
      return [=](index_t row) { return ~bits_below(begin - 32 * row); };
    });
    const auto before = batch_of::covering(gpu, lds);
    const bool exists = gpu.thread() < count;
    batch_of::walk(gpu, lds, before, exists);
    const chain_anchor key = lds.batch[exists ? gpu.thread() : 0];
    covering_row       best;
    const auto         found = batch_of::settle(gpu, lds, with, before, key, best);
    if (found.begins) best = {.place = key.place}, own.anchors[std::int64_t{range} * chain_batch + found.before] = key;
    if (exists) own.nearest[key.place] = best;
    if (gpu.thread() == 0) own.rounds[range] = {next, found.all, first ? next : lds.batch[0].place};
  }

 private:
  /// The first keys of places [next, end) that wait. `next` becomes the place after them. Returns how many they are.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE index_t gather(Gpu& gpu, shared& lds, const chain_memory& own, const index_t* members,
                                               index_t& next, index_t end) const {
    index_t count = 0;
    for (; next < end && count < threads; next += threads) {
      const index_t place = next + gpu.thread();
      const bool    waits = place < end && own.nearest[place].none();
      lds.waiting.cast(gpu, waits);
      gpu.barrier();
      const index_t rank = count + lds.waiting.before(gpu);
      count += lds.waiting.all();
      if (waits && rank < threads) lds.batch[rank] = {place, members[place], own.norms[place]};
      gpu.barrier();
    }
    if (count > threads) next = lds.batch[threads - 1].place + 1;
    if (next > end) next = end;
    return count < threads ? count : threads;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
