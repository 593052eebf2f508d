#pragma once
// torch's tensors and threads, as cascada takes them: rows in place, an executor, exceptions for statuses.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cascada/cpu/attention/attention.hpp>
#include <cascada/cpu/select/cascade.hpp>
#include <cascada/cpu/select/growing.hpp>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace torch_cascada {

using cascada::index_t;

/// Work on torch's own threads. Each takes the next piece as it is free; at::parallel_for would cut them beforehand,
/// and the last rows of a causal problem are the longest.
struct torch_threads {
  index_t concurrency() const { return static_cast<index_t>(at::get_num_threads()); }

  template <class Function>
  void parallel_for(index_t count, Function&& function) const {
    std::atomic<std::int64_t> next{0};
    at::parallel_for(0, std::min<std::int64_t>(count, concurrency()), 1, [&](std::int64_t, std::int64_t) {
      for (std::int64_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) function(static_cast<index_t>(i));
    });
  }
};

using backend = cascada::cpu<cascada::compiled_isa, torch_threads>;

template <class Scalar>
inline constexpr at::ScalarType type_of = at::kFloat;
template <>
inline constexpr at::ScalarType type_of<cascada::bfloat16> = at::kBFloat16;
template <>
inline constexpr at::ScalarType type_of<cascada::float16> = at::kHalf;

/// A ValueError in Python.
[[noreturn]] inline void refuse(const std::string& sentence) { throw std::invalid_argument("cascada: " + sentence); }

inline void require(bool holds, const std::string& sentence) {
  if (!holds) refuse(sentence);
}

inline void require_ok(cascada::status answer) { require(answer == cascada::status::ok, message(answer)); }

inline index_t to_index(std::int64_t size) {
  require(size <= cascada::detail::largest_size, "a size of " + std::to_string(size) + " is more than 2^31 - 4097");
  return static_cast<index_t>(size);
}

/// Whether x is [batch, heads, tokens, head_dim] of `Scalar`, with rows in one piece.
template <class Scalar>
void require_rows(const at::Tensor& x, const char* name) {
  const std::string rows = name;
  require(x.dim() == 4, rows + " is not [batch, heads, tokens, head_dim]");
  require(x.device().is_cpu(), rows + " is not on the CPU");
  require(x.scalar_type() == type_of<Scalar>, rows + " is not of q's type");
  require(x.size(3) <= 1 || x.stride(3) == 1, rows + " has rows whose elements are not next to each other");
}

/// One sequence's rows of x from token `first` on: x[sequence, :, first:], in place.
template <class Scalar>
cascada::heads_view<Scalar> heads_of(const at::Tensor& x, std::int64_t sequence, std::int64_t first) {
  auto* const data = static_cast<Scalar*>(x.data_ptr()) + sequence * x.stride(0) + first * x.stride(2);
  return {data, to_index(x.size(2) - first), to_index(x.size(1)), to_index(x.size(3)), x.stride(2), x.stride(1)};
}

/// What belongs to the call of a layer, beside its rows.
struct layer_terms {
  double                scale = 0;
  std::optional<double> softcap;
  std::optional<int>    sliding_window;

  cascada::attention_options applied_to(cascada::attention_options options) const {
    options.scale = static_cast<float>(scale);
    if (softcap) options.softcap = static_cast<float>(*softcap);
    options.sliding_window = sliding_window;
    return options;
  }
};

/// q, k, v of a batch, [batch, heads, tokens, head_dim] each: the queries are the last tokens. Sequence b begins after
/// padding[b] tokens; none: all at 0.
template <class Scalar>
struct batch_rows {
  const at::Tensor&                q;
  const at::Tensor&                k;
  const at::Tensor&                v;
  const std::vector<std::int64_t>& padding;

  void check() const {
    require_rows<Scalar>(q, "q"), require_rows<Scalar>(k, "k"), require_rows<Scalar>(v, "v");
    require(k.size(0) == q.size(0) && v.size(0) == q.size(0), "q, k and v are not of one batch");
    require(v.size(2) == k.size(2), "v has not as many tokens as k");
    require(q.size(2) <= k.size(2), "q has more tokens than k");
    require(padding.empty() || static_cast<std::int64_t>(padding.size()) == q.size(0),
            "padding has not one number for each sequence");
    for (const std::int64_t tokens : padding)
      require(tokens >= 0 && tokens < k.size(2), "padding leaves nothing of a sequence");
  }

  std::int64_t batch() const { return q.size(0); }
  std::int64_t begin(std::int64_t b) const { return padding.empty() ? 0 : padding[static_cast<std::size_t>(b)]; }
  /// Tokens of a sequence, and those of earlier calls.
  std::int64_t tokens(std::int64_t b) const { return k.size(2) - begin(b); }
  std::int64_t before(std::int64_t b) const { return std::max<std::int64_t>(0, k.size(2) - q.size(2) - begin(b)); }
  /// The first row of q that is no padding.
  std::int64_t first(std::int64_t b) const { return q.size(2) - tokens(b) + before(b); }

  cascada::heads_view<const Scalar> queries(std::int64_t b) const { return heads_of<const Scalar>(q, b, first(b)); }
  cascada::strided_kv<Scalar>       keys_and_values(std::int64_t b) const {
    return {heads_of<const Scalar>(k, b, begin(b)), heads_of<const Scalar>(v, b, begin(b))};
  }

  /// [batch, tokens, heads, head_dim], as models go on with it; rows of padding are zero.
  at::Tensor results() const {
    at::Tensor out = at::empty({q.size(0), q.size(2), q.size(1), v.size(3)}, q.options());
    for (std::int64_t b = 0; b < batch(); ++b)
      if (first(b) > 0) out[b].narrow(0, 0, first(b)).zero_();
    return out;
  }
  cascada::heads_view<Scalar> results_of(const at::Tensor& out, std::int64_t b) const {
    return heads_of<Scalar>(out.transpose(1, 2), b, first(b));
  }
};

}  // namespace torch_cascada
