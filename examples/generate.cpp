// cascada-generate: goes on with a prompt, token by token, with several kinds of attention beside dense attention.

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/arguments.hpp"
#include "engine/file.hpp"
#include "engine/growing_sequence.hpp"
#include "engine/needle.hpp"
#include "engine/progress.hpp"

using namespace engine;

namespace {

constexpr const char* usage = R"(cascada-generate --model DIR --prompt FILE [options]

  --model DIR          folder with config.json and safetensors (Llama family, GPT-2, GPT-J, OPT)
  --prompt FILE        the prompt's token ids, one per line
  --tokens N           tokens to go on with, each the likeliest (64)
  --modes A,B,...      what to compare (%s)
  --needle FILE        JSON: {"answer": [ids], "prompts": [{"depth": X, "tokens": [ids]}, ..]}; also sees after which of
                       these prompts the answer comes
  --threads N          threads (all of the machine)
  --output DIR         where report.json goes (build/generate)
)";

using nlohmann::json;

/// `window`: the near field and the sink of accurate and balanced alone.
const named_modes modes_that_grow = {
    {"dense", {{"keys", "all"}}},           {"window", {{"preset", "balanced"}, {"keys", "near"}}},
    {"accurate", {{"preset", "accurate"}}}, {"balanced", {{"preset", "balanced"}}},
    {"fast", {{"preset", "fast"}}},
};

struct settings {
  std::string                 model, prompt, needle, output;
  std::size_t                 tokens;
  std::vector<attention_mode> modes;
  index_t                     threads;
};

settings read_settings(const arguments& given) {
  const auto cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  return {.model   = given.text("--model"),
          .prompt  = given.text("--prompt"),
          .needle  = given.text("--needle", ""),
          .output  = given.text("--output", "build/generate"),
          .tokens  = static_cast<std::size_t>(given.integer("--tokens", 64, 2, 1 << 20)),
          .modes   = modes_named(given.text("--modes", names_of(modes_that_grow)), modes_that_grow, json::object()),
          .threads = given.integer("--threads", cores, 1, threads::most)};
}

/// What a mode said after a needle test's prompts.
using answers = std::vector<std::vector<index_t>>;

double median(std::vector<double> all) {
  const auto middle = all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2);
  std::nth_element(all.begin(), middle, all.end());
  return *middle;
}

/// Steps are the tokens after the first; medians, because a shared machine makes some of them slow.
struct mode_result {
  std::vector<index_t> tokens         = {};
  double               agreement      = 0;   // with dense, fed what dense said
  double               first_seconds  = 0;   // up to the first token
  std::vector<double>  step_seconds   = {};  // of each step
  std::vector<double>  step_attention = {};  // of these, in attention and selection
  growing_costs        of_prompt = {}, of_steps = {};
  answers              to_needle = {};

  double steps() const { return static_cast<double>(step_seconds.size()); }
  double tokens_per_second() const { return steps() / std::accumulate(step_seconds.begin(), step_seconds.end(), 0.0); }
  double milliseconds() const { return 1e3 * median(step_seconds); }
  double attention_milliseconds() const { return 1e3 * median(step_attention); }
  double bytes() const { return static_cast<double>(of_steps.bytes) / steps(); }
  double share_of_dense() const {
    return static_cast<double>(of_steps.bytes) / static_cast<double>(of_steps.dense_bytes);
  }
};

class comparison {
 public:
  comparison(const settings& s, backend where)
      : settings_(s), where_(where), prompt_(read_tokens_up_to(s.prompt, most_tokens)), model_(s.model, where) {
    if (prompt_.empty()) throw bad_input(s.prompt + " holds no tokens");
    require_positions(prompt_.size() + s.tokens, "the prompt and --tokens are");
    if (!s.needle.empty()) needle_ = needle_test::read(s.needle);
    if (needle_)
      require_positions(needle_->longest_prompt() + needle_->length(), "a prompt with a needle and its answer are");
    warn_of_unused(model_.unused());
  }

  /// Dense attention comes first: it is the yardstick.
  json run() {
    read_weights();
    dense_   = run_mode(mode_named("dense", modes_that_grow, json::object()));
    json out = {{"prompt_tokens", prompt_.size()},
                {"tokens", settings_.tokens},
                {"threads", settings_.threads},
                {"modes", json::array()}};
    if (needle_) {
      out["needle"] = {
          {"answer", needle_->answer}, {"prompt_tokens", needle_->longest_prompt()}, {"depths", json::array()}};
      for (const needle_prompt& prompt : needle_->prompts) out["needle"]["depths"].push_back(prompt.depth);
    }
    std::vector<mode_result> results;
    for (const attention_mode& mode : settings_.modes)
      results.push_back(mode.name == "dense" ? *dense_ : run_mode(mode));
    print_head();
    for (std::size_t i = 0; i < results.size(); ++i) {
      print(settings_.modes[i].name, results[i]);
      out["modes"].push_back(to_json(settings_.modes[i], results[i]));
    }
    return out;
  }

 private:
  static constexpr index_t most_tokens = 1 << 26;

  void require_positions(std::size_t tokens, const std::string& what) const {
    if (tokens > static_cast<std::size_t>(model_.positions()))
      throw bad_input(what + " " + std::to_string(tokens) + " tokens, and the model has " +
                      std::to_string(model_.positions()) + " positions");
  }

  /// From the disk into memory, so that no mode's time has it.
  void read_weights() const {
    const progress shown("reading the weights", model_.layers());
    growing_sequence(model_, settings_.modes.front(), where_).next(prompt_.front());
    shown.done();
  }

  mode_result run_mode(const attention_mode& mode) const {
    growing_sequence sequence(model_, mode, where_);
    mode_result      out;
    {
      const progress  shown(mode.name + ", prompt",
                            static_cast<int>((prompt_.size() + growing_sequence::piece - 1) / growing_sequence::piece),
                            "piece");
      const stopwatch reading;
      out.tokens.push_back(sequence.read(prompt_, [&](int i) { shown.step(i); }));
      out.first_seconds = reading.seconds();
      shown.done();
    }
    out.of_prompt = sequence.costs();
    const progress shown(mode.name + ", continuation", static_cast<int>(settings_.tokens), "token");
    while (out.tokens.size() < settings_.tokens) {
      shown.step(static_cast<int>(out.tokens.size()));
      const growing_costs before = sequence.costs();
      const stopwatch     one;
      out.tokens.push_back(sequence.next(out.tokens.back()));
      out.step_seconds.push_back(one.seconds());
      const growing_costs of_step = sequence.costs() - before;
      out.step_attention.push_back(of_step.attention_seconds + of_step.selection_seconds);
    }
    shown.done();
    out.of_steps  = sequence.costs() - out.of_prompt;
    out.agreement = agreement(mode, sequence, dense_ ? dense_->tokens : out.tokens);
    if (needle_) out.to_needle = say(mode, sequence);
    return out;
  }

  /// Back to the prompt: at how many of dense's tokens the mode would have said the same.
  double agreement(const attention_mode& mode, growing_sequence& sequence, const std::vector<index_t>& said) const {
    const progress shown(mode.name + ", dense's tokens", static_cast<int>(said.size()), "token");
    index_t        next   = sequence.read(prompt_, [](int) {});
    int            agreed = next == said.front();
    for (std::size_t i = 1; i < said.size(); ++i) {
      shown.step(static_cast<int>(i));
      next = sequence.next(said[i - 1]);
      agreed += next == said[i];
    }
    shown.done();
    return static_cast<double>(agreed) / static_cast<double>(said.size());
  }

  answers say(const attention_mode& mode, growing_sequence& sequence) const {
    const progress shown(mode.name + ", needle", static_cast<int>(needle_->prompts.size()), "prompt");
    answers        out;
    for (const needle_prompt& prompt : needle_->prompts) {
      shown.step(static_cast<int>(out.size()));
      std::vector<index_t> said = {sequence.read(prompt.tokens, [](int) {})};
      while (said.size() < needle_->length()) said.push_back(sequence.next(said.back()));
      out.push_back(std::move(said));
    }
    shown.done();
    return out;
  }

  int says_it(const mode_result& mode) const {
    int count = 0;
    for (const auto& said : mode.to_needle) count += needle_->says_it(said);
    return count;
  }
  int as_dense(const mode_result& mode) const {
    int count = 0;
    for (std::size_t i = 0; i < mode.to_needle.size(); ++i) count += mode.to_needle[i] == dense_->to_needle[i];
    return count;
  }

  void print_head() const {
    std::printf(
        "\nA prompt of %zu tokens, %zu more. ms: medians of a token, and of its attention with selection. as dense: "
        "steps "
        "at which\nthe mode, fed dense's tokens, names the next one. read: keys and values a token, in MB and of "
        "dense's.%s\n\n"
        "mode      first token s  tokens/s  ms a token  attention ms  as dense  read MB  read%s\n",
        prompt_.size(), settings_.tokens,
        needle_ ? " needle: depths at which the\nword is found, and at which all is said as by dense." : "",
        needle_ ? "  needle  as dense" : "");
  }

  void print(const std::string& name, const mode_result& mode) const {
    std::printf("%-9s %13.2f  %8.2f  %10.1f  %12.2f  %7.1f%%  %7.1f  %3.0f%%", name.c_str(), mode.first_seconds,
                mode.tokens_per_second(), mode.milliseconds(), mode.attention_milliseconds(), 100 * mode.agreement,
                mode.bytes() / 1e6, 100 * mode.share_of_dense());
    if (needle_) {
      const auto all = needle_->prompts.size();
      std::printf("  %3d/%-2zu  %5d/%-2zu", says_it(mode), all, as_dense(mode), all);
    }
    std::printf("\n");
  }

  json to_json(const attention_mode& mode, const mode_result& result) const {
    json out = {{"name", mode.name},
                {"settings", settings_of(mode)},
                {"seconds_to_first_token", result.first_seconds},
                {"attention_seconds_to_first_token", result.of_prompt.attention_seconds},
                {"selection_seconds_to_first_token", result.of_prompt.selection_seconds},
                {"tokens_per_second", result.tokens_per_second()},
                {"median_milliseconds_per_token", result.milliseconds()},
                {"median_attention_milliseconds_per_token", result.attention_milliseconds()},
                {"attention_seconds", result.of_steps.attention_seconds},
                {"selection_seconds", result.of_steps.selection_seconds},
                {"agreement_with_dense", result.agreement},
                {"bytes_per_token", result.bytes()},
                {"share_of_dense_bytes", result.share_of_dense()},
                {"tokens", result.tokens}};
    if (needle_)
      out["needle"] = {{"says_it", says_it(result)}, {"as_dense", as_dense(result)}, {"tokens", result.to_needle}};
    return out;
  }

  const settings&            settings_;
  backend                    where_;
  std::vector<index_t>       prompt_;
  decoder                    model_;
  std::optional<needle_test> needle_;
  std::optional<mode_result> dense_;
};

int generate(int count, char** values) {
  const arguments given(count, values,
                        {"--model", "--prompt", "--tokens", "--modes", "--needle", "--threads", "--output"});
  if (given.help()) {
    std::printf(usage, names_of(modes_that_grow).c_str());
    return 0;
  }
  const settings s = read_settings(given);
  threads        pool(s.threads);
  comparison     compared(s, pool.where());
  make_folder(s.output);
  require_writable(s.output + "/report.json");
  write_file(s.output + "/report.json", compared.run().dump(2) + "\n");
  return 0;
}

}  // namespace

int main(int count, char** values) {
  return run_program("cascada-generate", [&] { return generate(count, values); });
}
