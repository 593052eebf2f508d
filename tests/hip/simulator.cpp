// The simulator itself: what it must refuse, and the layout of the matrix instructions against formulas of their own.

#include "hip/simulator.hpp"
#include "catch.hpp"

using namespace cascada;

namespace {

struct no_memory {};

/// A one-wave kernel from a function.
template <class Body, class Shared = no_memory, index_t Threads = 64>
struct kernel_of {
  using shared                     = Shared;
  static constexpr index_t threads = Threads;
  Body                     body;

  index_t grid() const { return 1; }
  template <class Gpu>
  void operator()(Gpu& gpu) const {
    body(gpu);
  }
};

template <class Shared = no_memory, index_t Threads = 64, class Body>
void run(Body body, unsigned seed = 1) {
  std::mt19937 random(seed);
  simulator::launch(kernel_of<Body, Shared, Threads>{body}, random);
}

struct words {
  float word[128];
};

template <class Scalar>
hip::fragment fragment_of(float a, float b, float c, float d) {
  return hip::fragment{from_float<Scalar>(a).bits, from_float<Scalar>(b).bits, from_float<Scalar>(c).bits,
                       from_float<Scalar>(d).bits};
}

/// Small integers: every sum is exact, so the order in which they are added does not matter.
float element(int row, int column, int seed) { return static_cast<float>((row * 7 + column * 13 + seed) % 17 - 8); }

}  // namespace

TEST_CASE("simulator: collectives exchange values", "[hip]") {
  const unsigned     seed = GENERATE(1u, 2u, 3u);
  std::vector<float> got(64), read(64);
  std::uint64_t      odd = 0;
  run(
      [&](auto& gpu) {
        const auto l              = static_cast<std::size_t>(gpu.lane());
        got[l]                    = gpu.shuffle(static_cast<float>(l), (gpu.lane() + 5) % 64);
        read[l]                   = static_cast<float>(gpu.read_lane(gpu.lane() * 3, 11));
        const std::uint64_t votes = gpu.ballot(l % 2 == 1);
        if (l == 0) odd = votes;
      },
      seed);
  for (std::size_t l = 0; l < 64; ++l) {
    CHECK(got[l] == static_cast<float>((l + 5) % 64));
    CHECK(read[l] == 33.0f);
  }
  CHECK(odd == 0xaaaa'aaaa'aaaa'aaaaull);
}

TEST_CASE("simulator: barriers order shared memory, and their lack shows", "[hip]") {
  const auto reversed = [](bool waits, unsigned seed) {
    std::vector<float> out(128);
    run<words, 128>(
        [&](auto& gpu) {
          auto& memory              = gpu.template shared<words>();
          memory.word[gpu.thread()] = static_cast<float>(gpu.thread());
          if (waits) gpu.barrier();
          out[static_cast<std::size_t>(gpu.thread())] = memory.word[127 - gpu.thread()];
        },
        seed);
    for (std::size_t t = 0; t < 128; ++t)
      if (out[t] != static_cast<float>(127 - t)) return false;
    return true;
  };
  for (unsigned seed = 1; seed < 4; ++seed) {
    CHECK(reversed(true, seed));
    CHECK_FALSE(reversed(false, seed));
  }
}

TEST_CASE("simulator: the seed chooses what shared memory holds at first", "[hip]") {
  std::set<std::uint32_t> same;  // what all of it was, where it was the same
  bool                    differs = false;
  for (unsigned seed = 1; seed < 20; ++seed)
    run<words>(
        [&](auto& gpu) {
          if (gpu.lane() != 0) return;
          std::set<std::uint32_t> held;
          for (const float word : gpu.template shared<words>().word) held.insert(std::bit_cast<std::uint32_t>(word));
          if (held.size() == 1) same.insert(*held.begin());
          differs = differs || held.size() > 64;
        },
        seed);
  CHECK(same == std::set<std::uint32_t>{0, 0xffff'ffffu});
  CHECK(differs);
}

TEST_CASE("simulator: faults", "[hip]") {
  using simulator::fault;
  CHECK_THROWS_AS(run([](auto& gpu) {
                    if (gpu.lane() < 32) (void)gpu.ballot(true);
                  }),
                  fault);
  CHECK_THROWS_AS(run([](auto& gpu) {
                    if (gpu.lane() < 32)
                      (void)gpu.ballot(true);
                    else
                      (void)gpu.shuffle(1.0f, 0);
                  }),
                  fault);
  CHECK_THROWS_AS((run<no_memory, 128>([](auto& gpu) {
                    if (gpu.wave() == 0) gpu.barrier();
                  })),
                  fault);
  CHECK_THROWS_AS(run([](auto& gpu) { (void)gpu.uniform(gpu.lane()); }), fault);
  CHECK_THROWS_AS(run([](auto& gpu) { (void)gpu.shuffle(1.0f, 64); }), fault);
  struct too_much {
    char bytes[64 * 1024 + 1];
  };
  CHECK_THROWS_AS(run<too_much>([](auto&) {}), fault);
}

// AMD's matrix instruction calculator: of A a lane holds row l % side, of B column l % side, and the lane's group
// l / side holds four consecutive k. Results: 32 x 32 in four groups of four rows, 8 apart; 16 x 16 in one. Of 4 x 4
// there are sixteen, one for each four lanes.
TEMPLATE_TEST_CASE("simulator: layout of the matrix instructions", "[hip]", bfloat16, float16) {
  const unsigned seed = GENERATE(1u, 2u, 3u, 4u, 5u);
  SECTION("32 x 32 x 8") {
    run(
        [](auto& gpu) {
          const int    l = gpu.lane(), k = l < 32 ? 0 : 4;
          const auto   a = fragment_of<TestType>(element(l % 32, k, 1), element(l % 32, k + 1, 1),
                                                 element(l % 32, k + 2, 1), element(l % 32, k + 3, 1));
          const auto   b = fragment_of<TestType>(element(k, l % 32, 2), element(k + 1, l % 32, 2),
                                                 element(k + 2, l % 32, 2), element(k + 3, l % 32, 2));
          hip::sums_16 c;
          for (int v = 0; v < 16; ++v) c[v] = static_cast<float>(v);
          const hip::sums_16 sum = gpu.template mfma_32x32x8<TestType>(a, b, c);
          for (int v = 0; v < 16; ++v) {
            const int row  = (v & 3) + ((v & 12) << 1) + (l < 32 ? 0 : 4);
            float     want = static_cast<float>(v);
            for (int i = 0; i < 8; ++i) want += element(row, i, 1) * element(i, l % 32, 2);
            CHECK(sum[v] == want);
          }
        },
        seed);
  }
  SECTION("4 x 4 x 4") {
    run(
        [](auto& gpu) {
          const int   l = gpu.lane(), block = l >> 2, own = l & 3;
          const auto  a = fragment_of<TestType>(element(own, 0, block), element(own, 1, block), element(own, 2, block),
                                                element(own, 3, block));
          const auto  b = fragment_of<TestType>(element(0, own, 20 + block), element(1, own, 20 + block),
                                                element(2, own, 20 + block), element(3, own, 20 + block));
          hip::sums_4 c = {1, 2, 3, 4};
          const hip::sums_4 sum = gpu.template mfma_4x4x4<TestType>(a, b, c);
          for (int v = 0; v < 4; ++v) {
            float want = static_cast<float>(v + 1);
            for (int i = 0; i < 4; ++i) want += element(v, i, block) * element(i, own, 20 + block);
            CHECK(sum[v] == want);
          }
        },
        seed);
  }
}
