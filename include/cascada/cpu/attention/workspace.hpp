#pragma once
// Memory of an attention object.

#include <cstddef>
#include <vector>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/clusters.hpp"
#include "cascada/cpu/attention/kv_head.hpp"
#include "cascada/cpu/attention/scratch.hpp"
#include "cascada/cpu/base/buffer.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

template <cpu_backend B, class E>
struct attention_workspace {
  /// Of a batch. A type of its own, so that differently compiled objects sort it by functions of their own.
  struct numbered_sequence {
    index_t tokens, number;
  };

  std::vector<attention_scratch<B, E>> workers;
  std::vector<far_field_scratch<B>>    far_fields;  // one per worker
  std::vector<cluster_lists<B>>        lists;       // one, or one per KV head
  std::vector<kv_head_scratch<B, E>>   of_heads;    // one per KV head
  std::vector<kv_head_state<B, E>>     heads;       // one per KV head; a sequence that grows has its own
  buffer<numbered_sequence, B>         order;       // the longest first

  CASCADA_INLINE index_t crew() const noexcept { return static_cast<index_t>(workers.size()); }
  CASCADA_INLINE kv_head_scratch<B, E>& scratch_of(index_t kv_head) noexcept { return of_heads.data()[kv_head]; }
};

/// At least `count` of what there is one of for each worker, head or selection.
template <class Each>
void grow(std::vector<Each>& all, index_t count) {
  if (all.size() < static_cast<std::size_t>(count)) all.resize(static_cast<std::size_t>(count));
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
