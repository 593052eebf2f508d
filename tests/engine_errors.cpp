// Bad safetensors files, token files and command lines: one sentence that names the trouble, never a wrong number.

#include <string>
#include <vector>

#include "bad_input.hpp"
#include "catch.hpp"
#include "engine/arguments.hpp"
#include "engine/attention_mode.hpp"
#include "engine/features.hpp"
#include "engine/file.hpp"
#include "engine/safetensors.hpp"

using namespace engine;
using namespace tests;

namespace {

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

  // Published files exist whose header has an odd length.
  put(path, with_header(R"({"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},)"
                        R"("b":{"dtype":"F16","shape":[1,2],"data_offsets":[8,12]}}  )",
                        std::string("\0\0\x80\x3f\0\0\x20\xc0\0\x3c\0\xc1", 12)));
  const safetensors odd(path);
  for (const char* name : {"a", "b"}) CHECK(odd.load(name, 1, 2) == expected);

  write_safetensors_bf16(folder.file("y"), {{"rows", expected}});
  CHECK(safetensors(folder.file("y")).load("rows", 1, 2) == expected);
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
