// Bad safetensors files, token files and command lines: one sentence that names the trouble, never a wrong number.

#include <sys/stat.h>

#include <filesystem>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "bad_input.hpp"
#include "catch.hpp"
#include "engine/arguments.hpp"
#include "engine/attention_mode.hpp"
#include "engine/checkpoint.hpp"
#include "engine/features.hpp"
#include "engine/file.hpp"
#include "engine/safetensors.hpp"
#include "model_copy.hpp"

using namespace engine;
using namespace tests;

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
  CHECK(mentions(open(with_header(R"({"x":{"dtype":"F32"}})", "")), "has no shape"));
  CHECK(mentions(open(with_header(R"({"x":[]})", "")), "has no dtype"));
  CHECK(
      mentions(open(with_header(R"({"x":{"dtype":"F32","shape":[1,3],"data_offsets":[0,8]}})", "12345678")), "shape"));
  CHECK(mentions(open(with_header(R"({"x":{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}})", "12345678")), "shape"));
  CHECK(mentions(open(with_header(R"({"x":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", "")),
                 "impossible"));
  CHECK(mentions(open(with_header(R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", "12345678")), "bytes"));
}

TEST_CASE("safetensors: sizes that are no sizes", "[errors]") {
  const scratch_folder folder;
  const auto           open = [&](const std::string& shape, const std::string& offsets) {
    put(folder.file("x"),
                  with_header(R"({"x":{"dtype":"F32","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}", "12345678"));
    return complaint([&] { safetensors file(folder.file("x")); });
  };
  REQUIRE(open("[1,2]", "[0,8]").empty());
  for (const char* shape :
       {"[1.0,2.0]", "[1,2.5]", "[1e300,2]", "[true,2]", "[-1,-2]", "[\"2\"]", "2", "[[1,2]]", "null"}) {
    CAPTURE(shape);
    CHECK(mentions(open(shape, "[0,8]"), "the shape of tensor x"));
  }
  for (const char* offsets : {"[0,8.0]", "[0,8e0]", "[-0.5,8]", "[-8,0]", "[false,8]", "[0]", "[0,8,8]", "8", "{}"}) {
    CAPTURE(offsets);
    CHECK(mentions(open("[1,2]", offsets), "the offsets of tensor x"));
  }
  CHECK(mentions(open("[18446744073709551615,18446744073709551615]", "[0,8]"), "impossible"));
  CHECK(mentions(open("[1,2]", "[0,18446744073709551615]"), "truncated"));
}

TEST_CASE("safetensors: every byte belongs to one tensor, and every name to one entry", "[errors]") {
  const scratch_folder folder;
  const auto           entry = [](const std::string& name, int begin, int end) {
    const nlohmann::json value = {
        {"dtype", "U8"}, {"shape", {end - begin}}, {"data_offsets", nlohmann::json::array({begin, end})}};
    return nlohmann::json(name).dump() + ":" + value.dump();
  };
  const auto open = [&](const std::string& entries) {
    put(folder.file("x"), with_header("{" + entries + "}", "12345678"));
    return complaint([&] { safetensors file(folder.file("x")); });
  };
  CHECK(open(entry("b", 0, 3) + "," + entry("a", 3, 8)).empty());
  CHECK(open(entry("b", 0, 8) + "," + entry("a", 0, 0) + "," + entry("c", 8, 8)).empty());
  CHECK(mentions(open(entry("a", 0, 8) + "," + entry("b", 0, 8)), "overlaps"));
  CHECK(mentions(open(entry("a", 0, 5) + "," + entry("b", 4, 8)), "tensor b in"));
  CHECK(mentions(open(entry("a", 0, 8) + "," + entry("b", 2, 4)), "overlaps"));
  CHECK(mentions(open(entry("a", 0, 3) + "," + entry("b", 4, 8)), "before tensor b"));
  CHECK(mentions(open(entry("a", 1, 8)), "before tensor a"));
  CHECK(mentions(open(entry("a", 0, 7)), "behind its last tensor"));
  CHECK(mentions(open(entry("a", 0, 4) + "," + entry("a", 4, 8)), "the key a twice"));
}

TEST_CASE("safetensors: a tensor of another type is a matter of whoever reads it", "[errors]") {
  const scratch_folder folder;
  const auto           open = [&](const char* type, const char* shape) {
    put(folder.file("x"), with_header(R"({"f":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"x":{"dtype":")" +
                                                    std::string(type) + R"(","shape":)" + shape + R"(,"data_offsets":[4,12]}})",
                                                std::string("\0\0\x80\x3f", 4) + "12345678"));
    return complaint([&] {
      const safetensors file(folder.file("x"));
      REQUIRE(file.load("f", 1, 1)(0, 0) == 1.0f);
      file.load("x", 1, 8);
    });
  };
  for (const char* type : {"BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F9_NEW"})
    CHECK(mentions(open(type, "[8]"), "is " + std::string(type) + "; F32"));
  for (const char* type : {"C64", "F64", "I64", "U64"}) CHECK(mentions(open(type, "[1]"), "another shape"));
  CHECK(mentions(open("I16", "[4]"), "another shape"));
  CHECK(mentions(open("F4", "[2,8]"), "another shape"));
  CHECK(mentions(open("F6_E2M3", "[4]"), "do not fit"));
  CHECK(mentions(open("F4", "[15]"), "do not fit"));
  CHECK(mentions(open("C64", "[2]"), "do not fit"));
}

TEST_CASE("JSON: what is wrong and where", "[errors]") {
  const scratch_folder folder;
  const auto           read = [&](const std::string& text) {
    put(folder.file("x"), text);
    return complaint([&] { read_json(folder.file("x")); });
  };
  CHECK(read(R"({"a": {"b": [1, {"a": 2}]}, "b": {"a": {}}})").empty());
  CHECK(mentions(read(""), "not JSON: line 1, column 1"));
  CHECK(mentions(read("{\n\"a\": 1,\n}"), "not JSON: line 3, column 1"));
  CHECK(mentions(read("{}{}"), "not JSON"));
  CHECK(mentions(read("[1]"), "not a JSON object"));
  CHECK(mentions(read("{\"a\": 1,\n\"b\": NaN}"), "line 2 has NaN"));
  CHECK(mentions(read("{\"b\": Infinity}"), "line 1 has Infinity"));
  CHECK(mentions(read("{\"b\": [0, -Infinity]}"), "has Infinity"));
  CHECK(mentions(read("{\"b\": 1e400}"), "too large"));
  CHECK(mentions(read("{\"b\": 1, \"b\": 1}"), "the key b twice"));
  CHECK(mentions(read("{\"b\": [{\"c\": 1, \"c\": 1}]}"), "the key c twice"));
  CHECK(mentions(read("{\"b\": \"\xff\"}"), "not JSON"));
  for (const std::size_t depth : {std::size_t{70}, std::size_t{1000000}})
    for (const bool closed : {false, true}) {
      const std::string arrays = std::string(depth, '[') + (closed ? std::string(depth, ']') + "}" : "");
      CHECK(mentions(read("{\"a\": " + arrays), "nested too deeply"));
      put(folder.file("y"), with_header("{\"a\": " + arrays, ""));
      CHECK(mentions(complaint([&] { safetensors file(folder.file("y")); }), "nested too deeply"));
    }
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += "{\"a\":";
  CHECK(mentions(read(objects), "nested too deeply"));
}

TEST_CASE("files: what is no regular file is refused at once, whoever reads it", "[errors]") {
  const scratch_folder folder;
  REQUIRE(mkfifo(folder.file("pipe").c_str(), 0600) == 0);
  std::filesystem::create_symlink("loop", folder.file("loop"));
  std::filesystem::create_symlink("nowhere", folder.file("dangling"));
  for (const std::string& path : {folder.file("pipe"), folder.path(), std::string("/dev/zero")}) {
    CAPTURE(path);
    CHECK(mentions(complaint([&] { read_json(path); }), "no regular file"));
    CHECK(mentions(complaint([&] { read_tokens(path, 1); }), "no regular file"));
    CHECK(mentions(complaint([&] { safetensors file(path); }), "no regular file"));
  }
  for (const std::string& path :
       {folder.file("loop"), folder.file("dangling"), folder.file("absent"), folder.file("absent/x"),
        folder.file(std::string(300, 'x')), folder.file(std::string("x\0y", 3)), std::string()}) {
    CAPTURE(path);
    CHECK(mentions(complaint([&] { read_json(path); }), "cannot open"));
    CHECK(mentions(complaint([&] { read_tokens(path, 1); }), "cannot open"));
    CHECK(mentions(complaint([&] { safetensors file(path); }), "cannot open"));
    CHECK(mentions(complaint([&] { checkpoint file(path); }), "cannot open"));
  }
  for (const char* target : {"loop", "pipe"}) {
    const scratch_folder model;
    std::filesystem::create_symlink(folder.file(target), model.file("model.safetensors"));
    CHECK(mentions(complaint([&] { checkpoint file(model.path()); }), "cannot open"));
  }
}

TEST_CASE("files: words that are no token ids", "[errors]") {
  const scratch_folder folder;
  const auto           read = [&](const std::string& text, index_t length) {
    put(folder.file("tokens"), text);
    return complaint([&] { read_tokens(folder.file("tokens"), length); });
  };
  CHECK(read("1 2\t3\r\n4", 4).empty());
  CHECK(read("1\n2\nx", 2).empty());
  CHECK(mentions(read("1\n2\nx", 3), "word 3 of"));
  CHECK(mentions(read("1\n2x\n", 2), "no token id: 2x"));
  CHECK(mentions(read("1 99999999999", 2), "no token id: 99999999999"));
  CHECK(mentions(read("1 2.5", 2), "no token id: 2.5"));
  CHECK(mentions(read("", 2), "0 tokens; 2"));
}

TEST_CASE("files: whether a report can be written is known before the work", "[errors]") {
  const scratch_folder folder;
  const auto           check = [](const std::string& path) { return complaint([&] { require_writable(path); }); };
  CHECK(check(folder.file("new")).empty());
  CHECK(std::filesystem::is_empty(folder.path()));
  put(folder.file("old"), "kept");
  CHECK(check(folder.file("old")).empty());
  CHECK(contents(folder.file("old")) == "kept");
  std::filesystem::create_directory(folder.file("folder"));
  std::filesystem::create_symlink("loop", folder.file("loop"));
  for (const std::string& path : {folder.file("folder"), folder.file("absent/x"), folder.file("old/x"),
                                  folder.file("loop"), folder.file("loop/x"), std::string("/dev/null")}) {
    CAPTURE(path);
    CHECK(mentions(check(path), "cannot write"));
  }
  for (const char* path : {"old/x", "loop", "loop/x"})
    CHECK(mentions(complaint([&] { make_folder(folder.file(path)); }), "cannot make"));
}

TEST_CASE("programs: exit codes", "[errors]") {
  const auto code = [](auto&& body) { return run_program("a test's own complaint", body); };
  CHECK(code([] { return 0; }) == 0);
  CHECK(code([]() -> int { throw bad_input("x"); }) == 2);
  CHECK(code([]() -> int { throw std::bad_alloc(); }) == 2);
  CHECK(code([]() -> int { throw std::system_error(EAGAIN, std::generic_category()); }) == 2);
  CHECK(code([]() -> int { throw std::runtime_error("x"); }) == 1);
  CHECK(one_line("a\nb\x1b[31m") == "a?b?[31m");
}

TEST_CASE("safetensors: every prefix of a model file is refused or whole", "[errors]") {
  const scratch_folder folder;
  const std::string    whole = contents(golden_model + "/model.safetensors");
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
  CHECK(parse({"--length", "7"}).integer("--length", 1, 1, 7) == 7);
  CHECK(mentions(complaint([&] { parse({"--length", "8"}).integer("--length", 1, 1, 7); }), "at most 7"));
  for (const char* number : {"0", "-1", "1.01", "nan", "inf"})
    CHECK(mentions(complaint([&] { parse({"--threshold", number}).threshold("--threshold", 1); }), "(0, 1]"));
  CHECK(mentions(complaint([&] { parse({"--sweep", "0.5,"}).thresholds("--sweep", "none"); }), "no number"));

  CHECK(mentions(complaint([&] { modes_named("dense,sparse", decoder_modes, {}); }), "unknown mode sparse"));
  CHECK(mentions(complaint([&] { modes_named("dense,dense", decoder_modes, {}); }), "twice"));
  CHECK(mentions(complaint([&] { features_named("values"); }), "unknown features"));
  for (const attention_mode& mode : modes_named(names_of(decoder_modes), decoder_modes, {}))
    CHECK(check(mode.options) == cascada::status::ok);
}
