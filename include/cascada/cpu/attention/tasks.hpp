#pragma once
// How a call is cut into tasks, and the tasks are shared out to workers.

#include <atomic>
#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/query_tile.hpp"
#include "cascada/cpu/attention/scratch.hpp"
#include "cascada/cpu/base/float_environment.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Rows of a KV head up to which the heads go through the keys together.
inline constexpr index_t few_rows = 16;

/// Whether all queries of a KV head are one tile: few, as a step of decoding has them, held back by reading keys and
/// values.
template <class Sequence>
CASCADA_INLINE bool has_few_queries(const Sequence& sequence) noexcept {
  return sequence.queries() * sequence.group <= few_rows && !sequence.terms.any();
}

/// KV heads that one task takes: of few queries as many as are read together, since their rows lie side by side, but
/// all workers get some.
template <class Sequence>
CASCADA_INLINE index_t heads_at_once(const Sequence& sequence, index_t workers) noexcept {
  if (!has_few_queries(sequence)) return 1;
  const index_t most = rows_of_heads / (sequence.queries() * sequence.group);
  const index_t each = (sequence.kv.kv_heads() + workers - 1) / workers;
  return each < most ? each : most;
}

/// Tasks: tiles of `step` tokens of [from, to), or of what else is numbered, the last tile first; each tile once for
/// every `together` KV heads.
struct tile_tasks {
  index_t from, to, step, kv_heads, together = 1;

  CASCADA_INLINE std::int64_t tiles() const noexcept { return (std::int64_t{to} - from + step - 1) / step; }
  CASCADA_INLINE std::int64_t parts() const noexcept { return (kv_heads + together - 1) / together; }
  CASCADA_INLINE std::int64_t count() const noexcept { return tiles() * parts(); }

  /// A task's tile is [begin, end).
  CASCADA_INLINE index_t begin(std::int64_t task) const noexcept {
    return static_cast<index_t>(from + (tiles() - 1 - task / parts()) * step);
  }
  CASCADA_INLINE index_t end(std::int64_t task) const noexcept {
    const index_t first = begin(task);
    return to - first < step ? to : first + step;
  }
  CASCADA_INLINE index_t kv_head(std::int64_t task) const noexcept {
    return static_cast<index_t>(task % parts()) * together;
  }
  CASCADA_INLINE index_t heads(std::int64_t task) const noexcept {
    const index_t left = kv_heads - kv_head(task);
    return left < together ? left : together;
  }
};

/// Those of a sequence's queries.
template <class Sequence>
CASCADA_INLINE tile_tasks query_tasks(const Sequence& sequence, index_t step, index_t workers) noexcept {
  return {.from     = sequence.first,
          .to       = sequence.tokens,
          .step     = step,
          .kv_heads = sequence.kv.kv_heads(),
          .together = heads_at_once(sequence, workers)};
}

/// Query tokens of each tile of `tokens` that have queries: as many as a tile has room for, but down to a quarter of
/// that, or of them, if it leaves several workers fewer than four tasks each; then a multiple of `multiple`, at least
/// that.
template <cpu_backend B, class E, class Sequence>
index_t task_tokens(const Sequence& sequence, index_t tokens, index_t workers, index_t multiple = 1) noexcept {
  const std::int64_t kv_heads = sequence.kv.kv_heads(), all = std::int64_t{4} * workers;
  const index_t      room = tile_tokens<B, E>(sequence.group, sequence.q.dim, sequence.kv.value_dim());
  const index_t      most = tokens < 1 ? 1 : tokens < room ? tokens : room;
  index_t            step = most;
  while (workers > 1 && step > 1 && step > most / 4 && (std::int64_t{tokens} + step - 1) / step * kv_heads < all)
    step /= 2;
  return step < multiple ? multiple : step / multiple * multiple;
}

/// function(worker, task) for every task, on so many workers at most. Tasks start in order.
template <cpu_backend B, class Function>
void for_each_task(const B& where, index_t workers, std::int64_t tasks, const Function& function) {
  std::atomic<std::int64_t> next{0};
  parallel_for<B>(where.executor, workers < tasks ? workers : static_cast<index_t>(tasks), [&](index_t worker) {
    for (std::int64_t task = next.fetch_add(1, std::memory_order_relaxed); task < tasks;
         task              = next.fetch_add(1, std::memory_order_relaxed))
      function(worker, task);
  });
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
