// Eigen matrices in and out: representatives of a layer, then attention that sees old tokens through their clusters.

#include <Eigen/Core>
#include <cstdio>

#include "cascada/cascada.hpp"
#include "cascada/eigen.hpp"

using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

int main() {
  constexpr cascada::index_t tokens = 512, width = 128, heads = 4, kv_heads = 2, head_dim = 32;
  const matrix               topics = matrix::Random(24, width);
  matrix                     x      = 0.4f * matrix::Random(tokens, width);
  for (cascada::index_t t = 0; t < tokens; ++t) x.row(t) += topics.row(t * 5 % topics.rows());

  // A row-major Eigen matrix with a name is a view; so is a block of one.
  cascada::selector<float> selector({.threshold = 0.8f});
  if (selector(cascada::view(x)) != cascada::status::ok) return 1;

  const matrix q = x * matrix::Random(width, heads * head_dim) / 12, k = x * matrix::Random(width, kv_heads * head_dim),
               v = x * matrix::Random(width, kv_heads * head_dim);
  const cascada::strided_kv<float> kv{cascada::packed_heads(k.data(), tokens, kv_heads, head_dim),
                                      cascada::packed_heads(v.data(), tokens, kv_heads, head_dim)};
  const auto                       queries = cascada::packed_heads(q.data(), tokens, heads, head_dim);
  const cascada::representatives   kept    = selector.kept();

  matrix                    dense(tokens, heads * head_dim), compressed(tokens, heads * head_dim);
  cascada::attention<float> exact({.keys = cascada::key_set::all});
  cascada::attention<float> near_and_far({.keys = cascada::key_set::near_and_far, .window = 64, .chunk = 64});
  if (exact(queries, kv, cascada::packed_heads(dense.data(), tokens, heads, head_dim)) != cascada::status::ok ||
      near_and_far(queries, kv, kept, cascada::packed_heads(compressed.data(), tokens, heads, head_dim)) !=
          cascada::status::ok)
    return 1;
  std::printf("%d of %d tokens are representatives; compressed attention is off by %.1f%% of the output's norm\n",
              kept.count(), tokens, 100 * static_cast<double>((dense - compressed).norm() / dense.norm()));
}
