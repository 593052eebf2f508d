// Attention and merge give the same results whatever arithmetic the host has turned on, on the calling thread or on
// workers.

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "attention_data.hpp"
#include "cascada/cascada.hpp"
#include "catch.hpp"
#include "host_mode.hpp"
#include "sample.hpp"
#include "saved_bytes.hpp"

using namespace cascada;
using namespace tests;

namespace {

/// Some values are so small that what weights leave of them is subnormal.
template <class Scalar>
problem<Scalar> with_tiny_values(const shape& size) {
  problem<Scalar> p(size, 61);
  for (index_t t = 0; t < size.tokens; ++t)
    for (index_t h = 0; h < size.kv_heads; ++h)
      for (index_t c = 0; c < size.value_dim; c += 2) {
        Scalar& x = p.v.view().row(t, h)[c];
        x         = from_float<Scalar>(to_float(x) * 0x1p-126f);
      }
  return p;
}

/// One call, and where the mode grows, calls in pieces with a state that was saved and loaded between them.
template <class Scalar>
struct every_call {
  attended           whole;
  std::vector<float> pieces;

  every_call(const mode& m, const problem<Scalar>& p, const std::vector<selection>& s, thread_pool<compiled_isa>* pool)
      : whole(attend_and_report<float>(m.options, p, p.kv(), s, {}, test_backend{{pool}})) {
    if (!grows(m)) return;
    attention<Scalar, test_backend>       attend(m.options, {{pool}});
    attention_state<Scalar, test_backend> state, loaded;
    head_rows<float>                      out(p.size.tokens, p.size.heads, p.size.value_dim);
    for (const index_t end : {50, 51, 101, p.size.tokens}) {
      if (extend_to(end, attend, state, p.q, p.kv(), views(s), out) != status::ok) return;
      if (attend.load(loaded, p.kv(), bytes_of(state)) != status::ok) return;
      std::swap(state, loaded);
    }
    pieces = out.packed<float>();
  }
};

}  // namespace

TEMPLATE_TEST_CASE("host modes: attention is the same in any arithmetic of the host", "[attention]", float, bfloat16) {
  const mode m = GENERATE(from_range(sample(modes)));
  CAPTURE(m);
  const auto                   p = with_tiny_values<TestType>({130, 4, 2, 20, 12});
  const std::vector<selection> s = {random_selection(130, 0.3, 5)};
  const every_call             expected(m, p, s, nullptr);
  REQUIRE(!expected.whole.out.empty());
  REQUIRE(expected.pieces.empty() != grows(m));
  for (const auto& [name, word] : sample(host_modes))
    for (const bool on_caller : {true, false}) {
      CAPTURE(name, on_caller);
      std::unique_ptr<thread_pool<compiled_isa>> threads;
      {
        const host_mode of_workers(on_caller ? control() : word);
        threads = std::make_unique<thread_pool<compiled_isa>>(3);  // with the arithmetic of the one that makes them
      }
      const host_mode  of_caller(on_caller ? word : control());
      const auto       before = control();
      const every_call got(m, p, s, threads.get());
      CHECK(control() == before);
      CHECK(same_bits(got.whole.out, expected.whole.out));
      CHECK(same_bits(got.whole.log_sum_exp, expected.whole.log_sum_exp));
      CHECK(got.whole.report == expected.whole.report);
      CHECK(got.pieces == expected.pieces);
    }
}

TEST_CASE("host modes: merge is the same in any arithmetic of the host", "[attention]") {
  const index_t    T = 20, heads = 3, dim = 21;
  problem<float>   p({T, heads, heads, dim, dim}, 62);
  head_rows<float> second(T, heads, dim);
  second.fill([] { return 0x1.5p-126f; });
  std::vector<float> first_sums, second_sums;
  for (index_t i = 0; i < T * heads; ++i)
    first_sums.push_back(static_cast<float>(i) / 7), second_sums.push_back(static_cast<float>(i % 5) / 3);
  const auto run = [&] {
    head_rows<float>   out(T, heads, dim);
    std::vector<float> sums(first_sums.size());
    REQUIRE(merge<test_backend>(std::as_const(p.v).view(), {first_sums.data(), T, heads, heads},
                                std::as_const(second).view(), {second_sums.data(), T, heads, heads}, out.view(),
                                {sums.data(), T, heads, heads}) == status::ok);
    auto all = out.packed<float>();
    all.insert(all.end(), sums.begin(), sums.end());
    return all;
  };
  // Of a part without weight, only subnormal results are left.
  p.v.fill([] { return 0x1.3p-127f; });
  const auto expected = run();
  for (const auto& [name, word] : host_modes) {
    CAPTURE(name);
    const host_mode of_caller(word);
    const auto      before = control();
    const auto      got    = run();
    CHECK(control() == before);
    CHECK(same_bits(got, expected));
  }
}
