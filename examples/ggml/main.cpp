// Cascada's attention and ggml's own beside attention in double, for every layout of a cache: how exact, how fast.

#include <charconv>
#include <chrono>
#include <cstring>
#include <string_view>

#include "checks.hpp"

namespace ggml_cascada::example {
namespace {

struct wishes {
  int  length  = 4096;
  int  queries = 512;
  int  threads = 0;
  int  rounds  = 9;
  bool check   = false;
};

[[noreturn]] void fail(const char* what, std::string_view of) {
  std::fprintf(stderr, "cascada-ggml: %s %.*s\n", what, static_cast<int>(of.size()), of.data());
  std::exit(2);
}

wishes parse(int count, char** words) {
  wishes wanted;
  for (int i = 1; i < count; ++i) {
    const std::string_view word   = words[i];
    int* const             number = word == "--length"    ? &wanted.length
                                    : word == "--queries" ? &wanted.queries
                                    : word == "--threads" ? &wanted.threads
                                    : word == "--rounds"  ? &wanted.rounds
                                                          : nullptr;
    if (word == "--check") {
      wanted.check = true;
      continue;
    }
    if (!number) fail("unknown option", word);
    if (++i == count) fail("no value for option", word);
    const char* const end = words[i] + std::strlen(words[i]);
    if (const auto read = std::from_chars(words[i], end, *number);
        read.ec != std::errc{} || read.ptr != end || *number < 1)
      fail("no number from 1 on:", words[i]);
  }
  if (wanted.threads == 0) wanted.threads = static_cast<int>(cascada::detail::usable_cpus<cascada::compiled_isa>());
  if (wanted.queries > wanted.length) fail("--queries is more than --length", "");
  return wanted;
}

/// What ggml does without flash attention, which does not take transposed values.
ggml_tensor* by_products(ggml_context* context, ggml_tensor* q, const cache& from, ggml_tensor* mask) {
  ggml_tensor* const scores = ggml_mul_mat(context, from.k, q);
  ggml_mul_mat_set_prec(scores, GGML_PREC_F32);
  ggml_tensor* const weights = ggml_soft_max_ext(context, scores, mask, 1 / std::sqrt(float{dim}), 0);
  ggml_tensor* const sums    = ggml_mul_mat(context, ggml_transpose(context, from.v), weights);
  return ggml_cont(context, ggml_permute(context, sums, 0, 2, 1, 3));
}

double seconds_of(graph& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double median(std::vector<double> numbers) {
  std::nth_element(numbers.begin(), numbers.begin() + static_cast<std::ptrdiff_t>(numbers.size() / 2), numbers.end());
  return numbers[numbers.size() / 2];
}

/// A line of the table, of so many layers that the cache comes from memory where one query reads it.
bool measure(const wishes& wanted, const threads& on, const layout& how, index_t queries) {
  const auto keys         = random_rows(wanted.length, kv_heads * dim, 1),
             values       = random_rows(wanted.length, kv_heads * dim, 2);
  const auto        q     = random_rows(queries, heads * dim, 3);
  const std::size_t bytes = 2 * keys.size() * sizeof(ggml_fp16_t);
  const std::size_t layers =
      queries == 1 && wanted.rounds > 1 ? std::clamp<std::size_t>((128u << 20) / bytes, 2, 64) : 1;
  const std::size_t  cells = at(wanted.length) + 512;
  const arena        context(layers * (bytes + 512 * kv_heads * dim * 4 + cells * 4) + cells * (at(queries) + 64) * 8 +
                             layers * at(queries) * heads * (cells * 8 + dim * 32));
  ggml_tensor* const rows = make_queries(context, q);
  std::vector<cache> caches;
  for (std::size_t l = 0; l < layers; ++l) caches.push_back(make_cache(context, how, keys, values));
  ggml_tensor* const mask = make_mask(context, caches[0], queries);

  shared_attention             shared;
  std::vector<layer_attention> own(layers, layer_attention(shared));
  std::vector<ggml_tensor*>    ours(layers), theirs(layers);
  for (std::size_t l = 0; l < layers; ++l) {
    const cache& from = caches[l];
    if (const status answer = own[l].build(context, {.q = rows, .k = from.k, .v = from.v, .mask = mask}, ours[l]);
        answer != status::ok)
      return std::fprintf(stderr, "cascada-ggml: %s: %s\n", how.name, message(answer)), false;
    theirs[l] = how.transposed
                    ? by_products(context, rows, from, mask)
                    : ggml_flash_attn_ext(context, rows, from.k, from.v, mask, 1 / std::sqrt(float{dim}), 0, 0);
  }
  graph               our_graph(context, on, ours), their_graph(context, on, theirs);
  std::vector<double> our_seconds, their_seconds;
  for (int round = 0; round < wanted.rounds; ++round) {
    our_seconds.push_back(seconds_of(our_graph));
    their_seconds.push_back(seconds_of(their_graph));
  }
  if (const status answer = shared.answer(); answer != status::ok)
    return std::fprintf(stderr, "cascada-ggml: %s: %s\n", how.name, message(answer)), false;

  const exact_rows exact(q, caches.back());
  const double     our_error   = exact.error_of(static_cast<const float*>(ours.back()->data));
  const double     their_error = exact.error_of(static_cast<const float*>(theirs.back()->data));
  std::printf("%-44s %7d  %9.1e  %9.1e  %9.3f  %9.2f  %s\n", how.name, queries, our_error, their_error,
              1e3 * median(our_seconds) / static_cast<double>(layers), median(their_seconds) / median(our_seconds),
              how.transposed ? "products" : "flash attention");
  const bool good = our_error <= tolerance && their_error <= tolerance_of_ggml(how, wanted.length);
  if (!good) std::fprintf(stderr, "cascada-ggml: %s: an error is larger than it may be\n", how.name);
  return good;
}

int run(const wishes& wanted) {
  const threads on(wanted.threads);
  if (wanted.check) return check_all(on) ? 0 : 1;
  std::printf(
      "Dense attention of %d tokens, %d query and %d KV heads of %d, threads: %d. Errors are of the largest result,\n"
      "against attention in double; times are medians of %d rounds, both in turn.\n\n",
      wanted.length, heads, kv_heads, dim, wanted.threads, wanted.rounds);
  std::printf("%-44s %7s  %9s  %9s  %9s  %9s  %s\n", "cache", "queries", "error", "ggml's", "ms", "ggml / op",
              "ggml's way");
  bool good = true;
  for (const int queries : {1, wanted.queries})
    for (const layout& how : layouts) good = measure(wanted, on, how, queries) && good;
  return good ? 0 : 1;
}

}  // namespace
}  // namespace ggml_cascada::example

int main(int count, char** words) { return ggml_cascada::example::run(ggml_cascada::example::parse(count, words)); }
