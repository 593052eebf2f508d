#pragma once
// Refinement on the device: what the kernels of one slice of tokens hand to each other.
//
// Per (token, KV head), a row: scores of the far clusters, the candidates that the best of them give, the candidates'
// scores, the chosen tokens, and what the clusters' counts have left. Rows of a slice are [last - first, kv_heads].

#include <cstdint>

#include "cascada/hip/attend_operands.hpp"
#include "cascada/hip/cluster.hpp"

namespace cascada::hip {

struct refined_slice {
  cluster_memory clusters;
  pair_counts    scores;           // of clusters, then of candidates; in the end what counts have left
  index_t*       candidates;       // [rows, limit]: places in clusters.members, by cluster, then by token
  index_t*       candidate_count;  // [rows]
  index_t*       chosen;           // [rows, budget]: the same
  index_t*       chosen_count;     // [rows]
  const index_t* valid;            // [1]: negative, the selection has failed
  const float*   log_sums;         // [T, heads], log2, over near field and clusters; null with one head a group
  index_t        tokens, kv_heads, chunk, window, budget, limit;
  index_t        first, last;  // tokens of the slice; all have more far tokens than the budget

  CASCADA_HOST_DEVICE CASCADA_INLINE index_t rows() const { return (last - first) * kv_heads; }

  CASCADA_HOST_DEVICE CASCADA_INLINE index_t far_tokens(index_t of_chunk) const { return of_chunk * chunk - window; }
  CASCADA_DEVICE CASCADA_INLINE const index_t* far_rows(index_t of_chunk) const {
    return clusters.far_rows + std::int64_t{of_chunk} * tokens;
  }
  /// Members of a cluster that are far from a chunk.
  CASCADA_DEVICE CASCADA_INLINE index_t size(index_t of_chunk, index_t cluster) const {
    return far_rows(of_chunk)[cluster] - clusters.offsets[cluster] + 1;
  }
};

}  // namespace cascada::hip
