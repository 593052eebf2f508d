#pragma once
// An executor of any type, as one type that all levels know.

#include <concepts>
#include <memory>
#include <type_traits>
#include <utility>

#include "cascada/config.hpp"
#include "cascada/executor.hpp"

namespace cascada::inline CASCADA_ABI::dispatch {

namespace detail {

/// A function without its type.
struct any_function {
  void (*call)(void*, index_t);
  void* callee;

  void operator()(index_t i) const { call(callee, i); }
};

/// An executor without its type.
struct held_executor {
  virtual ~held_executor()                                             = default;
  virtual index_t concurrency() const                                  = 0;
  virtual void    parallel_for(index_t count, any_function each) const = 0;
};

template <executor E>
struct held_executor_of final : held_executor {
  explicit held_executor_of(E of) : where(std::move(of)) {}

  index_t concurrency() const override { return cascada::detail::workers_of(where); }
  void    parallel_for(index_t count, any_function each) const override { where.parallel_for(count, each); }

  E where;
};

}  // namespace detail

/// Holds a copy of an executor, or none: then everything runs on the calling thread. Copies share what is held, and
/// threads may do with them what they may do with that.
class any_executor {
 public:
  any_executor() = default;

  /// Any executor becomes one by itself, where one is asked for.
  template <class E>
    requires(!std::same_as<E, any_executor> && executor<E>)
  any_executor(E where) : held_(new const detail::held_executor_of<E>(std::move(where))) {}  // NOLINT: implicit

  [[nodiscard]] index_t concurrency() const { return held_ ? held_->concurrency() : 1; }

  template <class Function>
  void parallel_for(index_t count, Function&& function) const {
    using callee = std::remove_reference_t<Function>;
    if (!held_) {
      for (index_t i = 0; i < count; ++i) function(i);
      return;
    }
    held_->parallel_for(count, {[](void* it, index_t i) { (*static_cast<callee*>(it))(i); },
                                const_cast<void*>(static_cast<const void*>(std::addressof(function)))});
  }

 private:
  std::shared_ptr<const detail::held_executor> held_;
};

static_assert(executor<any_executor>);

/// One pool for all levels, with a thread for each CPU that the process may use when it is first needed
/// (thread_pool.hpp).
[[nodiscard]] any_executor shared_pool();

}  // namespace cascada::inline CASCADA_ABI::dispatch
