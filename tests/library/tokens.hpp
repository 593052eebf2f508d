#pragma once
// Token rows for the tests of selection: the shapes and degeneracies that have broken such code before.

#include <cstddef>
#include <limits>
#include <ostream>
#include <random>
#include <span>
#include <vector>

#include "cascada/owned_representatives.hpp"
#include "cascada/scalar.hpp"
#include "cascada/selection_options.hpp"
#include "cascada/views.hpp"

namespace tests {

using cascada::index_t;

enum class kind { random, clustered, duplicates, zero_rows, anti_parallel, tiny_and_huge };

inline constexpr kind all_kinds[] = {kind::random,    kind::clustered,     kind::duplicates,
                                     kind::zero_rows, kind::anti_parallel, kind::tiny_and_huge};

inline std::ostream& operator<<(std::ostream& out, kind k) {
  constexpr const char* names[] = {"random", "clustered", "duplicates", "zero rows", "anti-parallel", "tiny and huge"};
  return out << names[static_cast<int>(k)];
}

/// The ways to a product. All give the same sets; a target without one takes another.
inline constexpr cascada::prefilter all_filters[] = {cascada::prefilter::automatic, cascada::prefilter::none,
                                                     cascada::prefilter::sketch, cascada::prefilter::bf16_vectors,
                                                     cascada::prefilter::bf16_tiles};

/// Rows [T, d] with a padded stride, NaN in the padding (reading it would show), starting off any vector boundary.
template <cascada::row_scalar Scalar>
class token_rows {
 public:
  token_rows(index_t T, index_t d, index_t padding = 3, index_t misalignment = 1)
      : T_(T),
        d_(d),
        stride_(d + padding),
        first_(static_cast<std::size_t>(misalignment)),
        storage_(first_ + static_cast<std::size_t>(T) * static_cast<std::size_t>(stride_),
                 cascada::from_float<Scalar>(std::numeric_limits<float>::quiet_NaN())) {}

  cascada::matrix_view<Scalar>       view() { return {storage_.data() + first_, T_, d_, stride_}; }
  cascada::matrix_view<const Scalar> view() const { return {storage_.data() + first_, T_, d_, stride_}; }

  void  set(index_t i, index_t k, float value) { view().row(i)[k] = cascada::from_float<Scalar>(value); }
  float get(index_t i, index_t k) const { return cascada::to_float(view().row(i)[k]); }

 private:
  index_t             T_, d_;
  std::int64_t        stride_;
  std::size_t         first_;
  std::vector<Scalar> storage_;
};

/// Rows [begin, end).
template <cascada::row_scalar Scalar>
cascada::matrix_view<const Scalar> rows_of(const token_rows<Scalar>& all, index_t begin, index_t end) {
  auto x = all.view();
  x.data += begin * x.stride, x.rows = end - begin;
  return x;
}

/// One layer of tokens. The same seed gives the same clusters, so that layers (`layer` 0, 1, ...) resemble each other
/// as a model's do: each layer moves the tokens a little and a few of them far.
template <cascada::row_scalar Scalar>
token_rows<Scalar> make_tokens(kind k, index_t T, index_t d, unsigned seed, unsigned layer = 0) {
  std::mt19937                    clusters(seed), noise(seed * 7919 + layer + 1);
  std::normal_distribution<float> normal;
  const index_t                   centers = std::max(1, T / 4);
  std::vector<float>              center(static_cast<std::size_t>(centers) * static_cast<std::size_t>(d));
  for (float& c : center) c = normal(clusters);

  token_rows<Scalar> rows(T, d);
  for (index_t i = 0; i < T; ++i) {
    const auto  home      = static_cast<index_t>(clusters() % static_cast<unsigned>(centers));
    const bool  strays    = noise() % 16 == 0;
    const float spread    = k == kind::duplicates ? 0.0f : (k == kind::random || strays ? 1.5f : 0.45f);
    const float sign      = k == kind::anti_parallel && noise() % 2 ? -1.0f : 1.0f;
    const float factors[] = {0x1p-45f, 0x1p-29f, 1.0f, 0x1p50f};
    const float scale     = k == kind::tiny_and_huge ? factors[noise() % 4] : 1.0f;
    const bool  zero      = k == kind::zero_rows && noise() % 4 == 0;
    for (index_t c = 0; c < d; ++c) {
      const float value = center[static_cast<std::size_t>(home * d + c)] + spread * normal(noise);
      rows.set(i, c, zero ? 0.0f : sign * scale * value);
    }
  }
  return rows;
}

using cascada::owned_representatives;

/// A legal state that has nothing to do with any tokens: token 0 and about every `every`-th token, each other token
/// with a random earlier member.
inline owned_representatives random_state(index_t T, unsigned seed, unsigned every = 4) {
  std::mt19937          random(seed);
  owned_representatives state;
  for (index_t i = 0; i < T; ++i) {
    const bool member = i == 0 || random() % every == 0;
    if (member) {
      state.rep.push_back(i);
      state.indices.push_back(i);
      state.counts.push_back(1);
    } else {
      const std::size_t choice = random() % state.indices.size();
      state.rep.push_back(state.indices[choice]);
      ++state.counts[choice];
    }
  }
  return state;
}

inline std::vector<index_t> to_vector(std::span<const index_t> span) { return {span.begin(), span.end()}; }

/// The same set, with the same representative for every token.
inline bool same_sets(const cascada::representatives& a, const cascada::representatives& b) {
  return owned_representatives::of(a) == owned_representatives::of(b);
}

}  // namespace tests
