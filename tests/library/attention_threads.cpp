// On several threads as on one, bit for bit. The one file that ThreadSanitizer sees of attention.

#include <cstddef>
#include <random>
#include <vector>

#include "attention_data.hpp"

#include "cascada/cascada.hpp"
#include "catch.hpp"
#include "sample.hpp"
#include "saved_bytes.hpp"

using namespace cascada;
using namespace tests;

namespace {

const shape shape_on_threads = {230, 6, 2, 20, 12};

std::vector<mode> modes_on_threads() {
  std::vector<mode> all = modes;
  all.push_back({"sliding window", {.keys = key_set::all, .sliding_window = 70}});
  return all;
}

mode any_mode_on_threads(std::size_t line = __builtin_LINE()) {
  const auto all = modes_on_threads();
  return GENERATE_COPY(from_range(sample(all, line)));
}

}  // namespace

TEST_CASE("threads: every mode", "[attention][threads]") {
  const mode m = any_mode_on_threads();
  CAPTURE(m);
  const problem<float>         p({300, 6, 2, 16, 12}, 29);
  const std::vector<selection> s        = {random_selection(300, 0.3, 7)};
  const auto                   expected = attend_and_report<float>(m.options, p, p.kv(), s);
  for (const index_t threads : {1, 2, 5}) {
    thread_pool<compiled_isa> pool(threads);
    const auto                result = attend_and_report<float>(m.options, p, p.kv(), s, {}, test_backend{{&pool}});
    CHECK(same_bits(expected.out, result.out));
    CHECK(expected.report == result.report);
  }
}

TEST_CASE("threads: a dense batch that decodes is its sequences", "[attention][threads]") {
  // Lengths that are no order of any kind, equal ones, and one that asks nothing; with the first two, heads are shared
  // out.
  const std::vector<index_t> lengths = {20, 530, 1, 90, 90}, asking = {1, 2, 1, 0, 1};
  const std::size_t          count  = GENERATE(as<std::size_t>{}, 2, 5);
  const bool                 causal = GENERATE(true, false);
  CAPTURE(count, causal);
  const shape             s = {731, 9, 3, 32, 32};
  const problem<float>    p(s, 3);
  const attention_options options = {.keys = key_set::all, .causal = causal};
  std::vector<index_t>    keys = {0}, queries = {0};
  std::vector<float>      expected, expected_sums;
  attention_report        reads = {};
  for (std::size_t i = 0; i < count; ++i) {
    keys.push_back(keys.back() + lengths[i]), queries.push_back(queries.back() + asking[i]);
    if (asking[i] == 0) continue;
    head_rows<float>               alone(asking[i], s.heads, s.value_dim);
    sum_rows                       sums{asking[i], s.heads};
    attention<float, test_backend> attend(options);
    REQUIRE(
        attend(rows_of(p.q.view(), queries[i], queries[i + 1]),
               strided_kv<float>{rows_of(p.k.view(), keys[i], keys[i + 1]), rows_of(p.v.view(), keys[i], keys[i + 1])},
               {}, alone.view(), {.log_sum_exp = sums.view()}) == status::ok);
    for (const float x : alone.packed<float>()) expected.push_back(x);
    for (const float x : sums.packed()) expected_sums.push_back(x);
    add(reads, attend.report());
  }
  for (const index_t threads : {1, 2, 5}) {
    CAPTURE(threads);
    thread_pool<compiled_isa>      pool(threads);
    head_rows<float>               out(queries.back(), s.heads, s.value_dim);
    sum_rows                       sums{queries.back(), s.heads};
    attention<float, test_backend> attend(options, {{&pool}});
    REQUIRE(attend(rows_of(p.q.view(), 0, queries.back()), p.kv(), {}, out.view(),
                   {.query_offsets = queries, .key_offsets = keys, .log_sum_exp = sums.view()}) == status::ok);
    CHECK(same_bits(out.packed<float>(), expected));
    CHECK(same_bits(sums.packed(), expected_sums));
    CHECK(attend.report() == reads);
  }
}

TEST_CASE("threads: a sequence cut into calls", "[attention][threads]") {
  const auto all = modes_that_grow();
  const mode m   = GENERATE_COPY(from_range(sample(all)));
  CAPTURE(m);
  const problem<float>         p(shape_on_threads, 3);
  const std::vector<selection> s        = {random_selection(p.size.tokens, 0.15, 4)};
  const auto                   expected = attend<float>(m.options, p, s);
  thread_pool<compiled_isa>    pool(3);
  for (const unsigned longest : {1u, 7u, 90u, 230u}) {
    attention<float, test_backend>       attend(m.options, {{&pool}});
    attention_state<float, test_backend> state;
    head_rows<float>                     out(p.size.tokens, p.size.heads, p.size.value_dim);
    for (const index_t end : random_ends(p.size.tokens, std::mt19937(7), longest))
      REQUIRE(extend_to(end, attend, state, p.q, p.kv(), views(s), out) == status::ok);
    CHECK(same_bits(out.packed<float>(), expected));
  }
}

TEST_CASE("threads: from bytes, with keys and values of another type", "[attention][threads]") {
  const attention_options options = {.window = 16, .chunk = 32, .leaf_threshold = 0.3f, .open_above = 0.02f, .tile = 8};
  thread_pool<compiled_isa>            pool(3);
  const problem<float>                 p(shape_on_threads, 3);
  const problem<bfloat16>              narrow(shape_on_threads, 7);
  const std::vector<selection>         s        = {random_selection(p.size.tokens, 0.15, 4)};
  const auto                           expected = attend<float>(options, p, narrow.kv(), s);
  attention<float, test_backend>       attend(options, {{&pool}});
  attention_state<float, test_backend> state;
  head_rows<float>                     out(p.size.tokens, p.size.heads, p.size.value_dim);
  for (const index_t end : random_ends(p.size.tokens, std::mt19937(2), 60)) {
    const saved_bytes bytes = bytes_of(state);
    state                   = {};
    REQUIRE(attend.load(state, narrow.kv(), bytes) == status::ok);
    REQUIRE(extend_to(end, attend, state, p.q, narrow.kv(), views(s), out) == status::ok);
  }
  CHECK(same_bits(out.packed<float>(), expected));
}
