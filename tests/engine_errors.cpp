// Bad model files and command lines: one sentence that names the trouble, never a wrong number.

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "catch.hpp"
#include "engine/arguments.hpp"
#include "engine/attention_mode.hpp"
#include "engine/features.hpp"
#include "engine/file.hpp"
#include "engine/llama.hpp"
#include "engine/safetensors.hpp"

using namespace engine;

namespace {

/// A folder that goes away with the test.
class scratch_folder {
 public:
  scratch_folder() {
    path_ = (std::filesystem::temp_directory_path() / "cascada-XXXXXX").string();
    REQUIRE(mkdtemp(path_.data()) != nullptr);
  }
  ~scratch_folder() { std::filesystem::remove_all(path_); }
  std::string        file(const char* name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void put(const std::string& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

std::string with_header(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data;
}

/// The sentence of the error that `body` raises; empty if it raises none.
template <class Body>
std::string complaint(Body&& body) {
  try {
    body();
  } catch (const bad_input& error) {
    return error.what();
  }
  return "";
}

bool mentions(const std::string& sentence, const std::string& words) {
  CAPTURE(sentence, words);
  return sentence.find(words) != std::string::npos;
}

const std::string golden = TEST_FOLDER "/golden";

}  // namespace

TEST_CASE("safetensors: damaged files", "[errors]") {
  const scratch_folder folder;
  const std::string    path = folder.file("x.safetensors");
  const auto           open = [&](const std::string& bytes) {
    put(path, bytes);
    return complaint([&] { safetensors file(path); });
  };
  const std::string entry = R"({"x":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}})";
  REQUIRE(open(with_header(entry, "12345678")).empty());

  CHECK(mentions(complaint([&] { safetensors file(folder.file("absent")); }), "cannot open"));
  CHECK(mentions(open(""), "truncated"));
  CHECK(mentions(open("1234567"), "truncated"));
  CHECK(mentions(open(with_header(entry, "12345678").substr(0, 20)), "truncated"));
  CHECK(mentions(open(with_header(entry, "1234567")), "truncated"));
  CHECK(mentions(open(with_header("no JSON", "")), "not JSON"));
  CHECK(mentions(open(with_header(R"({"x":{"dtype":"F32"}})", "")), "malformed"));
  CHECK(
      mentions(open(with_header(R"({"x":{"dtype":"F32","shape":[1,3],"data_offsets":[0,8]}})", "12345678")), "shape"));
  CHECK(mentions(open(with_header(R"({"x":{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}})", "12345678")), "shape"));
  CHECK(mentions(open(with_header(R"({"x":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", "")),
                 "impossible"));
  CHECK(mentions(open(with_header(R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", "12345678")), "bytes"));
}

TEST_CASE("safetensors: every prefix of a model file is refused or whole", "[errors]") {
  const scratch_folder folder;
  const std::string    whole = contents(golden + "/model.safetensors");
  for (std::size_t size = 0; size < whole.size(); size += 1 + size / 3) {
    CAPTURE(size);
    put(folder.file("x"), whole.substr(0, size));
    CHECK(mentions(complaint([&] { safetensors file(folder.file("x")); }), "truncated"));
  }
}

TEST_CASE("safetensors: tensors that do not fit", "[errors]") {
  const scratch_folder folder;
  const std::string    path = folder.file("x");
  put(path, with_header(R"({"i":{"dtype":"I32","shape":[1,2],"data_offsets":[0,8]}})", "12345678"));
  safetensors file(path);
  CHECK(mentions(complaint([&] { file.load("x", 1, 2); }), "no tensor x"));
  CHECK(mentions(complaint([&] { file.load("i", 2, 1); }), "another shape"));
  CHECK(mentions(complaint([&] { file.load("i", 1, 2); }), "I32"));
}

TEST_CASE("safetensors: F32, F16 and BF16 are read exactly, BF16 is written", "[errors]") {
  const scratch_folder folder;
  const std::string    path = folder.file("x");
  put(path, with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                        R"("b":{"dtype":"F16","shape":[2],"data_offsets":[8,12]},)"
                        R"("c":{"dtype":"BF16","shape":[2],"data_offsets":[12,16]}})",
                        std::string("\0\0\x80\x3f\0\0\x20\xc0\0\x3c\0\xc1\x80\x3f\x20\xc0", 16)));
  const matrix expected{{1.0f, -2.5f}};
  safetensors  file(path);
  for (const char* name : {"a", "b", "c"}) CHECK(file.load(name, 1, 2) == expected);

  write_safetensors_bf16(folder.file("y"), {{"rows", expected}});
  CHECK(safetensors(folder.file("y")).load("rows", 1, 2) == expected);
}

TEST_CASE("models: files that are missing or contradict each other", "[errors]") {
  const scratch_folder folder;
  const auto           load = [&] { return complaint([&] { llama model(folder.path()); }); };
  auto                 json = read_json(golden + "/config.json");
  const auto           with = [&](const char* key, const nlohmann::json& value) {
    auto changed = json;
    changed[key] = value;
    put(folder.file("config.json"), changed.dump());
    return load();
  };
  CHECK(mentions(load(), "cannot open"));
  put(folder.file("config.json"), "{");
  CHECK(mentions(load(), "JSON"));
  CHECK(mentions(with("hidden_size", 48), "model.safetensors"));
  put(folder.file("model.safetensors"), contents(golden + "/model.safetensors"));
  REQUIRE(with("hidden_size", 48).empty());

  CHECK(mentions(with("hidden_size", nullptr), "no hidden_size"));
  CHECK(mentions(with("hidden_size", "wide"), "wrong type"));
  CHECK(mentions(with("hidden_size", 0), "at least 1"));
  CHECK(mentions(with("hidden_size", 64), "another shape"));
  CHECK(mentions(with("num_hidden_layers", 4), "no tensor model.layers.3."));
  CHECK(mentions(with("num_key_value_heads", 4), "KV heads"));
  CHECK(mentions(with("head_dim", 9), "odd"));
  CHECK(mentions(with("model_type", "gpt2"), "not llama"));
  CHECK(mentions(with("hidden_act", "gelu"), "not silu"));
  CHECK(mentions(with("attention_bias", true), "attention_bias"));
  CHECK(mentions(with("rope_parameters", {{"rope_type", "yarn"}}), "rotary"));
}

TEST_CASE("models: tokens that do not fit", "[errors]") {
  const llama                model(golden);
  const std::vector<index_t> unknown = {1, 97}, many(129, 1);
  const auto                 ignore  = [](const attention_input&, matrix&) {};
  CHECK(mentions(complaint([&] { model.forward(unknown, ignore); }), "token id 97"));
  CHECK(mentions(complaint([&] { model.forward(many, ignore); }), "128 positions"));
}

TEST_CASE("files: a text that is too short, a folder that cannot be", "[errors]") {
  const scratch_folder folder;
  put(folder.file("tokens"), "1\n2\n3\n");
  CHECK(read_tokens(folder.file("tokens"), 2) == std::vector<index_t>{1, 2});
  CHECK(mentions(complaint([&] { read_tokens(folder.file("tokens"), 4); }), "3 tokens; 4"));
  CHECK(mentions(complaint([&] { read_tokens(folder.file("absent"), 1); }), "cannot open"));
  CHECK(mentions(complaint([&] { make_folder(folder.file("tokens/x")); }), "cannot make"));
  CHECK(mentions(complaint([&] { write_file(folder.file("absent/x"), "x"); }), "cannot write"));
}

TEST_CASE("command lines: unknown and impossible options", "[errors]") {
  const auto parse = [](std::vector<std::string> words) {
    words.insert(words.begin(), "program");
    std::vector<char*> values;
    for (std::string& word : words) values.push_back(word.data());
    return arguments(static_cast<int>(values.size()), values.data(), {"--length", "--threshold", "--sweep"});
  };
  CHECK(parse({"--help"}).help());
  CHECK(parse({"--length", "7"}).integer("--length", 1, 1) == 7);
  CHECK(parse({}).integer("--length", 5, 1) == 5);
  CHECK(parse({"--sweep", "0.5,1"}).thresholds("--sweep", "none") == std::vector<float>{0.5f, 1.0f});
  CHECK(parse({}).thresholds("--sweep", "none").empty());

  CHECK(mentions(complaint([&] { parse({"--bogus", "1"}); }), "unknown option --bogus"));
  CHECK(mentions(complaint([&] { parse({"--length"}); }), "needs a value"));
  CHECK(mentions(complaint([&] { parse({}).text("--length"); }), "missing"));
  for (const char* number : {"", "x", "1x", "1.5", "99999999999"})
    CHECK(mentions(complaint([&] { parse({"--length", number}).integer("--length", 1, 1); }), "no number"));
  CHECK(mentions(complaint([&] { parse({"--length", "0"}).integer("--length", 1, 1); }), "at least 1"));
  for (const char* number : {"0", "-1", "1.01", "nan", "inf"})
    CHECK(mentions(complaint([&] { parse({"--threshold", number}).threshold("--threshold", 1); }), "(0, 1]"));
  CHECK(mentions(complaint([&] { parse({"--sweep", "0.5,"}).thresholds("--sweep", "none"); }), "no number"));

  CHECK(mentions(complaint([&] { modes_named("dense,sparse", {}); }), "unknown mode sparse"));
  CHECK(mentions(complaint([&] { modes_named("dense,dense", {}); }), "twice"));
  CHECK(mentions(complaint([&] { features_named("values"); }), "unknown features"));
  for (const attention_mode& mode : modes_named(default_modes, {})) CHECK(check(mode.options) == cascada::status::ok);
}
