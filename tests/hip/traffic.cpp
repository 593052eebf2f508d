// Bytes that the kernels move, by the addresses that they use on the simulator, against the least they could move.
//
// Prints the table of bench/results/gfx942.md; fails where a kernel moves more than 1.2 times the least bytes.
// The least: each input once a launch, each output once, counted here from the shapes and, where data decide, from the
// selection itself.

#include <cstdio>
#include <map>
#include <set>
#include <string>

#include "cascada/hip.hpp"
#include "hip/simulator.hpp"
#include "hip/traffic_counter.hpp"
#include "library/attention_data.hpp"
#include "library/tokens.hpp"

using namespace cascada;
using scalar = bfloat16;

namespace {

constexpr double  goal = 1.2, goal_of_decoding = 1.1;
constexpr index_t T = 512, heads = 4, kv_heads = 2, dim = 64;
constexpr index_t selected = 1024, d = 768;  // four stretches: two of them meet earlier representatives

// What is told apart; other kernels are "others".
template <class Kernel>
constexpr const char* name_of = "others";
template <>
constexpr const char* name_of<hip::select::selection_begin<scalar>> = "selection_begin";
template <>
constexpr const char* name_of<hip::select::selection_graph<scalar>> = "selection_graph";
template <>
constexpr const char* name_of<hip::select::selection_advance<scalar, assignment::lowest_index>> = "selection_advance";
template <>
constexpr const char* name_of<hip::select::selection_cross_gram<scalar>> = "selection_cross_gram";
template <>
constexpr const char* name_of<hip::attention::leaf_means<scalar>> = "leaf_means";
template <>
constexpr const char* name_of<hip::attention::attend<scalar, dim>> = "attend";
template <>
constexpr const char* name_of<hip::attention::ask_leaves<scalar, dim>> = "ask_leaves";
template <>
constexpr const char* name_of<hip::attention::attend<scalar, dim, hip::attention::closed_leaves_of_bands>> =
    "attend, opened";
template <>
constexpr const char* name_of<hip::attention::merge_segments<scalar, dim>> = "merge_segments";

/// A kernel that says which block runs.
template <class Kernel>
struct observed {
  using shared                     = typename Kernel::shared;
  static constexpr index_t threads = Kernel::threads;

  Kernel kernel;

  index_t grid() const { return kernel.grid(); }
  template <class Gpu>
  void operator()(Gpu& gpu) const {
    traffic::enter_block(gpu.block());
    kernel(gpu);
  }
};

std::map<std::string, traffic::bytes_moved> by_kernel;  // since the step began

struct counting_stream : simulator::stream {
  template <class Kernel>
  [[nodiscard]] status launch(const Kernel& kernel) const {
    const traffic::bytes_moved before = traffic::moved();
    traffic::begin_launch();
    const status answer = simulator::stream::launch(observed<Kernel>{kernel});
    const auto   after  = traffic::moved();
    auto&        sum    = by_kernel[name_of<Kernel>];
    sum.launch += after.launch - before.launch, sum.block += after.block - before.block;
    return answer;
  }
  void* allocate(std::size_t bytes) const {
    void* const memory = simulator::stream::allocate(bytes);
    traffic::track(memory, bytes);
    return memory;
  }
  void release(void* memory) const {
    traffic::untrack(memory);
    simulator::stream::release(memory);
  }
};

}  // namespace

/// Segments have blocks of their own in decoding alone: prompts stand for longer ones, whose segments have none. These
/// have one, of 1024 keys: what is kept of several is not counted.
template <>
inline constexpr cascada::index_t cascada::hip::attention::few_blocks<counting_stream> = 2;
template <>
inline constexpr cascada::index_t cascada::hip::attention::segment_tiles<counting_stream> = 32;

namespace {

/// Rows on a line of the chip, tracked.
struct tracked_rows {
  struct alignas(128) one_line {
    scalar element[64];
  };
  std::vector<one_line> storage;

  explicit tracked_rows(std::int64_t count) : storage(static_cast<std::size_t>(count) / 64) {
    traffic::track(storage.data(), storage.size() * sizeof(one_line));
  }
  scalar* data() { return storage.data()->element; }
};

bool good = true;

/// A goal of 0: none.
void print(const char* what, std::int64_t least, std::int64_t moved, std::int64_t into_blocks, double most = goal) {
  const double ratio = static_cast<double>(moved) / static_cast<double>(least);
  std::printf("| %s | %.0f | %.2f | %.2f |\n", what, static_cast<double>(least) / 1024, ratio,
              static_cast<double>(into_blocks) / static_cast<double>(least));
  if (most > 0 && !(ratio <= most && ratio >= 0.99))
    std::fprintf(stderr, "%s moves %.2f times the least bytes\n", what, ratio), good = false;
}

void print_kernel(const char* what, const char* kernel, std::int64_t least) {
  print(what, least, by_kernel[kernel].launch, by_kernel[kernel].block);
}

void begin_step() {
  by_kernel.clear();
  traffic::begin_step();
}

template <class Answer>
void require(Answer answer, const char* what) {
  if (answer == status::ok) return;
  std::fprintf(stderr, "%s: %s\n", what, message(answer));
  std::exit(1);
}

void fill(tracked_rows& to, const tests::token_rows<scalar>& from) {
  for (index_t i = 0; i < from.view().rows; ++i)
    std::copy_n(from.view().row(i), from.view().cols, to.data() + std::int64_t{i} * from.view().cols);
}

constexpr index_t stretch = hip::select::stretch_tokens, stretches = selected / stretch;

/// Rows that the launches of selection_advance cannot do without: representatives of the stretch before, and tokens of
/// later ones that nothing has covered so far.
std::int64_t rows_to_advance(const std::vector<index_t>& rep) {
  std::int64_t sum = 0;
  for (index_t s = 1; s < stretches; ++s) {
    std::int64_t members = 0, searching = 0;
    for (index_t i = stretch * (s - 1); i < stretch * s; ++i) members += rep[static_cast<std::size_t>(i)] == i;
    for (index_t i = stretch * (s + 1); i < selected; ++i)
      searching += rep[static_cast<std::size_t>(i)] / stretch >= s - 1;
    if (members > 0 && searching > 0) sum += members + searching;
  }
  return sum;
}

/// Bytes of the graph: verdicts on all neighbours up to a token's block of 64.
constexpr std::int64_t graph_bytes() {
  std::int64_t sum = 0;
  for (index_t i = 0; i < selected; i += 64) sum += 64 * ((i < stretch ? 0 : stretch) + i % stretch + 64) / 8;
  return sum;
}

void count_selection(validation mode) {
  tracked_rows                     x(std::int64_t{selected} * d);
  cascade<scalar, counting_stream> walk({.threshold = 0.8f, .validate = mode});
  hip::downloaded_selection        kept;
  std::int64_t                     former = 0;
  for (unsigned layer = 0; layer < 2; ++layer) {
    fill(x, make_tokens<scalar>(tests::kind::clustered, selected, d, 1, layer));
    begin_step();
    require(walk.step({x.data(), selected, d, d}), "cascade");
    const auto all = traffic::moved();
    require(walk.download(kept), "download");
    const std::int64_t r = kept.report.representatives, of_x = std::int64_t{selected} * d * 2;
    const std::int64_t state = selected * std::int64_t{sizeof(hip::select::token_progress)}, norms = 4 * selected;
    if (mode == validation::cross_gram) {
      if (layer > 0)
        print_kernel("`selection_cross_gram`", "selection_cross_gram",
                     of_x + norms + 4 * selected + selected * former / 8);
      former = r;
      continue;
    }
    if (layer == 0) {
      print_kernel("`selection_begin`", "selection_begin", of_x + norms + state + 4 * selected);
      print_kernel("`selection_graph`", "selection_graph", of_x + norms + graph_bytes());
      // Each launch also reads the state of a stretch and from the second on reads and writes that of all later tokens;
      // rep is written once and read once, for the next stretch.
      const std::int64_t others   = (stretches - 1) * (stretches - 2) / 2,
                         progress = state + 2 * state / stretches * others;
      print_kernel("`selection_advance`, all launches of a full selection", "selection_advance",
                   rows_to_advance(kept.rep) * (2 * d + 4) + progress + graph_bytes() + selected * (4 + 4 + 8));
    }
    print(layer == 0 ? "full selection, x and the set once" : "cascade step, x and both sets once",
          of_x + (layer == 0 ? 1 : 2) * (4 * selected + 8 * r), all.step, all.block);
  }
  traffic::forget();
}

/// Rows of the tables that the far field of the chunk from `begin` on has: of each leaf, the last member before the
/// edge.
std::set<index_t> far_field(const std::vector<index_t>& rep, const attention_options& options, index_t begin) {
  std::map<index_t, index_t>                     size;  // of each cluster so far
  std::map<std::pair<index_t, index_t>, index_t> last;
  for (index_t i = options.sink_tokens; i < begin - options.window; ++i) {
    const index_t cluster                           = rep[static_cast<std::size_t>(i)];
    last[{cluster, size[cluster]++ / options.leaf}] = i;
  }
  std::set<index_t> rows;
  for (const auto& [leaf, member] : last) rows.insert(member);
  return rows;
}

/// Those that some chunk's has.
std::int64_t far_rows(const std::vector<index_t>& rep, const attention_options& options) {
  std::set<index_t> rows;
  for (index_t begin = 0; begin < T; begin += options.chunk) rows.merge(far_field(rep, options, begin));
  return static_cast<std::int64_t>(rows.size());
}

/// Bytes that tell for which rows of queries leaves are open: a bit for each row and leaf of its chunk.
std::int64_t bits_of_rows(const std::vector<index_t>& rep, const attention_options& options) {
  std::size_t bits = 0;
  for (index_t begin = 0; begin < T; begin += options.chunk)
    bits += far_field(rep, options, begin).size() * static_cast<std::size_t>(options.chunk * heads);
  return static_cast<std::int64_t>(bits / 8);
}

void count_attention() {
  const auto       chosen    = tests::random_selection(T, 0.2, 1);
  tests::selection on_device = chosen;
  auto             count     = static_cast<index_t>(chosen.indices.size());
  tracked_rows     q(std::int64_t{T} * heads * dim), k(std::int64_t{T} * kv_heads * dim),
      v(std::int64_t{T} * kv_heads * dim), out(std::int64_t{T} * heads * dim);
  const hip::selection_layer layer = {on_device.indices.data(), on_device.rep.data(), on_device.counts.data(), &count,
                                      T};
  const heads_view<const scalar> of_k = packed_heads(static_cast<const scalar*>(k.data()), T, kv_heads, dim);
  const heads_view<const scalar> of_v = packed_heads(static_cast<const scalar*>(v.data()), T, kv_heads, dim);
  const std::int64_t             of_q = std::int64_t{T} * heads * dim * 2, of_kv = std::int64_t{T} * kv_heads * dim * 2;
  for (tracked_rows* rows : {&q, &k, &v}) {
    std::mt19937                    random(2);
    std::normal_distribution<float> normal;
    for (auto& l : rows->storage)
      for (scalar& element : l.element) element = from_float<scalar>(normal(random));
  }
  const auto by_order = [](opening open) {
    return attention_options{.window = 64, .chunk = 128, .leaves = leaf_formation::by_order, .open = open};
  };
  for (const attention_options& options :
       {attention_options{.keys = key_set::all}, by_order(opening::none), by_order(opening::by_mass)}) {
    attention<scalar, counting_stream> attend(options);
    begin_step();
    require(attend(packed_heads(static_cast<const scalar*>(q.data()), T, heads, dim), strided_kv<scalar>{of_k, of_v},
                   layer, packed_heads(out.data(), T, heads, dim)),
            "attention");
    const auto all = traffic::moved();
    if (options.keys == key_set::all) {
      print_kernel("`attend`, dense causal", "attend", 2 * of_q + 2 * of_kv);
      continue;
    }
    const std::int64_t rows = far_rows(chosen.rep, options) * kv_heads, variances = hip::attention::variance_parts * 2;
    const std::int64_t summaries = rows * (2 * dim * 2 + variances);
    if (options.open == opening::by_mass) {
      const std::int64_t bits = bits_of_rows(chosen.rep, options);
      // The first chunk has no leaves and does not ask; of its keys, the next one has those from its edge on, and
      // sinks.
      const std::int64_t asking = T - options.chunk, keys = asking + options.window + options.sink_tokens;
      print_kernel("`ask_leaves`", "ask_leaves",
                   (of_q * asking + of_kv * keys) / T + summaries - rows * dim * 2 + bits);
      print_kernel("`attend`, near + far, opened", "attend, opened", 2 * of_q + 2 * of_kv + summaries + bits);
      print("near + far, opened, with its tables, q, k, v and outputs once", 2 * of_q + 2 * of_kv, all.step, all.block,
            0);
      continue;
    }
    print_kernel("`leaf_means`, keys and values", "leaf_means", 4 * of_kv + T * kv_heads * variances + 2 * 4 * T);
    print_kernel("`attend`, near + far", "attend", 2 * of_q + 2 * of_kv + summaries);
    print("near + far with its tables, q, k, v and outputs once", 2 * of_q + 2 * of_kv, all.step, all.block, 0);
  }
  traffic::forget();
}

/// The last token of many.
void count_decoding() {
  constexpr index_t          tokens = 4096;
  const std::int64_t         of_kv = std::int64_t{tokens} * kv_heads * dim * 2, of_q = heads * dim * 2;
  tracked_rows               q(heads * dim), k(of_kv / 2), v(of_kv / 2), out(heads * dim);
  const auto                 chosen = tests::random_selection(tokens, 0.2, 1);
  auto                       count  = static_cast<index_t>(chosen.indices.size());
  const hip::selection_layer layer  = {chosen.indices.data(), chosen.rep.data(), chosen.counts.data(), &count, tokens};
  const heads_view<const scalar> keys = packed_heads(static_cast<const scalar*>(k.data()), tokens, kv_heads, dim);
  const strided_kv<scalar> in_rows = {keys, packed_heads(static_cast<const scalar*>(v.data()), tokens, kv_heads, dim)};
  const transposed_value_kv<scalar>  transposed = {keys, v.data(), dim, std::int64_t{dim} * tokens, tokens};
  attention<scalar, counting_stream> dense({.keys = key_set::all});
  for (tracked_rows* rows : {&q, &k, &v})
    for (auto& l : rows->storage) std::fill_n(l.element, 64, from_float<scalar>(0.5f));
  const auto count_step = [&](const auto& kv, const char* what, double most) {
    begin_step();
    require(dense(packed_heads(static_cast<const scalar*>(q.data()), 1, heads, dim), kv, layer,
                  packed_heads(out.data(), 1, heads, dim)),
            "decoding");
    const auto all = traffic::moved();
    print(what, 2 * of_kv + 2 * of_q, all.step, all.block, most);
  };
  count_step(in_rows, "decoding, dense: one query of 4096 tokens", goal_of_decoding);
  count_step(transposed, "the same over transposed values", 0);
  traffic::forget();
}

}  // namespace

int main() {
  std::puts(
      "| bfloat16; selection: T 1024, d 768; attention: T 512, 4 heads of 64, 2 for keys | least, KiB | from memory / "
      "least "
      "| into blocks / least |");
  std::puts("|---|---|---|---|");
  count_selection(validation::exact);
  count_selection(validation::cross_gram);
  count_attention();
  count_decoding();
  return good ? 0 : 1;
}
