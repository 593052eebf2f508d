// Another file of the user's, which may share a translation unit with the first.
#include <cascada/cascada.hpp>

int kept_of(const float* rows, cascada::index_t tokens, cascada::index_t columns);

int kept_of(const float* rows, cascada::index_t tokens, cascada::index_t columns) {
  cascada::growing_selection<float> select(cascada::presets::balanced.selection);
  return select.extend({rows, tokens, columns, columns}) == cascada::status::ok ? select.kept().count() : -1;
}
