#pragma once
// Which of many cases a test tries where tests take many times as long: under sanitizers, and in an emulator.

#include <cstddef>
#include <iterator>
#include <vector>

#ifndef CASCADA_TEST_EVERY
#define CASCADA_TEST_EVERY 1
#endif

namespace tests {

/// Every CASCADA_TEST_EVERY-th of the cases, but one at least, beginning with another from line to line: tests that
/// share a list try all of it between them. Of a list that one test alone has, the rest waits for builds that try all.
template <class Cases>
auto sample(const Cases& all, std::size_t line = __builtin_LINE()) {
  std::vector<std::iter_value_t<decltype(std::begin(all))>> some;
  for (std::size_t i = line % CASCADA_TEST_EVERY; i < std::size(all); i += CASCADA_TEST_EVERY)
    some.push_back(std::data(all)[i]);
  if (some.empty()) some.push_back(std::data(all)[line % std::size(all)]);
  return some;
}

}  // namespace tests
