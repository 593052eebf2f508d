#pragma once
// Tokens whose pairs lie within a few ulps of a threshold, on either side.

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>
#include <vector>

#include "tokens.hpp"

namespace tests {

inline float nudge(float value, int ulps) { return std::bit_cast<float>(std::bit_cast<int>(value) + ulps); }

struct placed_tokens {
  token_rows<float>    rows;
  std::vector<index_t> home;  // the token that each was placed around; itself for the first third
};

/// T tokens around T / 3 directions, at a cosine within a few ulps of tau from them, on either side (d >= 2).
inline placed_tokens near_threshold(index_t T, index_t d, float tau, unsigned seed) {
  std::mt19937                          random(seed);
  std::normal_distribution<float>       normal;
  std::uniform_real_distribution<float> scale(0.1f, 10.0f);
  const index_t                         directions = std::max(1, T / 3);
  placed_tokens                         tokens{token_rows<float>(T, d), {}};
  token_rows<float>&                    rows = tokens.rows;
  std::vector<double>                   along(static_cast<std::size_t>(d)), across(static_cast<std::size_t>(d));
  for (index_t i = 0; i < T; ++i) {
    const float length = scale(random);
    if (i < directions) {
      tokens.home.push_back(i);
      for (index_t c = 0; c < d; ++c) rows.set(i, c, length * normal(random));
      continue;
    }
    const auto home = static_cast<index_t>(random() % static_cast<unsigned>(directions));
    tokens.home.push_back(home);
    double square = 0, overlap = 0, rest = 0;
    for (index_t c = 0; c < d; ++c) square += std::pow(rows.get(home, c), 2);
    for (index_t c = 0; c < d; ++c) {
      along[static_cast<std::size_t>(c)]  = rows.get(home, c) / std::sqrt(square);
      across[static_cast<std::size_t>(c)] = normal(random);
      overlap += along[static_cast<std::size_t>(c)] * across[static_cast<std::size_t>(c)];
    }
    for (index_t c = 0; c < d; ++c) {
      across[static_cast<std::size_t>(c)] -= overlap * along[static_cast<std::size_t>(c)];
      rest += std::pow(across[static_cast<std::size_t>(c)], 2);
    }
    const double sine = std::sqrt(1.0 - double{tau} * tau) / std::sqrt(rest);
    for (index_t c = 0; c < d; ++c) {
      const auto  k     = static_cast<std::size_t>(c);
      const float value = length * static_cast<float>(tau * along[k] + sine * across[k]);
      rows.set(i, c, nudge(value, static_cast<int>(random() % 17) - 8));
    }
  }
  return tokens;
}

}  // namespace tests
