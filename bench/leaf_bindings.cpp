// The leaves of a KV head behind C functions: the steps that make them, each by itself.

#include <algorithm>
#include <cstdint>

#include "bench/exports.hpp"
#include "cascada/backend.hpp"
#include "cascada/cpu/attention/leaf_chains.hpp"
#include "cascada/cpu/attention/leaves.hpp"

using namespace cascada;
using bench::with_rows;

namespace {

using backend = default_backend;

/// The two steps that make the leaves of one KV head, each by itself: which chain a token joins, and the sums.
struct leaf_builder {
  virtual ~leaf_builder() = default;
  virtual void    assign(const void* k, index_t stride, const index_t* clusters, float threshold, index_t* chains) = 0;
  virtual index_t sum_up(const void* k, const void* v, index_t stride, const index_t* chains, index_t chunk)       = 0;
};

template <class Scalar>
struct leaf_builder_of : leaf_builder {
  leaf_builder_of(index_t tokens, index_t dim, index_t leaf, index_t moments)
      : tokens_(tokens), shape_{.key_dim = dim, .value_dim = dim, .size = leaf, .moments = moments} {
    chains_.reserve(tokens, dim);
    leaves_.reserve(tokens, shape_);
    scratch_.reserve(tokens, shape_);
  }

  void assign(const void* k, index_t stride, const index_t* clusters, float threshold, index_t* chains) override {
    const auto key = rows(k, stride);
    chains_.clear(shape_.key_dim, threshold, 0), chains_.add_clusters(tokens_);
    chains_.extend(clusters, tokens_, key);
    std::copy_n(chains_.chain_of(), tokens_, chains);
  }

  index_t sum_up(const void* k, const void* v, index_t stride, const index_t* chains, index_t chunk) override {
    leaves_.clear(shape_, tokens_);
    for (index_t end = 0; end < tokens_;) {
      end = tokens_ - end < chunk ? tokens_ : end + chunk;
      leaves_.extend(chains, end, rows(k, stride), rows(v, stride), scratch_);
    }
    return leaves_.count();
  }

 private:
  static auto rows(const void* data, index_t stride) {
    return [=](index_t t) { return strided_row<Scalar>{static_cast<const Scalar*>(data) + std::int64_t{t} * stride}; };
  }

  index_t                                                                         tokens_;
  kernel::attention::leaf_shape                                                   shape_;
  kernel::attention::leaf_chains<backend>                                         chains_;
  kernel::attention::leaf_scratch<backend>                                        scratch_;
  kernel::attention::leaf_summaries<backend, kernel::operand_of<Scalar, backend>> leaves_;
};

}  // namespace

/// k and v rows of one KV head, `stride` elements apart, and for each token a number: its cluster, its chain.
EXPORT leaf_builder* bench_leaves(int rows, index_t tokens, index_t dim, index_t leaf, index_t moments) {
  return with_rows(rows, [&](auto scalar) -> leaf_builder* {
    return new leaf_builder_of<decltype(scalar)>(tokens, dim, leaf, moments);
  });
}
EXPORT void bench_leaves_free(leaf_builder* self) { delete self; }
EXPORT void bench_leaves_assign(leaf_builder* self, const void* k, index_t stride, const index_t* clusters,
                                float threshold, index_t* chains) {
  self->assign(k, stride, clusters, threshold, chains);
}
EXPORT index_t bench_leaves_sum_up(leaf_builder* self, const void* k, const void* v, index_t stride,
                                   const index_t* chains, index_t chunk) {
  return self->sum_up(k, v, stride, chains, chunk);
}
