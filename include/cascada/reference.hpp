#pragma once
// The whole method in plain loops: the oracle of every kernel, and the place to read how it works. Not for speed, and
// not part of cascada.hpp.
//
// A transformer layer sees T tokens, many of which say the same thing. Selection walks over them in order and keeps a
// token as a representative unless an earlier representative is close to it (cosine at least tau). The next layer
// does not select anew: it inherits the representatives, checks that each token is still covered by the one it had,
// and repairs the set where it is not. Attention then needs only the r representatives: all tokens ask few keys
// instead of T, each cluster of tokens answering with its mean, weighted by its size.
//
//   selection.hpp   the set, the cascade, and what both cost in Gram operations
//   attention.hpp   dense and compressed attention

#include "cascada/reference/attention.hpp"
#include "cascada/reference/selection.hpp"
