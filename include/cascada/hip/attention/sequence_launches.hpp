#pragma once
// One sequence's launches that several modes have in common: attention as it is or with adjusted products, segment by
// segment or side by side.

#include <algorithm>

#include "cascada/hip/attention/ask_leaves.hpp"
#include "cascada/hip/attention/attend.hpp"
#include "cascada/hip/attention/clusters.hpp"
#include "cascada/hip/attention/merge_segments.hpp"
#include "cascada/hip/attention/sequence.hpp"
#include "cascada/hip/base/launches.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// `of` has what the kernels are given.
template <class Scalar, index_t Dim, class B, class Place>
struct sequence_launches : launches<B> {
  template <class Counts>
  using attend_as = attend<Scalar, Dim, Counts, Place>;
  template <class Counts>
  using ask_as = ask_leaves<Scalar, Dim, Counts, Place>;

  attention_sequence<Scalar, B, Place> of;

  /// Members of the clusters.
  void list_members() {
    (*this)(cluster_offsets{of.layer, of.memory.clusters});
    (*this)(cluster_members{of.layer, of.memory.clusters, of.tokens});
  }

  // Launch a kernel as it is, or the one that adjusts products, which is given the same.

  template <class Counts>
  void attend_keys(const attend_as<Counts>& given) {
    if (!of.adjusts()) return (*this)(given);
    if constexpr (attend_as<Counts>::logits_of::opens)
      (*this)(adjusted<adjusted_closed_leaves_of_bands>(given));
    else if (of.terms.slopes)
      (*this)(adjusted<sloped_keys>(given));
    else
      (*this)(adjusted<adjusted_counts>(given));
  }

  /// All in one; or where segments have blocks of their own, these leave their sums before leaves are compared.
  void ask_for_leaves(ask_as<leaves_of_bands> ask) {
    ask.segments = of.memory.segments;
    if (ask.segments.blocks == 1) return ask_for_leaves(ask, ask_step::all);
    ask_for_leaves(ask, ask_step::sum);
    ask_for_leaves(ask, ask_step::compare);
  }

  /// Segments side by side, which `merge` joins; or one after the other, in slices of blocks whose softmaxes have room.
  template <class Kernel>
  void attend_segments(Kernel given) {
    given.segments = of.memory.segments;
    if (given.segments.blocks > 1) return attend_keys(given);
    const index_t all = given.queries.blocks(), slice = std::min(of.memory.blocks, all);
    for (index_t skipped = 0; skipped < all; skipped += slice) {
      given.queries.skipped = skipped, given.queries.most = slice;
      attend_keys(given);
    }
  }

  void merge() {
    if (of.memory.segments.blocks > 1)
      (*this)(merge_segments<Scalar, Dim>{.segments    = of.memory.segments,
                                          .out         = of.out,
                                          .valid       = of.valid(),
                                          .scale       = of.scale,
                                          .sink_logits = of.sink_logits(),
                                          .sets        = of.layer.sets,
                                          .log_sums    = of.log_sums});
  }

 private:
  template <class As, class Counts>
  attend_as<As> adjusted(const attend_as<Counts>& given) const {
    const auto& [queries, far, near, other, scale, opened, segments, sink_logits, unadjusted] = given;
    return {queries, far, near, other, scale, opened, segments, sink_logits, of.adjustment()};
  }

  void ask_for_leaves(ask_as<leaves_of_bands>& ask, ask_step one) {
    ask.step = one;
    if (!of.adjusts()) return (*this)(ask);
    const auto& [queries, far, near, scale, log_open_above, opened, sink_logits, segments, step, unadjusted] = ask;
    (*this)(ask_as<adjusted_leaves_of_bands>{queries, far, near, scale, log_open_above, opened, sink_logits, segments,
                                             step, of.adjustment()});
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
