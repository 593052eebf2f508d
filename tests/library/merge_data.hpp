#pragma once
// What merge() has to do on every backend: rows of which one side saw nothing, NaN, and what is refused.

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "bits.hpp"
#include "cascada/status.hpp"
#include "cascada/views.hpp"
#include "catch.hpp"
#include "not_finite.hpp"

namespace tests {

using namespace cascada;

/// Elements and log-sum-exps of both sides, and what comes of them.
struct merge_case {
  float first, first_lse, second, second_lse, out, lse;
};

inline constexpr merge_case merge_cases[] = {
    {1.5f, 3, 0, -infinity, 1.5f, 3},
    {0, -infinity, -2.25f, -70, -2.25f, -70},
    {not_a_number, -infinity, -2.25f, 2, -2.25f, 2},  // rows that saw nothing are not looked at
    {0, -infinity, 0, -infinity, 0, -infinity},
    {1.5f, 300, -2.25f, -300, 1.5f, 300},
    {1.5f, -3e38f, -2.25f, 3e38f, -2.25f, 3e38f},
    {not_a_number, 300, -2.25f, -300, not_a_number, 300},
    {1.5f, 300, not_a_number, -300, not_a_number, 300},  // its weight is 0
    {1.5f, not_a_number, -2.25f, 1, not_a_number, not_a_number},
    {1.5f, 1, -2.25f, not_a_number, not_a_number, not_a_number},
    {1.5f, not_a_number, 0, -infinity, 1.5f, not_a_number},
    {1.5f, 2, infinity, 2, infinity, 2.6931472f},
};

/// merges(first, first_lse, second, second_lse, out, log_sum_exp) for one row of each case, of so many elements.
template <class Merge>
void check_merge_cases(index_t dim, const Merge& merges) {
  for (const merge_case& one : merge_cases) {
    CAPTURE(one.first, one.first_lse, one.second, one.second_lse, dim);
    const std::vector<float> first(static_cast<std::size_t>(dim), one.first), second(first.size(), one.second);
    std::vector<float>       out(first.size(), 42.0f);
    float                    lse = 42;
    merges(first, one.first_lse, second, one.second_lse, out, lse);
    CHECK(alike(lse, one.lse));
    for (const float x : out) REQUIRE(alike(x, one.out));
  }
}

/// Arguments that are right until one of them is spoilt: 3 tokens, 2 heads of 4.
struct merge_arguments {
  std::vector<float> rows = std::vector<float>(3 * 2 * 4, 1.0f), more = rows, to = std::vector<float>(3 * 2 * 4, 42.0f);
  std::vector<float> lse = std::vector<float>(3 * 2, 0.0f), other = lse, merged = std::vector<float>(3 * 2, 42.0f);
  heads_view<const float>  first     = packed_heads<const float>(rows.data(), 3, 2, 4);
  heads_view<const float>  second    = packed_heads<const float>(more.data(), 3, 2, 4);
  heads_view<float>        out       = packed_heads(to.data(), 3, 2, 4);
  matrix_view<const float> first_lse = {lse.data(), 3, 2, 2}, second_lse = {other.data(), 3, 2, 2};
  matrix_view<float>       log_sum_exp = {merged.data(), 3, 2, 2};

  merge_arguments()                       = default;
  merge_arguments(const merge_arguments&) = delete;
  bool untouched() const {
    return to == std::vector<float>(to.size(), 42.0f) && merged == std::vector<float>(6, 42.0f);
  }
};

struct merge_refusal {
  const char* sentence;
  void (*spoil)(merge_arguments&);
};

inline constexpr merge_refusal merge_refusals[] = {
    {"first.tokens is negative", [](merge_arguments& a) { a.first.tokens = -1; }},
    {"first.heads is less than 1", [](merge_arguments& a) { a.first.heads = 0; }},
    {"first.dim is less than 1", [](merge_arguments& a) { a.first.dim = 0; }},
    {"first.data is null", [](merge_arguments& a) { a.first.data = nullptr; }},
    {"first.token_stride is less than first.dim", [](merge_arguments& a) { a.first.token_stride = 3; }},
    {"first.head_stride is less than first.dim", [](merge_arguments& a) { a.first.head_stride = 3; }},
    {"first.tokens times first.token_stride plus first.heads times first.head_stride overflows",
     [](merge_arguments& a) { a.first.token_stride = std::numeric_limits<std::int64_t>::max() / 2; }},
    {"second.tokens is negative", [](merge_arguments& a) { a.second.tokens = -1; }},
    {"second.heads is less than 1", [](merge_arguments& a) { a.second.heads = 0; }},
    {"second.dim is less than 1", [](merge_arguments& a) { a.second.dim = 0; }},
    {"second.data is null", [](merge_arguments& a) { a.second.data = nullptr; }},
    {"second.token_stride is less than second.dim", [](merge_arguments& a) { a.second.token_stride = 3; }},
    {"second.head_stride is less than second.dim", [](merge_arguments& a) { a.second.head_stride = 3; }},
    {"second.tokens times second.token_stride plus second.heads times second.head_stride overflows",
     [](merge_arguments& a) { a.second.token_stride = std::numeric_limits<std::int64_t>::max() / 2; }},
    {"out.data is null", [](merge_arguments& a) { a.out.data = nullptr; }},
    {"out.head_stride is less than out.dim", [](merge_arguments& a) { a.out.head_stride = 0; }},
    {"second.tokens differs from first.tokens", [](merge_arguments& a) { a.second.tokens = 2; }},
    {"second.heads differs from first.heads", [](merge_arguments& a) { a.second.heads = 1; }},
    {"second.dim differs from first.dim", [](merge_arguments& a) { a.second.dim = 3; }},
    {"out.tokens differs from first.tokens", [](merge_arguments& a) { a.out.tokens = 2; }},
    {"out.heads differs from first.heads", [](merge_arguments& a) { a.out.heads = 1; }},
    {"out.dim differs from first.dim", [](merge_arguments& a) { a.out.dim = 3; }},
    {"first_lse.rows differs from first.tokens", [](merge_arguments& a) { a.first_lse.rows = 2; }},
    {"first_lse.cols differs from first.heads", [](merge_arguments& a) { a.first_lse.cols = 3; }},
    {"first_lse.data is null", [](merge_arguments& a) { a.first_lse.data = nullptr; }},
    {"first_lse.stride is less than first_lse.cols", [](merge_arguments& a) { a.first_lse.stride = 1; }},
    {"first_lse.rows times first_lse.stride overflows",
     [](merge_arguments& a) { a.first_lse.stride = std::numeric_limits<std::int64_t>::max() / 2; }},
    {"second_lse.rows differs from first.tokens", [](merge_arguments& a) { a.second_lse.rows = 2; }},
    {"second_lse.cols differs from first.heads", [](merge_arguments& a) { a.second_lse.cols = 3; }},
    {"second_lse.data is null", [](merge_arguments& a) { a.second_lse.data = nullptr; }},
    {"second_lse.stride is less than second_lse.cols", [](merge_arguments& a) { a.second_lse.stride = 1; }},
    {"second_lse.rows times second_lse.stride overflows",
     [](merge_arguments& a) { a.second_lse.stride = std::numeric_limits<std::int64_t>::max() / 2; }},
    {"log_sum_exp.rows differs from first.tokens", [](merge_arguments& a) { a.log_sum_exp.rows = 2; }},
    {"log_sum_exp.cols differs from first.heads", [](merge_arguments& a) { a.log_sum_exp.cols = 3; }},
    {"log_sum_exp.data is null", [](merge_arguments& a) { a.log_sum_exp.data = nullptr; }},
    {"log_sum_exp.stride is less than log_sum_exp.cols", [](merge_arguments& a) { a.log_sum_exp.stride = 1; }},
    {"log_sum_exp.rows times log_sum_exp.stride overflows",
     [](merge_arguments& a) { a.log_sum_exp.stride = std::numeric_limits<std::int64_t>::max() / 2; }},
};

/// merges(arguments): each refusal has a sentence of its own, and nothing is written.
template <class Merge>
void check_merge_refusals(const Merge& merges) {
  for (const auto& [sentence, spoil] : merge_refusals) {
    CAPTURE(sentence);
    merge_arguments one;
    spoil(one);
    const status answer = merges(one);
    CHECK(answer != status::ok);
    CHECK(std::string(message(answer)) == sentence);
    CHECK(one.untouched());
  }
}

}  // namespace tests
