// Sequences that grow in the example engine: pieces of a text give what the whole text gives.

#include <algorithm>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "catch.hpp"
#include "engine/decoder.hpp"
#include "engine/growing_attention.hpp"
#include "engine/mode_attention.hpp"
#include "engine/page_attention.hpp"
#include "golden.hpp"

using namespace engine;
using namespace tests;

namespace {

matrix rows(const matrix& all, index_t begin, index_t end) { return all.middleRows(begin, end - begin); }

/// What a model's layers hand to attention, over a whole text.
struct layer_rows {
  index_t heads, kv_heads;
  matrix  residual, normalized, queries, keys, values, attended;
};

/// Runs tokens [begin, end) of a recorded text through all layers.
std::vector<matrix> feed(growing_attention& attend, const std::vector<layer_rows>& layers, index_t begin, index_t end) {
  std::vector<matrix> out;
  for (const layer_rows& l : layers) {
    const matrix residual = rows(l.residual, begin, end), normalized = rows(l.normalized, begin, end);
    const matrix queries = rows(l.queries, begin, end), keys = rows(l.keys, begin, end);
    const matrix values = rows(l.values, begin, end);
    out.push_back(matrix::Zero(end - begin, l.attended.cols()));
    attend(attention_input{static_cast<index_t>(out.size()) - 1, l.heads, l.kv_heads, residual, normalized, queries,
                           keys, values},
           out.back());
  }
  return out;
}

void check_rows(const std::vector<matrix>& got, const std::vector<layer_rows>& layers, index_t begin, index_t end) {
  for (std::size_t l = 0; l < layers.size(); ++l) {
    CAPTURE(l, begin, end);
    CHECK(got[l] == rows(layers[l].attended, begin, end));
  }
}

/// Small enough for a text of 128 tokens to have a far field.
attention_mode small_mode(const nlohmann::json& settings) {
  nlohmann::json all = {{"name", "small"}, {"threshold", 0.3},      {"window", 16},       {"chunk", 16},
                        {"tile", 8},       {"leaf_threshold", 0.3}, {"open_above", 0.05}, {"leaf", 4}};
  all.update(settings);
  return mode_of(all, command_line);
}

/// What the layers of 128 tokens hand to their attention, and what it gives.
std::vector<layer_rows> record(const decoder& model, mode_attention& attend) {
  std::vector<index_t> ids;
  for (index_t t = 0; t < 128; ++t) ids.push_back(t * t % 89);
  std::vector<layer_rows> layers;
  model.forward(ids, [&](const attention_input& l, matrix& out) {
    attend(l, out);
    layers.push_back({l.heads, l.kv_heads, l.residual, l.normalized, l.queries, l.keys, l.values, out});
  });
  return layers;
}

}  // namespace

TEST_CASE("growing: a prompt in pieces gives the logits of one piece", "[golden]") {
  const std::string name =
      GENERATE(as<std::string>{}, "", "gpt2-published", "gpt2-untied", "gptj-partial", "gptj-sharded", "opt-tied",
               "opt-untied", "opt-post-norm", "llama-linear", "llama-dynamic", "llama-llama3", "llama-yarn", "qwen2",
               "qwen2-yarn", "mistral", "gemma2");
  const std::string folder = TEST_FOLDER "/golden/" + name;
  CAPTURE(name);
  auto ids = token_ids(safetensors(folder + "/golden.safetensors"));
  // Beyond the length of training, the angles of dynamic positions change with the length.
  if (name == "llama-dynamic") ids.resize(read_json(folder + "/config.json")["max_position_embeddings"]);
  const auto           count = static_cast<index_t>(ids.size());
  threads              pool(2);
  const decoder        model(folder, pool.where());
  const attention_mode dense = mode_named("dense", decoder_modes, nlohmann::json::object());
  matrix               expected, logits;
  model.output()(run_dense(model, ids, dense.options, pool.where()).final, expected, pool.where());
  for (const index_t piece : {1, 7, count / 2, count}) {
    CAPTURE(piece);
    growing_attention attend(dense, pool.where());
    matrix            all(expected.rows(), expected.cols());
    for (index_t begin = 0; begin < count; begin += piece) {
      const index_t length = std::min(piece, count - begin);
      const matrix  hidden = model.forward(
          std::span(ids).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(length)), attend, begin);
      model.output()(hidden, logits, pool.where());
      all.middleRows(begin, length) = logits;
    }
    CHECK(relative_error(all, expected) <= 2 * tolerance);  // both are off by as much
    CHECK(attend.tokens() == count);
    CHECK((attend.costs().bytes == attend.costs().dense_bytes) ==
          (name != "mistral" && name != "gemma2"));  // their windows are less
  }
}

TEST_CASE("growing: positions end where the model's do", "[errors]") {
  const decoder              model(TEST_FOLDER "/golden");
  const std::vector<index_t> ids(8, 1);
  const auto                 ignore = [](const attention_input&, matrix& out) { out.setZero(); };
  CHECK(model.forward(ids, ignore, 120).rows() == 8);
  CHECK_THROWS_AS(model.forward(ids, ignore, 121), bad_input);
}

TEST_CASE("growing: every mode's attention of pieces is that of the whole, bit for bit", "[golden]") {
  const nlohmann::json settings =
      GENERATE(as<nlohmann::json>{}, nlohmann::json{{"keys", "all"}}, nlohmann::json{{"keys", "near"}},
               nlohmann::json::object(), nlohmann::json{{"open", "none"}}, nlohmann::json{{"window", 0}, {"sinks", 3}});
  const auto mode = small_mode(settings);
  CAPTURE(settings.dump());
  threads        pool(2);
  const decoder  model(TEST_FOLDER "/golden", pool.where());
  mode_attention whole(mode, 0, pool.where());
  const auto     layers = record(model, whole);
  CHECK((whole.mean_share_of_dense() == 1) == (mode.options.keys == cascada::key_set::all));
  CHECK(whole.selection().mean_share() < 0.9);

  for (const index_t piece : {1, 13, 50, 128}) {
    growing_attention attend(mode, pool.where());
    for (index_t begin = 0; begin < 128; begin += piece)
      check_rows(feed(attend, layers, begin, std::min(128, begin + piece)), layers, begin,
                 std::min(128, begin + piece));
  }

  // Back to any token, and on from what is left.
  growing_attention attend(mode, pool.where());
  feed(attend, layers, 0, 128);
  for (const index_t end : {128, 117, 85, 64, 33, 5, 0}) {
    const index_t left = attend.truncate(end);
    CAPTURE(end, left);
    CHECK(left <= end);
    CHECK(end - left < mode.options.tile);
    CHECK(attend.tokens() == left);
    if (left < 128) check_rows(feed(attend, layers, left, 128), layers, left, 128);
  }
}

TEST_CASE("growing: rounded means of leaves are half of the bytes, or a quarter", "[golden]") {
  const decoder  model(TEST_FOLDER "/golden");
  mode_attention dense(small_mode({{"keys", "all"}}), 0, {});
  const auto     layers = record(model, dense);
  const auto     bytes  = [&](const nlohmann::json& settings) {
    growing_attention attend(small_mode(settings), {});
    feed(attend, layers, 0, 128);
    return attend.costs().bytes;
  };
  const auto near = bytes({{"keys", "near"}}), closed = bytes({{"open", "none"}});
  CHECK(closed > near);
  CHECK(2 * (bytes({{"open", "none"}, {"summaries", "bfloat16"}}) - near) == closed - near);
  CHECK(4 * (bytes({{"open", "none"}, {"summaries", "bytes"}}) - near) == closed - near);
}

TEST_CASE("growing: a sliding window, which only dense attention keeps to", "[errors]") {
  const decoder              model(TEST_FOLDER "/golden/mistral");  // of 13 tokens
  const std::vector<index_t> ids(14, 1);
  const auto                 within = std::span(ids).first(13);
  for (const bool all : {false, true}) {
    const auto     mode = small_mode(all ? nlohmann::json{{"keys", "all"}} : nlohmann::json::object());
    mode_attention whole(mode, 0, {});
    CHECK(model.forward(within, whole).rows() == 13);
    growing_attention growing(mode, {});
    CHECK(model.forward(within, growing).rows() == 13);
    if (all) {
      CHECK(model.forward(ids, whole).rows() == 14);
      CHECK(model.forward(std::span(ids).last(1), growing, 13).rows() == 1);
    } else {
      CHECK_THROWS_AS(model.forward(ids, whole), bad_input);
      CHECK_THROWS_AS(model.forward(std::span(ids).last(1), growing, 13), bad_input);
    }
  }
}

TEST_CASE("growing: modes that cannot grow are refused", "[errors]") {
  const auto refused = [](const nlohmann::json& settings) {
    CHECK_THROWS_AS(growing_attention(small_mode(settings), {}), bad_input);
  };
  refused({{"source", "random"}});
  refused({{"source", "positions"}});
  refused({{"features", "keys"}});
}

TEST_CASE("pages: bounds hold for every key, and those with the largest are chosen", "[property]") {
  const index_t                   tokens = 75, kv_heads = 2, dim = 5, of_page = 8;
  std::mt19937                    random(3);
  std::normal_distribution<float> normal;
  matrix                          keys(tokens, kv_heads * dim), queries(3, dim);
  for (matrix* rows : {&keys, &queries}) *rows = rows->unaryExpr([&](float) { return normal(random); });
  page_bounds pages(of_page);
  for (const index_t end : {1, 30, 31, tokens}) {
    const matrix some = keys.topRows(end);
    pages.extend(heads(some, kv_heads));
  }
  REQUIRE(pages.pages() == 10);
  const cascada::matrix_view<const float> asking = {queries.data(), 3, dim, dim};
  for (index_t h = 0; h < kv_heads; ++h)
    for (index_t row = 0; row < 3; ++row) {
      // By the definition: the bound of each page, and that no key of it is above.
      std::vector<std::pair<float, index_t>> bounds;
      for (index_t page = 0; page < 10; ++page) {
        float         bound = 0, best = std::numeric_limits<float>::lowest();
        const index_t end = std::min(tokens, (page + 1) * of_page);
        for (index_t c = 0; c < dim; ++c) {
          float most = std::numeric_limits<float>::lowest();
          for (index_t t = page * of_page; t < end; ++t) most = std::max(most, queries(row, c) * keys(t, h * dim + c));
          bound += most;
        }
        for (index_t t = page * of_page; t < end; ++t)
          best = std::max(best, queries.row(row).dot(keys.row(t).segment(h * dim, dim)));
        CHECK(best <= bound + 1e-5f);
        bounds.push_back({-bound, page});
      }
      std::sort(bounds.begin(), bounds.end());
      for (index_t count = 1; count <= 10; ++count) {
        std::vector<index_t> expected = {9};  // the newest
        for (const auto& [bound, page] : bounds)
          if (page != 9 && static_cast<index_t>(expected.size()) < count) expected.push_back(page);
        std::sort(expected.begin(), expected.end());
        CHECK(pages.choose({asking.row(row), 1, dim, dim}, h, count) == expected);
      }
      // Of several queries, each has its best among the first that are chosen.
      const auto best = pages.choose({asking.row(row), 1, dim, dim}, h, 2), of_all = pages.choose(asking, h, 4);
      CHECK(std::includes(of_all.begin(), of_all.end(), best.begin(), best.end()));
      CHECK(of_all.size() == 4);
    }
  page_bounds again(of_page);
  again.extend(heads(keys, kv_heads));
  again.keep_first(43), again.extend(heads(keys, kv_heads));
  CHECK(again.choose(asking, 1, 5) == pages.choose(asking, 1, 5));
}

TEST_CASE("pages: all of them are dense attention, few of them read what they may", "[golden]") {
  const decoder  model(TEST_FOLDER "/golden");
  attention_mode mode = mode_named("dense", decoder_modes, nlohmann::json::object());
  mode_attention dense(mode, 0, {});
  const auto     layers = record(model, dense);
  mode.pages            = page_settings{.tokens = 8, .read = 2};
  growing_attention attend(mode, {});
  feed(attend, layers, 0, 100);
  for (index_t t = 100; t < 128; ++t) check_rows(feed(attend, layers, t, t + 1), layers, t, t + 1);
  CHECK(attend.truncate(110) == 110);
  for (index_t t = 110; t < 128; ++t) check_rows(feed(attend, layers, t, t + 1), layers, t, t + 1);

  mode.pages->read = 0.5f;
  growing_attention few(mode, {});
  feed(few, layers, 0, 127);
  const growing_costs before = few.costs();
  const auto          rows   = feed(few, layers, 127, 128);
  const growing_costs step   = few.costs() - before;
  CHECK(before.bytes == before.dense_bytes);
  CHECK(step.bytes <= step.dense_bytes / 2);
  CHECK(step.bytes > step.dense_bytes / 2 - step.dense_bytes / 16);
  CHECK(rows[0] != layers[0].attended.bottomRows(1));
}
