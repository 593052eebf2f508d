#pragma once
// A gfx942 block on the host: one fiber per GPU thread, waves of 64 lanes that meet at collectives.
//
// Speaks the vocabulary of cascada/hip/base/device.hpp, so that the tests run the source of the kernels. Stricter than
// the chip: a wave whose lanes do not all arrive at the same collective, a barrier that not all waves reach, a value
// called uniform that is not, are faults. The seed shuffles the order of blocks, waves and lanes, and chooses what the
// chip does not specify: the order in which a matrix instruction adds, and what shared memory holds at first.

#include <sys/mman.h>
#include <boost/context/detail/fcontext.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "cascada/hip/base/device.hpp"

#if defined(__SANITIZE_ADDRESS__)
#define SIMULATOR_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIMULATOR_ASAN 1
#endif
#endif
#ifdef SIMULATOR_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

namespace simulator {

using namespace cascada;
namespace context = boost::context::detail;

/// What a kernel did that no kernel may do.
struct fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class meeting { none, barrier, shuffle, read_lane, uniform, ballot, mfma, finished };

class block_run;

/// One GPU thread.
struct fiber {
  block_run*          run = nullptr;
  context::fcontext_t self{};
  index_t             thread     = 0;
  meeting             at         = meeting::none;
  int                 round      = 0;  // collectives so far; two mailboxes take turns
  void*               fake_stack = nullptr;
};

/// Stacks with a guard page below, made once.
class stacks {
 public:
  static constexpr std::size_t size = 256 * 1024, guard = 4096;

  void* top(std::size_t i) {
    while (bottoms_.size() <= i) {
      void* const memory = mmap(nullptr, size + guard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (memory == MAP_FAILED || mprotect(memory, guard, PROT_NONE) != 0) throw std::bad_alloc();
      bottoms_.push_back(static_cast<char*>(memory) + guard);
    }
    return bottoms_[i] + size;
  }
  void* bottom(std::size_t i) const { return bottoms_[i]; }

 private:
  std::vector<char*> bottoms_;  // kept until the process ends
};

/// How a matrix instruction adds up.
enum class rounding { ascending, descending, pairs, toward_zero, exact };

/// What shared memory holds before a block writes it. NaN alone would hide races where it stands for "ask again".
enum class leftover { nan, zeros, garbage };

/// Of the operands of half a wave's last 32 x 32 result, the first: a[k][v] is in the row that has element v.
struct half_rows {
  int                         round = 0;  // of the fiber's
  std::array<hip::sums_16, 8> a;
};

/// One block of a launch.
class block_run {
 public:
  const rounding adds;
  const leftover left;

  struct mail {
    alignas(32) std::array<unsigned char, 32> bytes[2];
  };

  block_run(index_t threads, std::size_t shared_bytes, std::mt19937& random, std::optional<rounding> fixed = {})
      : adds(fixed.value_or(static_cast<rounding>(random() % 5))),
        left(static_cast<leftover>(random() % 3)),
        threads_(threads),
        random_(random) {
    if (shared_bytes > gfx942::lds_bytes) throw fault("a block has 64 KiB of shared memory");
    if (threads % gfx942::wave != 0 || threads > 1024) throw fault("blocks are whole waves, at most 16");
    memory_.reset(new (std::align_val_t{64}) unsigned char[shared_bytes]);
    std::memset(memory_.get(), left == leftover::nan ? 0xff : 0, shared_bytes);
    if (left == leftover::garbage)
      std::generate_n(memory_.get(), shared_bytes, [&] { return static_cast<unsigned char>(random()); });
  }

  template <class Body>
  void operator()(index_t block, Body body);

  void*   shared() { return memory_.get(); }
  index_t block() const { return block_; }
  index_t thread_count() const { return threads_; }

  /// Gives `value` to the wave and waits for all of it. Values of other lanes: received().
  template <class Value>
  void meet(fiber& who, meeting where, const Value& value) {
    static_assert(sizeof(Value) <= sizeof(mail::bytes[0]));
    ++who.round;
    std::memcpy(mails_[static_cast<std::size_t>(who.thread)].bytes[who.round % 2].data(), &value, sizeof(Value));
    wait(who, where);
  }

  template <class Value>
  Value received(const fiber& who, index_t lane) const {
    const index_t wave = who.thread / gfx942::wave;
    Value         value;
    std::memcpy(&value, mails_[static_cast<std::size_t>(wave * gfx942::wave + lane)].bytes[who.round % 2].data(),
                sizeof(Value));
    return value;
  }

  half_rows& rows_of_half(const fiber& who) { return half_rows_[static_cast<std::size_t>(who.thread / 32)]; }

  /// Ends the launch: the scheduler throws, since a fiber has no frame to throw to.
  void fail(fiber& who, const char* what) {
    failure_ = what;
    leave(who, false);
  }

  void wait(fiber& who, meeting where) {
    who.at = where;
    leave(who, false);
  }

 private:
  struct aligned_delete {
    void operator()(unsigned char* memory) const { ::operator delete[](memory, std::align_val_t{64}); }
  };

  static void enter(context::transfer_t from) {
    fiber& who = *static_cast<fiber*>(from.data);
    who.run->arrived(who, from.fctx, nullptr);
    who.run->call_(who.run->body_, who);
    who.at = meeting::finished;
    who.run->leave(who, true);
  }

  void arrived([[maybe_unused]] fiber& who, context::fcontext_t scheduler, [[maybe_unused]] void* fake) {
    scheduler_ = scheduler;
#ifdef SIMULATOR_ASAN
    __sanitizer_finish_switch_fiber(fake, &main_bottom_, &main_size_);
#endif
  }

  void leave(fiber& who, [[maybe_unused]] bool for_good) {
#ifdef SIMULATOR_ASAN
    __sanitizer_start_switch_fiber(for_good ? nullptr : &who.fake_stack, main_bottom_, main_size_);
#endif
    const context::transfer_t back = context::jump_fcontext(scheduler_, nullptr);
    arrived(who, back.fctx, who.fake_stack);
  }

  void resume(fiber& who) {  // until its next collective
#ifdef SIMULATOR_ASAN
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, pool().bottom(static_cast<std::size_t>(who.thread)), stacks::size);
#endif
    who.self = context::jump_fcontext(who.self, &who).fctx;
#ifdef SIMULATOR_ASAN
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
    if (failure_) throw fault(failure_);
  }

  static stacks& pool() {
    static stacks pool;
    return pool;
  }

  void schedule();
  void run_wave(index_t wave);

  index_t                                        threads_;
  std::mt19937&                                  random_;
  std::unique_ptr<unsigned char, aligned_delete> memory_;
  std::vector<fiber>                             fibers_;
  std::vector<mail>                              mails_;
  std::vector<half_rows>                         half_rows_;
  index_t                                        block_ = 0;
  void*                                          body_  = nullptr;
  void (*call_)(void*, fiber&)                          = nullptr;
  context::fcontext_t scheduler_{};
  const char*         failure_ = nullptr;
#ifdef SIMULATOR_ASAN
  const void* main_bottom_ = nullptr;
  std::size_t main_size_   = 0;
#endif
};

template <class Body>
void block_run::operator()(index_t block, Body body) {
  block_ = block;
  body_  = &body;
  call_  = [](void* function, fiber& who) { (*static_cast<Body*>(function))(who); };
  mails_.resize(static_cast<std::size_t>(threads_));
  half_rows_.assign(static_cast<std::size_t>(threads_ / 32), {});
  fibers_.resize(static_cast<std::size_t>(threads_));
  for (index_t t = 0; t < threads_; ++t) {
    void* const top                      = pool().top(static_cast<std::size_t>(t));
    fibers_[static_cast<std::size_t>(t)] = {this, context::make_fcontext(top, stacks::size, &block_run::enter), t};
  }
  schedule();
}

inline void block_run::run_wave(index_t wave) {
  std::array<index_t, gfx942::wave> order;
  std::iota(order.begin(), order.end(), wave * gfx942::wave);
  std::shuffle(order.begin(), order.end(), random_);
  for (const index_t t : order) resume(fibers_[static_cast<std::size_t>(t)]);
  const fiber& first = fibers_[static_cast<std::size_t>(wave * gfx942::wave)];
  for (const index_t t : order)
    if (fibers_[static_cast<std::size_t>(t)].at != first.at)
      throw fault("lanes of a wave are at different collectives: " + std::to_string(static_cast<int>(first.at)) +
                  " and " + std::to_string(static_cast<int>(fibers_[static_cast<std::size_t>(t)].at)));
}

inline void block_run::schedule() {
  const index_t        waves = threads_ / gfx942::wave;
  std::vector<index_t> running(static_cast<std::size_t>(waves));
  std::iota(running.begin(), running.end(), 0);
  const bool hurries    = random_() % 2 == 0;  // a wave runs on to its next barrier; or they take turns at collectives
  index_t    at_barrier = 0, finished = 0;
  while (finished < waves) {
    if (running.empty()) {
      if (finished > 0) throw fault("a wave ended that others wait for at a barrier");
      for (index_t w = 0; w < waves; ++w) running.push_back(w);
      at_barrier = 0;
    }
    const std::size_t pick = random_() % running.size();
    const index_t     wave = running[pick];
    meeting           at   = meeting::none;
    const auto        runs = [&] { return at != meeting::barrier && at != meeting::finished; };
    do {
      run_wave(wave);
      at = fibers_[static_cast<std::size_t>(wave * gfx942::wave)].at;
    } while (hurries && runs());
    at_barrier += at == meeting::barrier;
    finished += at == meeting::finished;
    if (!runs()) running.erase(running.begin() + static_cast<std::ptrdiff_t>(pick));
    if (at_barrier > 0 && finished > 0) throw fault("a wave ended that others wait for at a barrier");
  }
}

using doubles_4  = double __attribute__((vector_size(32)));
using doubles_16 = double __attribute__((vector_size(128)));

/// Sums of c[v] and the products a[k][v] b[k], added as the block's matrix unit does.
template <class Doubles, class Sums, std::size_t N>
Sums add_products(rounding how, const std::array<Sums, N>& a, const std::array<float, N>& b, Sums c) {
  if (how == rounding::exact || how == rounding::toward_zero) {
    Doubles sums = __builtin_convertvector(c, Doubles);
    for (std::size_t k = 0; k < N; ++k) sums += __builtin_convertvector(a[k], Doubles) * double{b[k]};
    Sums rounded = __builtin_convertvector(sums, Sums);
    if (how == rounding::toward_zero)
      for (std::size_t v = 0; v < sizeof(Sums) / sizeof(float); ++v)
        if (std::fabs(double{rounded[v]}) > std::fabs(sums[v])) rounded[v] = std::nextafter(rounded[v], 0.0f);
    return rounded;
  }
  Sums sums = how == rounding::pairs ? Sums{} : c;
  for (std::size_t k = 0; k < N; ++k) {
    const std::size_t i = how == rounding::descending ? N - 1 - k : k;
    sums += a[i] * b[i];
  }
  return how == rounding::pairs ? sums + c : sums;
}

/// One lane of the simulated chip.
class simulated_lane {
 public:
  simulated_lane(block_run& run, fiber& who) : run_(run), who_(who) {}

  index_t thread() const { return who_.thread; }
  index_t block() const { return run_.block(); }
  index_t wave() const { return who_.thread / gfx942::wave; }
  index_t lane() const { return who_.thread % gfx942::wave; }

  void barrier() const { run_.wait(who_, meeting::barrier); }
  void schedule_barrier() const {}
  void keep(std::uint32_t&) const {}
  void settle(hip::sums_16&) const {}

  template <class Value>
  Value shuffle(Value value, index_t source) const {
    run_.meet(who_, meeting::shuffle, value);
    if (source < 0 || source >= gfx942::wave) run_.fail(who_, "shuffle from a lane that is none");
    return run_.received<Value>(who_, source);
  }

  template <class Value>
  Value read_lane(Value value, index_t source) const {
    uniform(source);
    run_.meet(who_, meeting::read_lane, value);
    if (source < 0 || source >= gfx942::wave) run_.fail(who_, "read from a lane that is none");
    return run_.received<Value>(who_, source);
  }

  index_t uniform(index_t value) const {
    run_.meet(who_, meeting::uniform, value);
    if (run_.received<index_t>(who_, 0) != value) run_.fail(who_, "a value called uniform differs between lanes");
    return value;
  }

  std::uint64_t ballot(bool vote) const {
    run_.meet(who_, meeting::ballot, vote);
    std::uint64_t votes = 0;
    for (index_t l = 0; l < gfx942::wave; ++l) votes |= static_cast<std::uint64_t>(run_.received<bool>(who_, l)) << l;
    return votes;
  }

  /// Lanes side by side give k: lane l has row or column l % 32 and k = 4 (l / 32) + 0..3.
  template <hip::matrix_scalar Scalar>
  hip::sums_16 mfma_32x32x8(hip::fragment a, hip::fragment b, hip::sums_16 c) const {
    run_.meet(who_, meeting::mfma, operands::of<Scalar>(a, b));
    std::array<float, 8> of_b;
    for (index_t half = 0; half < 2; ++half) {
      const auto from = run_.received<operands>(who_, lane() % 32 + 32 * half);
      for (index_t k = 0; k < 4; ++k) of_b[static_cast<std::size_t>(4 * half + k)] = from.b[k];
    }
    return add_products<doubles_16>(run_.adds, rows_of_half(), of_b, c);
  }
  template <hip::matrix_scalar Scalar>
  hip::sums_4 mfma_4x4x4(hip::fragment a, hip::fragment b, hip::sums_4 c) const {
    const auto own = operands::of<Scalar>(a, b);
    run_.meet(who_, meeting::mfma, own);
    std::array<hip::sums_4, 4> of_a;
    std::array<float, 4>       of_b;
    for (index_t k = 0; k < 4; ++k) {
      of_b[static_cast<std::size_t>(k)] = own.b[k];
      for (index_t v = 0; v < 4; ++v)
        of_a[static_cast<std::size_t>(k)][v] = run_.received<operands>(who_, lane() / 4 * 4 + v).a[k];
    }
    return add_products<doubles_4>(run_.adds, of_a, of_b, c);
  }

  float clamp(float x, float high) const { return std::fmin(std::fmax(x, 0.0f), high); }
  template <class Values>
  Values multiply_add(Values a, Values b, Values c) const {
    for (std::size_t i = 0; i < sizeof(Values) / sizeof(float); ++i) a[i] = std::fma(a[i], b[i], c[i]);
    return a;
  }
  float reciprocal(float x) const { return 1 / x; }
  template <hip::matrix_scalar Scalar>
  hip::fragment cut_off(float a, float b, float c, float d) const {
    const auto of = [](float x) {
      Scalar result = from_float<Scalar>(x);
      if (std::fabs(to_float(result)) > std::fabs(x)) --result.bits;
      return result.bits;
    };
    return hip::fragment{of(a), of(b), of(c), of(d)};
  }
  float exp2(float x) const { return std::exp2(x); }
  float log2(float x) const { return std::log2(x); }

  template <std::integral Value>
  void atomic_add(Value* to, Value value) const {
    *to += value;
  }

  template <class Shared>
  Shared& shared() const {
    return *static_cast<Shared*>(run_.shared());
  }

 private:
  /// Of a matrix instruction, a lane's.
  struct operands {
    hip::sums_4 a, b;

    template <class Scalar>
    static operands of(hip::fragment a, hip::fragment b) {
      operands own;
      for (index_t k = 0; k < 4; ++k) own.a[k] = to_float(Scalar{a[k]}), own.b[k] = to_float(Scalar{b[k]});
      return own;
    }
  };

  /// [k][v], the same for all lanes of a wave's half: the first one there looks it up.
  const std::array<hip::sums_16, 8>& rows_of_half() const {
    half_rows& rows = run_.rows_of_half(who_);
    if (rows.round != who_.round) {
      rows.round = who_.round;
      for (index_t half = 0; half < 2; ++half)
        for (index_t v = 0; v < 16; ++v) {
          const auto row = run_.received<operands>(who_, hip::row_32(lane(), v) + 32 * half);
          for (index_t k = 0; k < 4; ++k) rows.a[static_cast<std::size_t>(4 * half + k)][v] = row.a[k];
        }
    }
    return rows.a;
  }

  block_run& run_;
  fiber&     who_;
};

/// Runs a kernel, blocks one after the other. Each adds as it likes, or all as they are told.
template <class Kernel>
void launch(const Kernel& kernel, std::mt19937& random, std::optional<rounding> adds = {}) {
  std::vector<index_t> blocks(static_cast<std::size_t>(kernel.grid()));
  std::iota(blocks.begin(), blocks.end(), 0);
  std::shuffle(blocks.begin(), blocks.end(), random);
  for (const index_t block : blocks) {
    std::mt19937 own(
        static_cast<unsigned>(random()));  // how often a block's waves meet does not matter to the next one
    block_run run(Kernel::threads, sizeof(typename Kernel::shared), own, adds);
    run(block, [&](fiber& who) {
      simulated_lane gpu(run, who);
      kernel(gpu);
    });
  }
}

/// What was put on a stream while it was captured, to be done any number of times, with the arguments of then.
class graph {
 public:
  void add(std::function<void()> step) { steps_.push_back(std::move(step)); }
  void replay() const {
    for (const auto& step : steps_) step();
  }

 private:
  std::vector<std::function<void()>> steps_;
};

/// What the host has asked a stream for.
struct stream_calls {
  int    launches = 0, allocations = 0, waits = 0, blocks = 0;
  int    requests         = 0;                                // launches, copies and clears
  int    most_allocations = std::numeric_limits<int>::max();  // more fail
  int    most_requests    = std::numeric_limits<int>::max();  // the same
  graph* captured         = nullptr;                          // where what is put on the stream goes meanwhile
};

/// The stream of the simulated chip: everything has run when the call returns, unless it is captured. Memory is the
/// host's.
struct stream {
  using architecture = gfx942;

  std::shared_ptr<std::mt19937> random = std::make_shared<std::mt19937>(1u);
  std::shared_ptr<stream_calls> calls  = std::make_shared<stream_calls>();
  std::optional<rounding>       adds   = {};  // how every matrix instruction does

  template <class Kernel>
  [[nodiscard]] status launch(const Kernel& kernel) const {
    ++calls->launches;
    calls->blocks += kernel.grid();
    return put([=, from = random, how = adds] { simulator::launch(kernel, *from, how); });
  }

  static constexpr std::size_t alignment = 256;  // as the chip's runtime aligns

  void* allocate(std::size_t bytes) const {
    if (calls->captured) throw fault("memory is allocated while a graph is captured");
    if (++calls->allocations > calls->most_allocations) return nullptr;
    void* const memory = ::operator new(bytes, std::align_val_t{alignment}, std::nothrow);
    return memory ? std::memset(memory, 0xff, bytes) : nullptr;  // NaN, and indices that no array has
  }
  void release(void* memory) const { ::operator delete(memory, std::align_val_t{alignment}); }

  [[nodiscard]] status clear(void* memory, std::size_t bytes) const {
    return put([=] { std::memset(memory, 0, bytes); });
  }
  [[nodiscard]] status copy(void* to, const void* from, std::size_t bytes) const {
    if (bytes == 0) return status::ok;
    return put([=] { std::memcpy(to, from, bytes); });
  }
  [[nodiscard]] status upload(void* to, const void* from, std::size_t bytes) const {
    if (calls->captured) throw fault("the host waits for a stream that is captured");
    ++calls->waits;
    return copy(to, from, bytes);
  }
  [[nodiscard]] status download(void* to, const void* from, std::size_t bytes) const { return upload(to, from, bytes); }

 private:
  template <class Step>
  status put(const Step& step) const {
    if (++calls->requests > calls->most_requests) return status::device_error;
    if (calls->captured)
      calls->captured->add(step);
    else
      step();
    return status::ok;
  }
};

/// What `body` puts on a stream, none of which runs before it is replayed.
template <class Body>
graph capture(const stream& where, const Body& body) {
  struct ends {
    const stream& where;
    ~ends() { where.calls->captured = nullptr; }
  };
  graph      all;
  const ends at_the_end{where};
  where.calls->captured = &all;
  body();
  return all;
}

inline stream seeded(unsigned seed) { return {.random = std::make_shared<std::mt19937>(seed)}; }
inline stream capturable(unsigned seed) { return seeded(seed); }

/// The same, with matrix instructions that all add alike, as those of one chip do: what does not depend on the launch
/// is equal bit for bit.
inline stream steady(unsigned seed) {
  stream where = seeded(seed);
  where.adds   = static_cast<rounding>(seed % 5);
  return where;
}

}  // namespace simulator
