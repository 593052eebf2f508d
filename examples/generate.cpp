// cascada-generate: goes on with a prompt, token by token, with several kinds of attention beside dense attention.

#include <algorithm>
#include <cstdio>
#include <deque>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/arguments.hpp"
#include "engine/evaluate.hpp"
#include "engine/file.hpp"
#include "engine/generation_report.hpp"
#include "engine/growing_sequence.hpp"
#include "engine/needle.hpp"
#include "engine/progress.hpp"

using namespace engine;

namespace {

constexpr const char* usage = R"(cascada-generate --model DIR --prompt FILE [options]

  --model DIR          folder with config.json and safetensors (Llama family, GPT-2, GPT-J, OPT)
  --prompt FILE        the prompt's token ids, one per line
  --tokens N           tokens to go on with, each the likeliest (64)
  --modes A,B,...      what to compare with dense, each with a cache of its own (%s)
  --pages-read X       bytes that a step of pages reads, of dense's, in (0, 1) (0.3)
  --needle FILE        JSON: {"answer": [ids], "prompts": [{"depth": X, "tokens": [ids]}, ..]}; also sees after which of
                       these prompts the answer comes
  --threads N          threads (all of the machine)
  --output DIR         where report.json goes (build/generate)
)";

using nlohmann::json;

/// `window`: the near field and the sink of accurate and balanced alone. `pages`: dense over the prompt, then the
/// baseline of page_attention.hpp.
const named_modes modes_that_grow = {
    {"dense", {{"keys", "all"}}},           {"window", {{"preset", "balanced"}, {"keys", "near"}}},
    {"accurate", {{"preset", "accurate"}}}, {"balanced", {{"preset", "balanced"}}},
    {"fast", {{"preset", "fast"}}},         {"pages", {{"keys", "all"}}},
};

struct settings {
  std::string                 model, prompt, needle, output;
  std::size_t                 tokens;
  std::vector<attention_mode> modes;
  index_t                     threads;
};

/// The modes of a list, dense, the yardstick, before all others.
std::vector<attention_mode> read_modes(const std::string& list, const arguments& given) {
  auto          modes = modes_named(list, modes_that_grow, json::object());
  page_settings pages;
  const json    shares = {{"pages_read", as_json(given.text("--pages-read", "0.3"))}};
  setting_reader(shares, command_line).share("pages_read", pages.read);
  for (attention_mode& mode : modes)
    if (mode.name == "pages") mode.pages = pages;
  std::erase_if(modes, [](const attention_mode& mode) { return mode.name == "dense"; });
  modes.insert(modes.begin(), mode_named("dense", modes_that_grow, json::object()));
  return modes;
}

settings read_settings(const arguments& given) {
  const auto cores = threads::usable();
  return {.model   = given.text("--model"),
          .prompt  = given.text("--prompt"),
          .needle  = given.text("--needle", ""),
          .output  = given.text("--output", "build/generate"),
          .tokens  = static_cast<std::size_t>(given.integer("--tokens", 64, 2, 1 << 20)),
          .modes   = read_modes(given.text("--modes", names_of(modes_that_grow)), given),
          .threads = given.integer("--threads", cores, 1, threads::most)};
}

/// All modes on one prompt, in turn: what slows the machine down slows all of them.
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

  generation_report run() {
    generation_report out = {prompt_.size(), settings_.tokens, settings_.threads, needle_};
    for (const attention_mode& mode : settings_.modes) {
      out.modes.push_back({mode});
      sequences_.emplace_back(model_, mode, where_);
    }
    read_weights();
    read_prompt(out.modes);
    go_on(out.modes);
    for (std::size_t i = 0; i < out.modes.size(); ++i) {
      follow(sequences_[i], out.modes.front().tokens, out.modes[i]);
      if (needle_) out.modes[i].to_needle = say(out.modes[i].mode.name, sequences_[i]);
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
    const progress shown("weights", model_.layers());
    growing_sequence(model_, settings_.modes.front(), where_).next(prompt_.front());
    shown.done();
  }

  void read_prompt(std::vector<generation>& modes) {
    static constexpr std::size_t piece  = growing_sequence::piece;
    const auto                   pieces = (prompt_.size() + piece - 1) / piece;
    const progress               shown("prompt, all modes", static_cast<int>(pieces), "piece");
    for (std::size_t p = 0; p < pieces; ++p) {
      shown.step(static_cast<int>(p));
      const auto tokens = std::span(prompt_).subspan(p * piece, std::min(piece, prompt_.size() - p * piece));
      for (std::size_t i = 0; i < modes.size(); ++i) {
        const stopwatch reading;
        sequences_[i].feed(tokens);
        if (p + 1 == pieces) modes[i].tokens.push_back(sequences_[i].likeliest());
        modes[i].first_seconds += reading.seconds();
      }
    }
    for (std::size_t i = 0; i < modes.size(); ++i) modes[i].of_prompt = sequences_[i].costs();
    shown.done();
  }

  void go_on(std::vector<generation>& modes) {
    const progress shown("continuation, all modes", static_cast<int>(settings_.tokens), "token");
    for (std::size_t step = 1; step < settings_.tokens; ++step) {
      shown.step(static_cast<int>(step));
      for (std::size_t i = 0; i < modes.size(); ++i) {
        const growing_costs before = sequences_[i].costs();
        const stopwatch     one;
        modes[i].tokens.push_back(sequences_[i].next(modes[i].tokens.back()));
        modes[i].step_seconds.push_back(one.seconds());
        const growing_costs of_step = sequences_[i].costs() - before;
        modes[i].step_attention.push_back(of_step.attention_seconds + of_step.selection_seconds);
      }
    }
    for (std::size_t i = 0; i < modes.size(); ++i) modes[i].of_steps = sequences_[i].costs() - modes[i].of_prompt;
    shown.done();
  }

  /// Back to the prompt, and after it what dense said: at how many of its tokens a mode would have said the same, and
  /// how far its predictions are from dense's.
  void follow(growing_sequence& sequence, const std::vector<index_t>& said, generation& mode) {
    const progress shown(mode.mode.name + ", dense's tokens", static_cast<int>(said.size()), "token");
    index_t        next   = sequence.read(prompt_);
    int            agreed = next == said.front() ? 1 : 0;
    matrix         states(static_cast<index_t>(said.size()), sequence.final().cols());
    states.row(0) = sequence.final();
    for (std::size_t i = 1; i < said.size(); ++i) {
      shown.step(static_cast<int>(i));
      next = sequence.next(said[i - 1]);
      agreed += next == said[i] ? 1 : 0;
      states.row(static_cast<Eigen::Index>(i)) = sequence.final();
    }
    if (states_of_dense_.size() == 0) states_of_dense_ = states;
    std::vector<index_t> tokens = {prompt_.back()};
    tokens.insert(tokens.end(), said.begin(), said.end());
    mode.agreement  = static_cast<double>(agreed) / static_cast<double>(said.size());
    mode.divergence = compare_predictions(states, states_of_dense_, model_.output(), tokens, where_).divergence;
    shown.done();
  }

  std::vector<std::vector<index_t>> say(const std::string& name, growing_sequence& sequence) const {
    const progress                    shown(name + ", needle", static_cast<int>(needle_->prompts.size()), "prompt");
    std::vector<std::vector<index_t>> out;
    for (const needle_prompt& prompt : needle_->prompts) {
      shown.step(static_cast<int>(out.size()));
      std::vector<index_t> said = {sequence.read(prompt.tokens)};
      while (said.size() < needle_->length()) said.push_back(sequence.next(said.back()));
      out.push_back(std::move(said));
    }
    shown.done();
    return out;
  }

  const settings&              settings_;
  backend                      where_;
  std::vector<index_t>         prompt_;
  decoder                      model_;
  std::optional<needle_test>   needle_;
  std::deque<growing_sequence> sequences_;        // of each mode
  matrix                       states_of_dense_;  // final ones, of what dense said
};

int generate(int count, char** values) {
  const arguments given(
      count, values,
      {"--model", "--prompt", "--tokens", "--modes", "--pages-read", "--needle", "--threads", "--output"});
  if (given.help()) {
    std::printf(usage, names_of(modes_that_grow).c_str());
    return 0;
  }
  const settings s = read_settings(given);
  threads        pool(s.threads);
  comparison     compared(s, pool.where());
  make_folder(s.output);
  require_writable(s.output + "/report.json");
  const generation_report run = compared.run();
  print_table(run);
  write_file(s.output + "/report.json", to_json(run).dump(2) + "\n");
  return 0;
}

}  // namespace

int main(int count, char** values) {
  return run_program("cascada-generate", [&] { return generate(count, values); });
}
