#pragma once
// Rotary position embedding (RoPE, arXiv:2104.09864) in its two variants: halves of a head turn together (Llama), or
// neighbouring columns do (GPT-J).

#include <cmath>
#include <vector>

#include "engine/matrix.hpp"

namespace engine {

/// base^(-2i / dim) for i in [0, dim / 2). In float on purpose: models are trained with angles rounded this way.
inline std::vector<float> rotary_frequencies(index_t dim, float base) {
  std::vector<float> out;
  for (index_t i = 0; i < dim / 2; ++i)
    out.push_back(1 / std::pow(base, static_cast<float>(2 * i) / static_cast<float>(dim)));
  return out;
}

/// The angles of positions first .. first + T - 1: one frequency for each pair of columns of a head. Rotated columns
/// are also multiplied by `amplitude`.
class rotary {
 public:
  rotary(index_t first, index_t tokens, const std::vector<float>& frequencies, float amplitude = 1)
      : cosine_(tokens, static_cast<index_t>(frequencies.size())), sine_(cosine_.rows(), cosine_.cols()) {
    for (index_t i = 0; i < cols_of(cosine_); ++i)
      for (index_t t = 0; t < tokens; ++t) {
        const float angle = static_cast<float>(first + t) * frequencies[static_cast<std::size_t>(i)];
        cosine_(t, i) = amplitude * std::cos(angle), sine_(t, i) = amplitude * std::sin(angle);
      }
  }

  /// Rotates every head of x [T, heads * dim] in place: column i with column i + dim / 2.
  void apply(matrix& x, const backend& where) const {
    const index_t half = cols_of(cosine_);
    for_pieces(rows_of(x), 64, where, [&](index_t begin, index_t count) {
      vector left(half);
      for (index_t t = begin; t < begin + count; ++t)
        for (index_t head = 0; head < cols_of(x); head += 2 * half) {
          auto a = x.row(t).segment(head, half), b = x.row(t).segment(head + half, half);
          left = a.cwiseProduct(cosine_.row(t)) - b.cwiseProduct(sine_.row(t));
          b    = b.cwiseProduct(cosine_.row(t)) + a.cwiseProduct(sine_.row(t));
          a    = left;
        }
    });
  }

  /// Rotates the first dim columns of every head of x [T, heads * head_dim] in place: column 2 i with column 2 i + 1.
  void apply_interleaved(matrix& x, index_t head_dim, const backend& where) const {
    for_pieces(rows_of(x), 64, where, [&](index_t begin, index_t count) {
      for (index_t t = begin; t < begin + count; ++t)
        for (index_t head = 0; head < cols_of(x); head += head_dim)
          for (index_t i = 0; i < cols_of(cosine_); ++i) {
            float&      a    = x(t, head + 2 * i);
            float&      b    = x(t, head + 2 * i + 1);
            const float left = a * cosine_(t, i) - b * sine_(t, i);
            b                = b * cosine_(t, i) + a * sine_(t, i);
            a                = left;
          }
    });
  }

 private:
  matrix cosine_, sine_;  // [T, dim / 2]
};

}  // namespace engine
