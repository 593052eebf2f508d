// The baseline's representatives: a legal state of the asked size, every token with its nearest earlier member.

#include <cmath>
#include <vector>

#include "cascada/eigen.hpp"
#include "catch.hpp"
#include "engine/random_selection.hpp"

using namespace engine;

TEST_CASE("random representatives are a legal state with nearest members", "[property]") {
  const index_t T = 300, count = GENERATE(1, 2, 77, 300);
  CAPTURE(count);
  std::srand(5);
  const matrix     x = matrix::Random(T, 24);
  threads          pool(2);
  random_selection selection(9);
  selection.draw(cascada::view(x), count, pool.where());
  const cascada::representatives kept = selection.kept();

  REQUIRE(cascada::check(kept, T) == cascada::status::ok);
  REQUIRE(kept.count() == count);
  CHECK(kept.indices[0] == 0);
  const auto cosine = [&](index_t i, index_t j) {
    return static_cast<double>(x.row(i).dot(x.row(j))) /
           (static_cast<double>(x.row(i).norm()) * static_cast<double>(x.row(j).norm()));
  };
  for (index_t i = 0; i < T; ++i)
    for (const index_t j : kept.indices)
      if (j < i && kept.rep[static_cast<std::size_t>(i)] != i)
        CHECK(cosine(i, j) <= cosine(i, kept.rep[static_cast<std::size_t>(i)]) + 1e-5);
}

TEST_CASE("random representatives: seeds decide, draws are uniform", "[property]") {
  const index_t    T = 50, count = 11;
  const matrix     x = matrix::Ones(T, 3);
  threads          pool(1);
  std::vector<int> drawn(static_cast<std::size_t>(T));
  const int        draws = 5000;
  random_selection selection(1), same(1), other(2);
  int              different = 0;
  for (int n = 0; n < draws; ++n) {
    for (random_selection* one : {&selection, &same, &other}) one->draw(cascada::view(x), count, pool.where());
    const auto a = selection.kept().indices, b = same.kept().indices, c = other.kept().indices;
    REQUIRE(std::equal(a.begin(), a.end(), b.begin(), b.end()));
    different += !std::equal(a.begin(), a.end(), c.begin(), c.end());
    for (const index_t member : a) ++drawn[static_cast<std::size_t>(member)];
  }
  CHECK(different > draws * 9 / 10);
  CHECK(drawn[0] == draws);
  // Binomial: six standard deviations around the expected count.
  const double p = (count - 1.0) / (T - 1.0), expected = draws * p, spread = 6 * std::sqrt(draws * p * (1 - p));
  for (std::size_t t = 1; t < drawn.size(); ++t) CHECK(std::abs(drawn[t] - expected) <= spread);
}
