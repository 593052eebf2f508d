// Opening by mass on the simulated gfx942: which leaves open, and what comes out, against the reference and the CPU.

#include <map>
#include <random>
#include <set>

#include "hip/plain_attention.hpp"
#include "sample.hpp"

using namespace cascada;
using namespace tests;

namespace {

/// A stream whose sequences are one slice, so that all of their bands are there in the end.
struct whole_stream : simulator::stream {};

/// Near + far with leaves by keys that open by mass.
attention_options with_leaves_by_keys(attention_options with) {
  with.open = opening::by_mass;
  return with;
}

constexpr index_t unlimited = std::numeric_limits<index_t>::max();

const std::vector<mode> opened_modes = {
    {"small tiles", opened({.window = 8, .chunk = 16, .leaf = 4, .open_above = 0.05f, .tile = 4})},
    {"tiles of one", opened({.window = 0, .chunk = 12, .leaf = 3, .open_above = 0.05f, .tile = 1})},
    {"tiles of a chunk, no sinks",
     opened({.window = 8, .chunk = 16, .sink_tokens = 0, .leaf = 5, .moments = 1, .open_above = 0.1f})},
    {"tiles that no block begins with, more sinks",
     opened({.window = 5, .chunk = 35, .sink_tokens = 6, .leaf = 6, .moments = 2, .open_above = 0.05f, .tile = 5})},
    {"tiles of more rows than a block",
     opened({.window = 8, .chunk = 48, .leaf = 4, .moments = std::nullopt, .open_above = 0.1f, .tile = 48})},
    {"one tile to a sequence", opened({.chunk = unlimited, .open_above = 0.05f, .tile = unlimited})},
    {"tiny open_above", opened({.window = 8, .chunk = 16, .leaf = 4, .open_above = 1e-30f, .tile = 4})},
    {"large open_above", opened({.window = 0, .chunk = 16, .leaf = 16, .open_above = 0.6f, .tile = 8})},
    {"near keys that all see", opened({.window = 40, .chunk = 32, .leaf = 2, .open_above = 0.03f, .tile = 8})},
    {"leaves of one", opened({.window = 8, .chunk = 16, .leaf = 1, .open_above = 0.01f, .tile = 8})},
    {"softcap", opened({.window = 8, .chunk = 16, .leaf = 4, .open_above = 0.04f, .tile = 4, .softcap = 1.5f})},
    {"by keys", with_leaves_by_keys(
                    {.window = 8, .chunk = 16, .leaf_threshold = 0.1f, .leaf = 4, .open_above = 0.05f, .tile = 4})},
    {"by keys, more sinks, larger tiles",
     with_leaves_by_keys(
         {.window = 4, .chunk = 32, .sink_tokens = 3, .leaf_threshold = 0.05f, .open_above = 0.1f, .tile = 32})},
};

/// What a call opened, read back from its workspace.
template <class Scalar>
class opened_run {
 public:
  opened_run(const attention_options& options, const problem<Scalar>& p, const selection& chosen, unsigned seed)
      : options_(options),
        size_(p.size),
        workspace_(options, {size_.tokens, size_.heads, size_.kv_heads, size_.key_dim}, stream(seed)) {
    device_heads<Scalar>   q(p.q.view()), k(p.k.view()), v(p.v.view());
    device_heads<float>    out(size_.tokens, size_.heads, size_.value_dim);
    const device_selection kept(chosen);
    const whole_stream     where = stream(seed);
    REQUIRE(size_.key_dim == 64);
    const hip::selection_layer layer = kept.layer();
    REQUIRE(hip::attention::attend_sequence<Scalar, 64, whole_stream>(
                options, q.view(), {k.view(), v.view()}, {&layer, 1},
                hip::attention::result_rows<Scalar>::of(out.view()), arrays(), where,
                {p.sink_logits.empty() ? nullptr : p.sink_logits.data()}) == status::ok);
    workspace_.read();
    band_ = std::min(hip::attention::band_of(options, group()), size_.tokens);
    REQUIRE(arrays().bands == (size_.tokens + band_ - 1) / band_);
    out_ = out.packed();
  }

  const std::vector<float>& out() const { return out_; }
  index_t                   band() const { return band_; }

  index_t far_count(index_t t, index_t g) const { return arrays().leaves.far_count[field(t, g)]; }

  /// The members of a KV head's leaf before the edge of t's chunk.
  std::vector<index_t> members(index_t t, index_t g, index_t place) const {
    const index_t        last  = arrays().leaves.far_rows[std::int64_t{field(t, g)} * size_.tokens + place];
    const std::int64_t   first = std::int64_t{arrays().leaves.set_of(g)} * size_.tokens;
    const bool           keys  = options_.leaves == leaf_formation::by_keys;
    const index_t* const all   = (keys ? arrays().chains.members : arrays().clusters.members) + first;
    return {all + arrays().leaves.ranges[first + place].begin, all + last + 1};
  }

  bool open(index_t t, index_t head, index_t place) const {
    const index_t row = t % band_ * group() + head % group(), blocks = (band_ * group() + 127) / 128;
    const index_t block = (t / band_ * blocks + row / 128) * size_.kv_heads + head / group();
    return arrays().opened.rows_of(block, row % 128 / 32)[place] >> row % 32 & 1;
  }

  /// (token, place of its leaf), as a band's list has them.
  std::vector<std::pair<index_t, index_t>> list(index_t t, index_t g) const {
    const index_t                            number = t / band_ * size_.kv_heads + g;
    const std::int64_t                       from   = number * arrays().opened.stride;
    std::vector<std::pair<index_t, index_t>> all;
    for (index_t i = 0; i < arrays().opened.count[number]; ++i)
      all.emplace_back(arrays().opened.tokens[from + i], arrays().opened.places[from + i]);
    return all;
  }

 private:
  const auto& arrays() const { return workspace_.arrays; }

  static whole_stream stream(unsigned seed) { return {simulator::seeded(seed)}; }

  index_t group() const { return size_.heads / size_.kv_heads; }
  index_t field(index_t t, index_t g) const {
    return t / options_.chunk * arrays().leaves.sets + arrays().leaves.set_of(g);
  }

  attention_options                       options_;
  shape                                   size_;
  workspace_of_call<Scalar, whole_stream> workspace_;
  std::vector<float>                      out_;
  index_t                                 band_ = 0;
};

/// A band's list as it has to be: members of the leaves that are open for some row, by first asker and place.
template <class Scalar>
std::vector<std::pair<index_t, index_t>> expected_list(const opened_run<Scalar>& run, const shape& size, index_t begin,
                                                       index_t g) {
  std::vector<std::pair<index_t, index_t>> all;
  std::set<index_t>                        listed;
  for (index_t t = begin; t < std::min(size.tokens, begin + run.band()); ++t)
    for (index_t place = 0; place < run.far_count(t, g); ++place)
      if (run.open(t, g * size.heads / size.kv_heads, place) && listed.insert(place).second)
        for (const index_t i : run.members(t, g, place)) all.emplace_back(i, place);
  return all;
}

/// Leaves of rows.
struct leaf_counts {
  index_t all = 0, open = 0, undecided = 0;

  void operator+=(const leaf_counts& more) { all += more.all, open += more.open, undecided += more.undecided; }
};

/// Every leaf is open for a row if it is in the reference, but where that is undecided.
template <class Scalar>
leaf_counts check_open(const opened_run<Scalar>& run, const reference::attention_output<double>& exact,
                       const shape& size) {
  leaf_counts counts;
  index_t     wrong = 0;
  for (index_t t = 0; t < size.tokens; ++t)
    for (index_t h = 0; h < size.heads; ++h) {
      const index_t g     = h * size.kv_heads / size.heads;
      const auto&   above = exact.above[static_cast<std::size_t>(t * size.kv_heads + g)];
      REQUIRE(run.far_count(t, g) == static_cast<index_t>(above.size()));
      for (index_t place = 0; place < run.far_count(t, g); ++place) {
        const double by   = above[static_cast<std::size_t>(place)];
        const bool   skip = std::fabs(by) < undecided;
        ++counts.all, counts.undecided += skip, counts.open += by > 0;
        wrong += !skip && run.open(t, h, place) != (by > 0);
      }
    }
  CHECK(wrong == 0);
  return counts;
}

/// Leaves of sizes that are given; member m of leaf `place` is row 10 place + m.
struct sized_leaves {
  static constexpr bool remembers = false;

  index_t        tokens, count;
  const index_t* sizes;

  CASCADA_DEVICE CASCADA_INLINE bool    failed(index_t) const { return false; }
  CASCADA_DEVICE CASCADA_INLINE index_t first() const { return 0; }
  CASCADA_DEVICE CASCADA_INLINE index_t last() const { return tokens; }
  CASCADA_DEVICE CASCADA_INLINE index_t field_of(index_t, index_t) const { return 0; }
  CASCADA_DEVICE CASCADA_INLINE index_t count_of(index_t) const { return count; }
  CASCADA_DEVICE CASCADA_INLINE index_t size_of(index_t, index_t place) const { return sizes[place]; }

  template <class Put>
  CASCADA_DEVICE CASCADA_INLINE void for_members(index_t, index_t, index_t place, index_t size, const Put& put) const {
    for (index_t m = 0; m < size; ++m) put(m, 10 * place + m);
  }
};

}  // namespace

TEST_CASE("hip opening: more leaves than threads, and more askers than are counted at a time", "[hip]") {
  constexpr index_t          T = 150, count = 1500, stride = 5 * count;  // one tile, of two blocks
  const unsigned             order = GENERATE(5u, 6u, 7u, 8u);           // waves that hurry on, and that take turns
  std::mt19937               random(5);
  std::vector<index_t>       sizes(count), askers(count, T);
  std::vector<std::uint32_t> rows(std::size_t{2} * hip::attention::waves_of_block * stride);
  for (std::size_t place = 0; place < count; ++place) {
    sizes[place] = static_cast<index_t>(1 + random() % 5);
    for (auto asks = random() % 3; asks > 0; --asks) {
      const auto t = static_cast<index_t>(random() % T);
      rows[static_cast<std::size_t>(t / 32) * stride + place] |= std::uint32_t{1} << t % 32;
      askers[place] = std::min(askers[place], sizes[place] > 1 ? t : T);
    }
  }
  std::vector<index_t>                    tokens(stride), places(stride), expected, expected_places;
  std::vector<hip::attention::asked_leaf> asked(stride);
  index_t                                 listed = 0;
  REQUIRE(simulator::seeded(order).launch(hip::attention::open_leaves<sized_leaves>{
              .leaves         = {T, count, sizes.data()},
              .opened         = {rows.data(), tokens.data(), places.data(), &listed, asked.data(), stride, T},
              .bands          = 1,
              .band           = T,
              .tile           = T,
              .blocks_of_band = 2,
              .kv_heads       = 1,
              .group          = 1}) == status::ok);
  for (index_t t = 0; t < T; ++t)
    for (index_t place = 0; place < count; ++place)
      for (index_t m = 0; askers[static_cast<std::size_t>(place)] == t && m < sizes[static_cast<std::size_t>(place)];
           ++m)
        expected.push_back(10 * place + m), expected_places.push_back(place);
  REQUIRE(listed == static_cast<index_t>(expected.size()));
  tokens.resize(expected.size()), places.resize(expected.size());
  CHECK(tokens == expected);
  CHECK(places == expected_places);
}

TEMPLATE_TEST_CASE("hip opening: outputs close to the reference's", "[hip]", ROW_TYPES) {
  const auto size = GENERATE(shape{100, 1, 1, 64, 64}, shape{100, 6, 2, 64, 64}, shape{75, 8, 1, 64, 64},
                             shape{60, 2, 1, 128, 128}, shape{41, 2, 1, 256, 256});
  for (const auto& mode : sample(opened_modes)) {
    CAPTURE(mode.name);
    check_close<TestType>(mode.options, size, random_selection(size.tokens, 0.2, 7), 5);
  }
}

TEMPLATE_TEST_CASE("hip opening: leaves open as in the reference", "[hip]", ROW_TYPES) {
  const auto  size = GENERATE(shape{100, 1, 1, 64, 64}, shape{100, 6, 2, 64, 64}, shape{75, 8, 1, 64, 64});
  leaf_counts sum;
  for (const auto& mode : sample(opened_modes)) {
    CAPTURE(mode.name, size);
    problem<TestType> p(size, 9);
    if (size.heads == 6) p.sink_logits = {1.0f, 5.0f, -2.0f, 0.0f, 3.0f, 4.0f};  // the more ask for less
    const selection            chosen = random_selection(size.tokens, 0.2, 9);
    const opened_run<TestType> run(mode.options, p, chosen, 3);
    sum += check_open(run, reference::attention(p.template input<double>(), {chosen.rep}, mode.options), size);
    for (index_t begin = 0; begin < size.tokens; begin += run.band())
      for (index_t g = 0; g < size.kv_heads; ++g) CHECK(run.list(begin, g) == expected_list(run, size, begin, g));
  }
  if (CASCADA_TEST_EVERY > 1) return;  // of one mode all may be open, or none
  CHECK(50 * sum.undecided <= sum.all);
  CHECK(20 * sum.open >= sum.all);
  CHECK(2 * sum.open <= sum.all);
}

TEST_CASE("hip opening: as many opened tokens as the CPU reports, and outputs close to its own", "[hip]") {
  const shape size = {90, 4, 2, 64, 64};
  const bool  keys = GENERATE(false, true);
  const auto  mode = (keys ? with_leaves_by_keys : opened)(
      {.window = 8, .chunk = 16, .leaf_threshold = 0.1f, .leaf = 4, .open_above = 0.2f, .tile = 4});
  const selection chosen = random_selection(90, 0.2, 4);
  index_t         tried  = 0;
  for (unsigned seed = 1; seed < 60 && tried < 2; ++seed) {
    const problem<bfloat16> p(size, seed);
    const auto              exact   = reference::attention(p.input<double>(), {chosen.rep}, mode);
    bool                    decided = true;
    for (std::size_t row = 0; row < exact.above.size(); ++row) decided &= margin(exact, row) >= undecided;
    if (!decided) continue;
    ++tried;
    const auto                 on_cpu = attend_and_report<float>(mode, p, p.kv(), {chosen});
    const opened_run<bfloat16> run(mode, p, chosen, 5);
    std::int64_t               opened = 0;
    for (index_t t = 0; t < size.tokens; ++t)
      for (index_t g = 0; g < size.kv_heads; ++g)
        for (index_t place = 0; place < run.far_count(t, g); ++place)
          if (run.open(t, 2 * g, place)) opened += static_cast<std::int64_t>(run.members(t, g, place).size());
    CHECK(opened == on_cpu.report.opened);
    CHECK(opened > 0);
    double     apart = 0, of_cpu = 0, of_plain = 0;
    const auto plain = plain_attention<bfloat16>(mode, p, {chosen})();
    REQUIRE(run.out().size() == on_cpu.out.size());
    for (std::size_t i = 0; i < on_cpu.out.size(); ++i) {
      apart    = larger(apart, std::fabs(double{run.out()[i]} - on_cpu.out[i]));
      of_cpu   = std::max(of_cpu, std::fabs(on_cpu.out[i] - exact.out[i]));
      of_plain = std::max(of_plain, std::fabs(plain[i] - exact.out[i]));
    }
    CHECK(apart <= of_cpu + 2 * of_plain);
  }
  CHECK(tried == 2);
}

TEST_CASE("hip opening: later tokens change nothing before them", "[hip]") {
  const index_t cut     = GENERATE(33, 50, 66);  // in the first tile of a band, in a later one, within a tile
  const auto    options = opened({.window = 4, .chunk = 32, .leaf = 4, .open_above = 0.25f, .tile = 4});
  const auto    chosen  = random_selection(90, 0.3, 6);
  const index_t heads   = GENERATE(1, 3);
  CAPTURE(cut, heads);
  problem<bfloat16>          p({90, heads, 1, 64, 64}, 6);
  const opened_run<bfloat16> before(options, p, chosen, 11);
  const auto                 sliced = attend_on_device<float>(options, p, {chosen}, 11);
  for (index_t t = cut; t < 90; ++t)  // more certain of what they want: they ask for other leaves, and for fewer
    for (index_t c = 0; c < 64 * heads; ++c) {
      bfloat16& x = p.q.view().row(t, 0)[c];
      x           = from_float<bfloat16>(-4 * to_float(x));
    }
  const opened_run<bfloat16> after(options, p, chosen, 11);
  const auto                 sliced_after = attend_on_device<float>(options, p, {chosen}, 11);
  const auto                 same         = static_cast<std::size_t>(cut * heads * 64);
  CHECK(same_bits(before.out(), after.out(), 0, same));
  CHECK(same_bits(sliced, sliced_after, 0, same));
  const auto list = before.list(cut, 0), list_after = after.list(cut, 0);
  CHECK(list != list_after);
  // What earlier tokens asked for comes first, where it was.
  std::size_t common = 0;
  while (common < std::min(list.size(), list_after.size()) && list[common] == list_after[common]) ++common;
  std::set<index_t> asked;
  for (index_t t = cut / before.band() * before.band(); t < cut; ++t)
    for (index_t place = 0; place < before.far_count(t, 0); ++place)
      if (before.open(t, 0, place)) asked.insert(place);
  for (std::size_t i = common; i < list.size(); ++i) CHECK(asked.count(list[i].second) == 0);
}

TEST_CASE("hip opening: all leaves open is dense", "[hip]") {
  const shape             size = {90, 3, 1, 64, 64};
  const problem<bfloat16> p(size, 4);
  const auto              chosen  = random_selection(90, 0.2, 4);
  const auto              options = opened({.window = 8, .chunk = 16, .leaf = 4, .open_above = 1e-30f, .tile = 8});
  const auto              dense   = attend_on_device<float>({.keys = key_set::all}, p, {chosen}, 9);
  const auto              all     = attend_on_device<float>(options, p, {chosen}, 9);
  double                  worst   = 0;  // not bit for bit: the order of the keys is another
  for (std::size_t i = 0; i < dense.size(); ++i) worst = larger(worst, std::fabs(double{dense[i]} - all[i]));
  CHECK(worst < 1e-2);
}

TEST_CASE("hip opening: NaN in one head's query leaves other rows alone", "[hip]") {
  const shape       size    = {80, 6, 2, 64, 64};
  const auto        options = opened({.window = 8, .chunk = 16, .leaf = 4, .open_above = 0.25f, .tile = 4});
  const auto        chosen  = random_selection(80, 0.2, 4);
  problem<bfloat16> p(size, 14);
  const index_t     token = 41, head = 4;
  const auto        before       = attend_on_device<float>(options, p, {chosen}, 9);
  p.q.view().row(token, head)[7] = from_float<bfloat16>(std::nanf(""));
  const auto exact               = reference::attention(p.input<double>(), {chosen.rep}, options);
  const auto after               = attend_on_device<float>(options, p, {chosen}, 9);
  index_t    compared            = 0;
  for (index_t t = 0; t < size.tokens; ++t)
    for (index_t h = 0; h < size.heads; ++h)
      for (index_t c = 0; c < 64; ++c) {
        const auto i = row_of(size, t, h) + static_cast<std::size_t>(c);
        if (t == token && h == head) {
          CHECK(after[i] != after[i]);
        } else if (t < token || t >= token / 4 * 4 + 4 || h / 3 != head / 3) {
          CHECK(after[i] == before[i]);
        } else if (margin(exact, static_cast<std::size_t>(t * size.kv_heads + h / 3)) >= undecided) {
          CHECK(std::fabs(after[i] - exact.out[i]) < 0.05);  // the head that asks for nothing is one of three
          ++compared;
        }
      }
  CHECK(compared > 0);
  check_open(opened_run<bfloat16>(options, p, chosen, 9), exact, size);
}

TEST_CASE("hip opening: ragged batches, and a selection for each KV head", "[hip]") {
  const auto                 options = opened({.window = 8, .chunk = 16, .leaf = 4, .open_above = 0.05f, .tile = 8});
  const problem<bfloat16>    p({95, 2, 1, 64, 64}, 8);
  const std::vector<index_t> offsets = {0, 60, 60, 95};
  const auto                 a = random_selection(60, 0.3, 1), b = random_selection(35, 0.3, 2);
  const auto                 together = attend_on_device<float>(options, p, {a, identity_selection(0), b}, 3, offsets);
  problem<bfloat16>          last({35, 2, 1, 64, 64}, 8);
  for (auto [to, from] : {std::pair{&last.q, &p.q}, {&last.k, &p.k}, {&last.v, &p.v}})
    for (index_t t = 0; t < 35; ++t)
      for (index_t h = 0; h < to->view().heads; ++h) std::copy_n(from->view().row(t + 60, h), 64, to->view().row(t, h));
  const auto exact = reference::attention(last.input<double>(), {b.rep}, options);
  REQUIRE(together.size() == 95 * 128);
  index_t compared = 0;
  for (std::size_t i = 0; i < exact.out.size(); ++i)
    if (margin(exact, i / 128) >= undecided) {
      CHECK(std::fabs(together[60 * 128 + i] - exact.out[i]) < 0.05);
      ++compared;
    }
  CHECK(compared > 20 * 128);

  const std::vector<selection> of_heads = {random_selection(70, 0.1, 1), random_selection(70, 0.5, 2)};
  check_close<bfloat16>(options, problem<bfloat16>({70, 6, 2, 64, 64}, 14), of_heads, 14);
}

TEST_CASE("hip opening: launches are known from the shape, and a failed selection writes nothing", "[hip]") {
  const bool keys = GENERATE(false, true);
  const auto options =
      (keys ? with_leaves_by_keys : opened)({.window = 8, .chunk = 16, .open_above = 0.02f, .tile = 4});
  simulator::stream                      where = simulator::seeded(2);
  attention<bfloat16, simulator::stream> attention(options, where);
  device_selection                       chosen(random_selection(70, 0.3, 2)), failed(identity_selection(70));
  failed.count = -1;
  int launches = 0;
  for (unsigned layer = 0; layer < 3; ++layer) {
    const problem<bfloat16>    p({70, 2, 1, 64, 64}, layer);
    device_heads<bfloat16>     q(p.q.view()), k(p.k.view()), v(p.v.view());
    device_heads<float>        out(70, 2, 64);
    const strided_kv<bfloat16> kv     = {k.view(), v.view()};
    const int                  before = where.calls->launches;
    REQUIRE(attention(q.view(), kv, layer == 1 ? failed.layer() : chosen.layer(), out.view()) == status::ok);
    if (layer > 0) CHECK(where.calls->launches - before == launches);
    launches = where.calls->launches - before;
    CHECK(where.calls->allocations == 1);
    bool written = false;
    for (const float x : out.packed()) written |= x == x;
    CHECK(written == (layer != 1));
  }
  CHECK(where.calls->waits == 0);
  device_heads<bfloat16> nothing(0, 1, 64);
  device_heads<float>    nowhere(0, 1, 64);
  const int              before = where.calls->launches;
  CHECK(attention(nothing.view(), strided_kv<bfloat16>{nothing.view(), nothing.view()}, hip::selection_layer{},
                  nowhere.view()) == status::ok);
  CHECK(where.calls->launches == before);
  CHECK(launches == 6 + (keys ? 4 : 0) + 4 * 5);  // tables, chains; and for each band of 16 tokens, a chunk, four
}

TEMPLATE_TEST_CASE("hip opening: every preset", "[hip]", ROW_TYPES) {
  // Longer than window and chunk; as rows of models, keys are alike, and some leaves open.
  const std::vector<attention_options> all = {presets::accurate.attention, presets::balanced.attention,
                                              presets::fast.attention};
  problem<TestType>                    p({600, 2, 1, 64, 64}, 5);
  gather_keys(p);
  const auto chosen = random_selection(600, 0.004, 7);
  for (const attention_options& options : sample(all)) {
    CAPTURE(options.open_above);
    const auto exact = reference::attention(p.template input<double>(), {chosen.rep}, options);
    const auto ours  = attend_on_device<float>(options, p, {chosen}, 5);
    CHECK(3 * exact.leaves.back() < 600 - options.window);
    CHECK(exact.opened.back() > 0);
    index_t compared = 0;
    for (std::size_t i = 0; i < exact.out.size(); ++i)
      if (margin(exact, i / 128) >= undecided) {
        REQUIRE(std::fabs(ours[i] - exact.out[i]) < 0.02);
        ++compared;
      }
    CHECK(compared > 500 * 128);
  }
}
