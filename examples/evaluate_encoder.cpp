// cascada-evaluate-encoder: runs an encoder on pieces of text with several kinds of attention and compares the
// embeddings with those of dense attention.

#include <cstdio>
#include <limits>
#include <string>
#include <vector>

#include "engine/arguments.hpp"
#include "engine/bert.hpp"
#include "engine/cascade_study.hpp"
#include "engine/file.hpp"
#include "engine/mode_attention.hpp"
#include "engine/report.hpp"
#include "engine/sentence.hpp"

using namespace engine;

namespace {

constexpr const char* usage = R"(cascada-evaluate-encoder --model DIR --tokens FILE [options]

  --model DIR           folder with config.json and safetensors (BERT)
  --tokens FILE         token ids, one per line, piece after piece
  --length N            tokens of a piece (512)
  --pieces N            pieces to read (64)
  --thresholds X,Y,...  Gram thresholds tau in (0, 1] (0.8)
  --features NAME       rows that selection sees: residual, normalized (the same in BERT) or keys (residual)
  --modes A,B,...       what to compare with dense (literal,weighted,all-queries,random)
  --threads N           threads (all of the machine)
  --seed N              seed of mode random (1)
  --output DIR          where report.json goes (build/report)
)";

constexpr const char* default_modes = "literal,weighted,all-queries,random";

struct settings {
  std::string                 model, tokens, output;
  index_t                     length, pieces;
  std::vector<float>          thresholds;
  attention_mode              dense;  // the yardstick
  std::vector<attention_mode> modes;
  index_t                     threads;
  std::uint64_t               seed;
};

settings read_settings(const arguments& given) {
  const nlohmann::json shared = {{"features", given.text("--features", "residual")}};
  const auto           cores  = threads::usable();
  return {.model      = given.text("--model"),
          .tokens     = given.text("--tokens"),
          .output     = given.text("--output", "build/report"),
          .length     = given.integer("--length", 512, 2),
          .pieces     = given.integer("--pieces", 64, 2),
          .thresholds = given.thresholds("--thresholds", "0.8"),
          .dense      = mode_named("dense", encoder_modes, shared),
          .modes      = modes_named(given.text("--modes", default_modes), encoder_modes, shared),
          .threads    = given.integer("--threads", cores, 1, threads::most),
          .seed       = static_cast<std::uint64_t>(given.integer("--seed", 1, 0))};
}

/// One attention mode's embeddings beside those of dense attention.
struct embedding_result {
  std::string name;
  double      share             = 0;  // r / T, mean over layers and pieces
  double      cosine            = 0;  // of a piece's embedding with its dense embedding, mean over pieces
  double      least_cosine      = 1;
  double      rank_correlation  = 0;  // Spearman's, of the cosines of all pairs of pieces
  double      attention_seconds = 0;
  double      selection_seconds = 0;
};

struct threshold_result {
  float                         threshold;
  cascade_summary               cascade;  // over the layers of all pieces
  std::vector<embedding_result> modes;
};

class comparison {
 public:
  comparison(const settings& s, backend where) : settings_(s), where_(where), model_(s.model, where) {
    if (s.length > model_.positions())
      throw bad_input("the model has " + std::to_string(model_.positions()) + " positions, fewer than --length");
    if (s.pieces > std::numeric_limits<index_t>::max() / s.length)
      throw bad_input("--length times --pieces is too large");
    const auto tokens = read_tokens(s.tokens, s.length * s.pieces);
    for (index_t i = 0; i < s.pieces; ++i)
      pieces_.emplace_back(tokens.begin() + i * s.length, tokens.begin() + (i + 1) * s.length);
    warn_of_unused(model_.unused());
  }

  std::vector<threshold_result> run() {
    std::vector<threshold_result> out;
    for (const cascade_summary& cascade : run_dense()) {
      const std::size_t i = out.size();
      out.push_back({settings_.thresholds[i], cascade, {}});
      for (attention_mode mode : settings_.modes) {
        mode.selection.threshold = settings_.thresholds[i];
        out[i].modes.push_back(run_mode(mode));
      }
    }
    return out;
  }

 private:
  /// Dense attention is the yardstick; on its activations the cascade is studied, at each threshold.
  std::vector<cascade_summary> run_dense() {
    const progress                        shown("dense", settings_.pieces, "piece");
    std::vector<std::vector<layer_study>> layers(settings_.thresholds.size());
    for (index_t p = 0; p < settings_.pieces; ++p) {
      shown.step(p);
      std::vector<cascade_study> studies;
      for (const float threshold : settings_.thresholds) studies.emplace_back(settings_.dense.rows, threshold, where_);
      mode_attention attend(settings_.dense, 0, where_);
      dense_.push_back(embed_piece(p, attend, [&](const attention_input& layer) {
        for (cascade_study& study : studies) study(layer);
      }));
      for (std::size_t i = 0; i < studies.size(); ++i)
        layers[i].insert(layers[i].end(), studies[i].layers().begin(), studies[i].layers().end());
    }
    shown.done();
    std::vector<cascade_summary> out;
    for (const auto& of_all_pieces : layers) out.push_back(summarise(of_all_pieces));
    return out;
  }

  embedding_result run_mode(const attention_mode& mode) {
    const progress   shown(mode.name + ", tau " + decimal(mode.selection.threshold).dump(), settings_.pieces, "piece");
    embedding_result out{.name = mode.name};
    std::vector<vector> embeddings;
    for (index_t p = 0; p < settings_.pieces; ++p) {
      shown.step(p);
      const auto     piece = static_cast<std::size_t>(p);
      mode_attention attend(mode, settings_.seed + piece, where_);
      embeddings.push_back(embed_piece(p, attend, [](const attention_input&) {}));
      const double cosine = static_cast<double>(embeddings.back().dot(dense_[piece]));
      out.cosine += cosine / settings_.pieces;
      out.least_cosine = std::min(out.least_cosine, cosine);
      out.share += attend.selection().mean_share() / settings_.pieces;
      out.attention_seconds += attend.attention_seconds();
      out.selection_seconds += attend.selection().seconds();
    }
    out.rank_correlation = rank_correlation(pair_cosines(embeddings), pair_cosines(dense_));
    shown.done();
    return out;
  }

  template <class Observe>
  vector embed_piece(index_t piece, mode_attention& attend, Observe&& observe) const {
    return sentence_embedding(
        model_.forward(pieces_[static_cast<std::size_t>(piece)], [&](const attention_input& layer, matrix& out) {
          observe(layer);
          attend(layer, out);
        }));
  }

  const settings&                   settings_;
  backend                           where_;
  bert                              model_;
  std::vector<std::vector<index_t>> pieces_;
  std::vector<vector>               dense_;  // embedding of each piece
};

nlohmann::json to_json(const embedding_result& mode) {
  return {{"name", mode.name},
          {"representatives_share", mode.share},
          {"embedding_cosine", mode.cosine},
          {"least_embedding_cosine", mode.least_cosine},
          {"rank_correlation", mode.rank_correlation},
          {"attention_seconds", mode.attention_seconds},
          {"selection_seconds", mode.selection_seconds}};
}

nlohmann::json to_json(const settings& s, const std::vector<threshold_result>& results) {
  nlohmann::json out = {
      {"tokens", s.length},
      {"settings",
       {{"features", name_of(s.dense.rows)}, {"pieces", s.pieces}, {"threads", s.threads}, {"seed", s.seed}}},
      {"thresholds", nlohmann::json::array()}};
  for (const threshold_result& result : results) {
    nlohmann::json modes = nlohmann::json::array();
    for (const embedding_result& mode : result.modes) modes.push_back(to_json(mode));
    out["thresholds"].push_back({{"threshold", decimal(result.threshold)},
                                 {"mean_after_layer_0", engine::to_json(result.cascade)},
                                 {"modes", std::move(modes)}});
  }
  return out;
}

void print(const threshold_result& result) {
  const cascade_summary& mean = result.cascade;
  std::printf(
      "\ntau = %g: r/T %.2f, Jaccard %.3f (least %.3f), Gram operations saved: exact cascade %.1f %%, paper mode "
      "%.1f %%, full selection %.1f %%\n",
      static_cast<double>(result.threshold), mean.share, mean.jaccard, mean.least_jaccard, 100 * mean.savings_exact,
      100 * mean.savings_paper_mode, 100 * mean.savings_full_selection);
  std::printf("mode           r/T  embedding cosine   least  rank correlation  attention s  selection s\n");
  for (const embedding_result& mode : result.modes)
    std::printf("%-12s  %.2f            %.4f  %.4f            %.4f  %11.2f  %11.2f\n", mode.name.c_str(), mode.share,
                mode.cosine, mode.least_cosine, mode.rank_correlation, mode.attention_seconds, mode.selection_seconds);
  if (!mean.sets_equal) std::printf("THE CASCADE'S SET DIFFERS FROM FULL SELECTION.\n");
}

int evaluate(int count, char** values) {
  const arguments given(count, values,
                        {"--model", "--tokens", "--length", "--pieces", "--thresholds", "--features", "--modes",
                         "--threads", "--seed", "--output"});
  if (given.help()) {
    std::fputs(usage, stdout);
    return 0;
  }
  const settings s = read_settings(given);
  threads        pool(s.threads);
  comparison     compared(s, pool.where());
  make_folder(s.output);
  require_writable(s.output + "/report.json");
  const auto results = compared.run();
  for (const threshold_result& result : results) print(result);
  write_file(s.output + "/report.json", to_json(s, results).dump(2) + "\n");
  const auto equal = [](const threshold_result& result) { return result.cascade.sets_equal; };
  return std::all_of(results.begin(), results.end(), equal) ? 0 : 1;
}

}  // namespace

int main(int count, char** values) {
  return run_program("cascada-evaluate-encoder", [&] { return evaluate(count, values); });
}
