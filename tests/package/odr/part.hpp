#pragma once
// One half of the pair: the stages as one object file has them. No type with code of its own crosses the border.

struct part_result {
  static constexpr int tokens = 150, width = 24, heads = 4, dim = 16;

  int   selected[tokens];                // rep of a full selection
  int   literal[tokens];                 // of the T x T selection
  int   walked[2][tokens];               // of the third step of a cascade, by kind of validation
  int   narrow[tokens];                  // of bfloat16 rows
  float attended[tokens * heads * dim];  // near and far field, whose leaves open
  int   grown_set[tokens];               // of a sequence that grew
  float grown[tokens * heads * dim];
  float grouped[tokens * heads * dim];
  float compressed[tokens * heads * dim];  // literal r x r
  float terms[tokens * heads * dim];       // dense, with all that models add to it, merged of two parts

  long long leaves, opened, computed;  // as the first reports them
};

/// False on any status but ok.
bool run_first(part_result& result);
bool run_second(part_result& result);
