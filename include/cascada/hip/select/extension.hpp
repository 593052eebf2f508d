#pragma once
// An extension, a call of a set that grows: new tokens are selected behind the representatives so far, as if those were
// the whole sequence: other tokens cover nothing.
//
//   begin_extension  norms of the new tokens; what each inherits
//   graph            as in a selection (call.hpp); not for a single token
//   meet_kept        all new tokens meet the representatives so far, these cut into parts; then the parts are joined
//   advance          as in a selection, over the stretches of the new tokens
//   adopt            the set so far and what is new of it; rows of new representatives are copied
//
// Inside a call, tokens are numbered: the new ones from 0 on, and the representative at place p of R p - room - 256. So
// numbers ascend as tokens do, stretches are those of the new tokens alone, and no representative so far is a neighbour
// of one. What kernels of a selection look up by number has entries below 0: a kept one stands for itself, inherits
// itself, and has as many before it as its place says.
//
// How many tokens there are, and representatives, the device knows: nothing of it is an argument of a launch. So a call
// that was captured in a graph goes on, each time it is replayed, from what is there.

#include <cstdint>

#include "cascada/hip/base/covering_row.hpp"
#include "cascada/hip/gram/panel.hpp"
#include "cascada/hip/gram/tile.hpp"
#include "cascada/hip/select/call.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

/// What a set that grows is, in numbers. A call that fails leaves its answer, and all later ones fail with it, until
/// the tokens of it are forgotten.
struct grown_state {
  index_t      tokens, representatives;  // so far, those of calls that failed left out
  index_t      begun;                    // tokens at the call's begin
  index_t      extended;                 // tokens after the last call that did not fail
  status::code answer;
};

/// Device memory of a set that grows.
template <matrix_scalar Scalar>
struct grown_set {
  layer_memory layer;  // as kept() shows it, and count -1 where a call has failed
  index_t*     place;  // [token_room] of each token's representative in R
  Scalar*      rows;   // [room, d] of representatives
  grown_state* state;
  index_t      token_room, room;  // tokens and representatives that there is memory for

  /// Of the representative at a place of R: its number inside a call; and back.
  CASCADA_HOST_DEVICE CASCADA_INLINE index_t number_of(index_t p) const { return p - room - stretch_tokens; }
  CASCADA_HOST_DEVICE CASCADA_INLINE index_t place_of(index_t number) const { return number + room + stretch_tokens; }
};

/// What every kernel of an extension is given.
template <matrix_scalar Scalar>
struct extension_call {
  using selection = selection_call<Scalar, gram_rows_behind>;

  static constexpr index_t most_parts = 2 * gfx942::compute_units;

  selection         call;
  grown_set<Scalar> set;
  const index_t*    below;        // rep of the layer below, by token; null: nothing is inherited
  const index_t*    below_count;  // negative: there is none, since it failed
  covering_row*     met;          // [parts, n] what each part of R has for the tokens

  CASCADA_HOST_DEVICE CASCADA_INLINE index_t token_blocks() const {
    return (call.tokens() + scan_tokens - 1) / scan_tokens;
  }

  /// Parts that R is cut into: where tokens are few, as many as keep the compute units busy.
  CASCADA_HOST_DEVICE CASCADA_INLINE index_t parts() const {
    const index_t most = call.tokens() > 0 ? most_parts / token_blocks() : 0, panels = panels_of(set.room);
    const index_t parts = most < panels ? most : panels;
    return parts > 1 ? parts : 1;
  }

  /// Those of them that have some of R: the first ones. Known to the device alone.
  CASCADA_DEVICE CASCADA_INLINE index_t parts_in_use() const {
    return (panels_of(kept()) + panels_of_part() - 1) / panels_of_part();
  }

  /// The first place of a part, and where the last one in use ends.
  CASCADA_DEVICE CASCADA_INLINE index_t part_begin(index_t part) const {
    const index_t panel = part * panels_of_part();
    return panel < panels_of(kept()) ? panel * gram_panel::rows : kept();
  }

  /// Representatives so far; negative: the call has failed.
  CASCADA_DEVICE CASCADA_INLINE index_t kept() const { return call.memory.known[0].representatives; }

 private:
  CASCADA_HOST_DEVICE CASCADA_INLINE static index_t panels_of(index_t places) {
    return places > 0 ? (places - 1) / gram_panel::rows + 1 : 0;
  }

  /// Where there is something kept.
  CASCADA_DEVICE CASCADA_INLINE index_t panels_of_part() const { return (panels_of(kept()) - 1) / parts() + 1; }
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
