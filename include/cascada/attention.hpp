#pragma once
// Attention on selected tokens: the compressed problem, near field + far field, and dense.
//
// The contract; attention.hpp in cpu/attention and hip/attention keeps it, and state.hpp in both.

#include <concepts>
#include <cstddef>
#include <span>

#include "cascada/attention_call.hpp"
#include "cascada/attention_options.hpp"
#include "cascada/attention_report.hpp"
#include "cascada/backend.hpp"
#include "cascada/kv_view.hpp"
#include "cascada/representatives.hpp"
#include "cascada/scalar.hpp"
#include "cascada/status.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI {

/// Softmax attention over the tokens, representatives or leaves that the options name (attention_options.hpp).
///
/// - Strictly causal, with `causal`: changing token t changes no output before t.
/// - A row's result does not depend, bit for bit, on how its sequence is cut into calls: a prompt in pieces,
///   or token by token, gives what one call gives.
/// - Near + far is bit for bit dense where there is no far field, and with opening::all.
/// - A row that sees nothing, or whose logits are all -infinity (which a cap makes finite), is zero. NaN in q, k or v
///   reaches the rows that see it, and no others; not the other heads of its KV group. On gfx942, NaN in v and
///   infinities there may also make rows NaN that lie up to 62 tokens before, or behind their sliding window.
/// - Results do not depend on the number of threads or on the other sequences of a batch, bit for bit.
/// - Statistics and sums are float, whatever the rows are. Where the target multiplies bfloat16 (AMX-BF16, if the
///   process gets it, else AVX512_BF16), rows of it are multiplied so, and with them weights and means rounded to it.
/// - Softcap and sliding window (attention_options), sink logits and slopes (attention_call) do what they say in every
///   mode that does not refuse them. Results for parts of the keys become one by merge() (attention_merge.hpp).
/// - Workspace is kept: a second call of the same shape allocates nothing, whatever its selections. For each KV head it
///   reserves O(T d), never T x T, and uses O(T + leaves d) of it.
/// - Time, for each query head: dense O(T^2 d); near O(T (window + chunk) d); near + far O(T (window + chunk + leaves +
///   opened tokens) d); r x r O(r^2 d).
/// - A call is refused before anything is written: `invalid_shape` and `too_large` for what is no array or does not
///   fit, `invalid_representatives` for selections, `unsupported` for options that contradict each other or the call.
///   message(answer) names the argument.
///
/// The literal r x r problem is the paper's (arXiv:2605.03110). Logits + log of the cluster's size are ToMe's
/// proportional attention (arXiv:2210.09461). Near field and far field are FMMformer's terms (arXiv:2108.02347). Chunks
/// at absolute positions, leaves of just the older tokens, their correction and opening, and grouped queries are this
/// library's.
///
/// attend(q, kv, out, call)
/// attend(q, kv, selection, out, call)
/// attend(q, kv, selections, out, call)
///
/// out [tokens, heads, value_dim] = attention of q [tokens, heads, key_dim] to kv [tokens, kv_heads, ..]. Keys and
/// values are of q's type; where that is float, of any row type, as caches of 16 bits are beside float queries, or
/// computed (computed_rows.hpp), which gives bit for bit what the floats they stand for would. The values' rows may lie
/// in the keys' (multi-head latent attention), and all KV heads in the same rows (head_stride 0).
/// heads % kv_heads == 0; query head h reads KV head h / (heads / kv_heads). `out` must not overlap the inputs.
///
/// selection    of all keys of the one sequence, which all KV heads share: attend(q, kv, cascade.kept(), out)
/// selections   a span of them: one per sequence, which all its KV heads share, or one per (sequence, KV head),
///              sequence-major, of all of its keys. Where keys are neither representatives nor leaves (all, near, and
///              opening::all), none are needed, and none are looked at
/// call         what is optional, by name: several sequences, log-sum-exps, and more (attention_call.hpp)
///
/// Queries are the last positions of their sequence. Fewer queries than keys go on from earlier calls; by mass, they
/// begin at a multiple of options.tile, grouped, of options.chunk (a state lets them begin anywhere), and with
/// key_set::representatives there are as many as keys (`unsupported`). Without `causal`, dense attention lets any
/// number of queries attend to any number of keys.
///
/// attend.extend(state, q, kv, out, extension)
/// attend.extend(state, q, kv, selection, out, extension)
/// attend.extend(state, q, kv, selections, out, extension)
///
/// One sequence that grows (attention_state): q holds its next tokens, kv all tokens so far and maybe unread rows
/// behind them. The leaves of earlier tokens are not made again. `selections`, one or one per KV head, are of the
/// tokens before the last chunk's edge, or more; what was given before must not change (a selection of more tokens does
/// not). They are looked at when that edge has moved; gfx942 asks for them in every call with a far field. Grouped
/// queries, key_set::representatives and !causal: `unsupported`.
///
/// attend.load(state, kv, bytes), on the CPU
///
/// Turns the state to one that was saved, state.save(bytes), by attention with the same Scalar and options; kv holds
/// the keys and values of its tokens. Rows of later calls are, bit for bit, those of the state that was saved, on one
/// instruction set. Another one reads the bytes as well: its rows are its own, and the tile at hand goes on with what
/// its first tokens opened. Leaves are not saved but made again, in the time that forming them took. Refused are bytes
/// that were cut off or changed, or belong to other options or shapes; those that someone made up can cost right
/// results, never more. If the call is refused or memory runs out, the state stays as it was.
///
/// attend.report(), on the CPU
///
/// What the last call that succeeded read: near keys, leaves, opened tokens, and the mass that closed leaves kept
/// (attention_report.hpp).
///
/// An object takes one call at a time, which works on all threads of its executor; it may serve any number of
/// sequences. Const use from several threads is safe, and so are calls of different objects. It moves, and copies on
/// the CPU.
template <row_scalar Scalar, backend B = default_backend>
class attention;

/// What attention keeps of one sequence in one layer, so that it can grow. K and V stay with the caller: later calls
/// read rows of any earlier token.
///
///   tokens()          how many there are
///   reserve(tokens)   the next call makes room for so many; those that follow allocate nothing up to there
///   truncate(tokens)  forgets those from there on (speculative decoding). `invalid_shape` if there are not as many;
///                     `unsupported` where leaves open by mass, inside a tile of long ago, on gfx942 a band of
///                     tiles. O(T), and maybe the time that its leaves took, in the next call
///   clear()           forgets the sequence; memory is kept
///   save(bytes)       on the CPU, to bytes [saved_bytes()], for attend.load: of each selection a number for each token
///                     that leaves stand for, and what the last two tiles opened. O(T)
///   bytes()           memory in use: grows with the leaves
///   fork(to)          makes `to` an independent copy: a sequence that branches, or a prompt that several share
///
/// If an executor throws in the middle of a call, or a device's runtime fails, the state is refused until it is cleared
/// (`unsupported`). A copy, on the CPU, is independent, too. A state is used by one call at a time; those of different
/// sequences may be in different threads' calls, and const use from several threads is safe.
template <row_scalar Scalar, backend B = default_backend>
class attention_state;

/// What every backend's attention offers, for selections as its selector and cascade keep them.
template <class Attention, class Scalar, class Selection>
concept token_attention =
    std::movable<Attention> &&
    requires(Attention attend, heads_view<const Scalar> q, const strided_kv<Scalar>& kv, const Selection& selection,
             std::span<const Selection> selections, heads_view<Scalar> out, const attention_call& call) {
      { attend(q, kv, out) } -> std::same_as<status>;
      { attend(q, kv, out, call) } -> std::same_as<status>;
      { attend(q, kv, selection, out) } -> std::same_as<status>;
      { attend(q, kv, selection, out, call) } -> std::same_as<status>;
      { attend(q, kv, selections, out) } -> std::same_as<status>;
      { attend(q, kv, selections, out, call) } -> std::same_as<status>;
    };

/// The state of a sequence, where a backend has sequences that grow.
template <class State>
concept extended_attention_state = std::movable<State> && std::default_initializable<State> &&
                                   requires(State state, const State done, index_t tokens) {
                                     { done.fork(state) } -> std::same_as<status>;
                                     { state.truncate(tokens) } -> std::same_as<status>;
                                     { state.reserve(tokens) } -> std::same_as<void>;
                                     { state.clear() } -> std::same_as<void>;
                                     { done.tokens() } -> std::same_as<index_t>;
                                     { done.bytes() } -> std::same_as<std::size_t>;
                                   };

/// What attention offers there: calls that go on with a state.
template <class Attention, class State, class Scalar, class Selection>
concept extending_token_attention =
    token_attention<Attention, Scalar, Selection> && extended_attention_state<State> &&
    requires(Attention attend, State& state, heads_view<const Scalar> q, const strided_kv<Scalar>& kv,
             const Selection& selection, std::span<const Selection> selections, heads_view<Scalar> out,
             const attention_extension& call) {
      { attend.extend(state, q, kv, out) } -> std::same_as<status>;
      { attend.extend(state, q, kv, out, call) } -> std::same_as<status>;
      { attend.extend(state, q, kv, selection, out) } -> std::same_as<status>;
      { attend.extend(state, q, kv, selection, out, call) } -> std::same_as<status>;
      { attend.extend(state, q, kv, selections, out) } -> std::same_as<status>;
      { attend.extend(state, q, kv, selections, out, call) } -> std::same_as<status>;
    };

/// What a state offers on the CPU: it is saved, and copies, which are independent.
template <class State>
concept token_attention_state =
    extended_attention_state<State> && std::copyable<State> && requires(const State done, std::span<std::byte> bytes) {
      { done.saved_bytes() } -> std::same_as<std::size_t>;
      { done.save(bytes) } -> std::same_as<status>;
    };

/// And attention there.
template <class Attention, class State, class Scalar, class Selection>
concept growing_token_attention =
    extending_token_attention<Attention, State, Scalar, Selection> && token_attention_state<State> &&
    requires(Attention attend, State& state, const strided_kv<Scalar>& kv, std::span<const std::byte> bytes) {
      { attend.load(state, kv, bytes) } -> std::same_as<status>;
      { attend.report() } -> std::convertible_to<attention_report>;
    };

}  // namespace cascada::inline CASCADA_ABI
