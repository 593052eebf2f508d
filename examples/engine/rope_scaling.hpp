#pragma once
// Rotary positions that reach farther than a model was trained for: linear, dynamic (NTK), Llama 3's and YaRN.

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/config.hpp"
#include "engine/matrix.hpp"
#include "engine/rotary.hpp"

namespace engine {

/// How frequencies are made, as `transformers` makes them. Older files have rope_theta and rope_scaling with `type`,
/// newer ones all of it in rope_parameters with `rope_type`. What is not known is refused by its name.
class rope_scaling {
 public:
  /// `positions`: max_position_embeddings, `dim`: columns of a head, all of which are rotated.
  static rope_scaling read(const config& file, index_t positions, index_t dim) {
    rope_scaling out;
    out.dim_ = dim, out.trained_ = out.positions_ = positions;
    out.base_      = file.positive("rope_theta", 10000.0f);
    const auto old = file.section("rope_scaling"), all = file.section("rope_parameters");
    if (old && all && old->json() != all->json())
      throw bad_input(file.path() + " has both rope_scaling and rope_parameters, and they differ");
    if (!old && !all) return out;
    const config& given = old ? *old : *all;
    out.base_           = given.positive("rope_theta", out.base_);
    given.require_usual("partial_rotary_factor", 1);
    out.kind_ = kind_named(type_of(given), given);
    switch (out.kind_) {
      case kind::none: given.require_usual("factor", 1); break;
      case kind::linear: out.read_linear(given); break;
      case kind::dynamic: out.read_dynamic(given); break;
      case kind::llama3: out.read_llama3(given, file); break;
      case kind::yarn: out.read_yarn(given, file); break;
    }
    return out;
  }

  /// How many positions the model has: where a file's max_position_embeddings is that of training, factor times it.
  index_t positions() const { return positions_; }

  /// The angles of positions first .. first + count - 1, of a sequence that ends there.
  rotary angles(index_t first, index_t count) const { return {first, count, frequencies(first + count), amplitude_}; }

  /// dim / 2 of them. Only dynamic ones depend on T.
  std::vector<float> frequencies(index_t tokens) const {
    switch (kind_) {
      case kind::none: break;
      case kind::linear: return linear();
      case kind::dynamic: return rotary_frequencies(dim_, dynamic_base(tokens));
      case kind::llama3: return llama3();
      case kind::yarn: return yarn();
    }
    return rotary_frequencies(dim_, base_);
  }

 private:
  enum class kind { none, linear, dynamic, llama3, yarn };

  static std::string type_of(const config& given) {
    const auto type = given.get<std::string>("type", ""), newer = given.get<std::string>("rope_type", type);
    if (!type.empty() && type != newer) throw bad_input(given.path() + " has a type and a rope_type that differ");
    return newer.empty() ? "default" : newer;
  }

  static kind kind_named(const std::string& type, const config& given) {
    const std::set<std::string> common = {"type", "rope_type", "rope_theta", "partial_rotary_factor", "factor"};
    const auto                  knows  = [&](kind which, std::set<std::string> keys) {
      keys.insert(common.begin(), common.end());
      given.require_known(keys);
      return which;
    };
    if (type == "default") return knows(kind::none, {});
    if (type == "linear") return knows(kind::linear, {});
    if (type == "dynamic") return knows(kind::dynamic, {});
    if (type == "llama3")
      return knows(kind::llama3, {"low_freq_factor", "high_freq_factor", "original_max_position_embeddings"});
    if (type == "yarn")
      return knows(kind::yarn, {"original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow",
                                "mscale", "mscale_all_dim", "truncate", "finetuned"});
    throw bad_input(given.path() + ": rotary positions of type " + type +
                    " are not supported; there are default, linear, dynamic, llama3 and yarn");
  }

  void read_factor(const config& given) {
    factor_ = given.positive("factor");
    if (factor_ < 1) throw bad_input("factor in " + given.path() + " must be at least 1");
  }

  /// The length of training, which the key of that name outside of the scaling's own ones has a first say in.
  void read_original(const config& given, const config& file) {
    trained_ = file.size("original_max_position_embeddings", given.size("original_max_position_embeddings", trained_));
  }

  static index_t scaled(index_t positions, float factor) {
    return static_cast<index_t>(std::min(static_cast<double>(positions) * static_cast<double>(factor), 0x1p30));
  }

  void read_linear(const config& given) {
    read_factor(given);
    positions_ = scaled(trained_, factor_);
  }

  void read_dynamic(const config& given) {
    read_factor(given);
    positions_ = scaled(trained_, factor_);
    if (dim_ < 4) throw bad_input(given.path() + ": dynamic scaling needs a head_dim of at least 4");
  }

  void read_llama3(const config& given, const config& file) {
    read_factor(given), read_original(given, file);
    low_ = given.positive("low_freq_factor"), high_ = given.positive("high_freq_factor");
    if (!(low_ < high_))
      throw bad_input("high_freq_factor in " + given.path() + " must be greater than low_freq_factor");
  }

  void read_yarn(const config& given, const config& file) {
    read_factor(given), read_original(given, file);
    positions_ = std::max(positions_, scaled(trained_, factor_));
    high_ = given.positive("beta_fast", 32), low_ = given.positive("beta_slow", 1);
    if (!(low_ < high_)) throw bad_input("beta_fast in " + given.path() + " must be greater than beta_slow");
    if (!(base_ > 1)) throw bad_input(given.path() + ": yarn needs a rope_theta greater than 1");
    truncate_              = given.get<bool>("truncate", true);
    const auto logarithmic = [&](double scale) { return 0.1 * scale * std::log(static_cast<double>(factor_)) + 1; };
    const bool both        = given.has("mscale") && given.has("mscale_all_dim");
    const auto by_definition =
        both ? logarithmic(given.positive("mscale")) / logarithmic(given.positive("mscale_all_dim")) : logarithmic(1);
    amplitude_ = given.positive("attention_factor", static_cast<float>(by_definition));
  }

  /// Positions are divided by the factor.
  std::vector<float> linear() const {
    auto out = rotary_frequencies(dim_, base_);
    for (float& frequency : out) frequency /= factor_;
    return out;
  }

  /// Beyond the length of training the base grows with the text, so that the slowest turn stays about as long.
  float dynamic_base(index_t tokens) const {
    const double factor = factor_, reach = static_cast<double>(std::max(tokens, trained_)) / trained_;
    const double base = base_ * std::pow(factor * reach - (factor - 1), dim_ / (dim_ - 2.0));
    return static_cast<float>(std::min(base, static_cast<double>(std::numeric_limits<float>::max())));
  }

  /// Waves longer than trained / low are stretched by the factor, those shorter than trained / high are not, and
  /// between them both are mixed.
  std::vector<float> llama3() const {
    auto       out     = rotary_frequencies(dim_, base_);
    const auto trained = static_cast<float>(trained_);
    for (float& frequency : out) {
      const float wave = 2 * std::numbers::pi_v<float> / frequency;
      const float mix  = (trained / wave - low_) / (high_ - low_);
      if (wave > trained / low_)
        frequency /= factor_;
      else if (wave >= trained / high_)
        frequency = (1 - mix) * frequency / factor_ + mix * frequency;
    }
    return out;
  }

  /// YaRN (arXiv:2309.00071): a ramp over the frequencies' indices, between those that turn beta_fast and beta_slow
  /// times over the length of training.
  std::vector<float> yarn() const {
    const auto index_of = [&](float turns) {
      return dim_ * std::log(trained_ / (static_cast<double>(turns) * 2 * std::numbers::pi)) /
             (2 * std::log(static_cast<double>(base_)));
    };
    double first = index_of(high_), last = index_of(low_);
    if (truncate_) first = std::floor(first), last = std::ceil(last);
    first = std::max(first, 0.0), last = std::min(last, dim_ - 1.0);
    if (first == last) last += 0.001;
    auto out = rotary_frequencies(dim_, base_);
    for (std::size_t i = 0; i < out.size(); ++i) {
      const double ramp  = (static_cast<double>(i) - first) / (last - first);
      const auto   share = static_cast<float>(std::clamp(ramp, 0.0, 1.0));
      out[i]             = out[i] / factor_ * share + out[i] * (1 - share);
    }
    return out;
  }

  kind    kind_    = kind::none;
  index_t dim_     = 0;
  index_t trained_ = 0, positions_ = 0;
  float   base_ = 10000, factor_ = 1, amplitude_ = 1;
  float   low_ = 1, high_ = 1;  // llama3's factors, yarn's betas
  bool    truncate_ = true;
};

}  // namespace engine
