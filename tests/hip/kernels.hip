// Every kernel of the gfx942 backend, for the compiler alone: code_gates.py reads what it makes of them.

#include "cascada/hip/advance.hpp"
#include "cascada/hip/attend.hpp"
#include "cascada/hip/attend_chosen.hpp"
#include "cascada/hip/choose_tokens.hpp"
#include "cascada/hip/count_older.hpp"
#include "cascada/hip/groups.hpp"
#include "cascada/hip/lift.hpp"
#include "cascada/hip/score_clusters.hpp"

using namespace cascada;

#define ENTRY(...) template __attribute__((global)) void hip::entry<__VA_ARGS__>(__VA_ARGS__)

ENTRY(hip::selection_begin<bfloat16>);
ENTRY(hip::selection_begin<float16>);
ENTRY(hip::selection_graph<bfloat16>);
ENTRY(hip::selection_graph<float16>);
ENTRY(hip::selection_cross_gram<bfloat16>);
ENTRY(hip::selection_cross_gram<float16>);
ENTRY(hip::selection_advance<bfloat16, assignment::lowest_index>);
ENTRY(hip::selection_advance<bfloat16, assignment::nearest>);
ENTRY(hip::selection_advance<float16, assignment::lowest_index>);
ENTRY(hip::selection_advance<float16, assignment::nearest>);
ENTRY(hip::selection_finish<bfloat16>);
ENTRY(hip::selection_finish<float16>);

ENTRY(hip::cluster_offsets);
ENTRY(hip::cluster_members);
ENTRY(hip::far_fields);
ENTRY(hip::cluster_means<bfloat16>);
ENTRY(hip::cluster_means<float16>);
ENTRY(hip::lift<bfloat16>);
ENTRY(hip::lift<float16>);
ENTRY(hip::lift<float>);
ENTRY(hip::attend<bfloat16, bfloat16, 64>);
ENTRY(hip::attend<bfloat16, bfloat16, 128>);
ENTRY(hip::attend<bfloat16, bfloat16, 256>);
ENTRY(hip::attend<bfloat16, float, 64>);
ENTRY(hip::attend<bfloat16, float, 128>);
ENTRY(hip::attend<bfloat16, float, 256>);
ENTRY(hip::attend<float16, float16, 64>);
ENTRY(hip::attend<float16, float16, 128>);
ENTRY(hip::attend<float16, float16, 256>);
ENTRY(hip::attend<float16, float, 64>);
ENTRY(hip::attend<float16, float, 128>);
ENTRY(hip::attend<float16, float, 256>);
ENTRY(hip::attend<bfloat16, bfloat16, 64, hip::counts_of_pairs>);
ENTRY(hip::attend<bfloat16, bfloat16, 128, hip::counts_of_pairs>);
ENTRY(hip::attend<bfloat16, bfloat16, 256, hip::counts_of_pairs>);
ENTRY(hip::attend<bfloat16, float, 64, hip::counts_of_pairs>);
ENTRY(hip::attend<bfloat16, float, 128, hip::counts_of_pairs>);
ENTRY(hip::attend<bfloat16, float, 256, hip::counts_of_pairs>);
ENTRY(hip::attend<float16, float16, 64, hip::counts_of_pairs>);
ENTRY(hip::attend<float16, float16, 128, hip::counts_of_pairs>);
ENTRY(hip::attend<float16, float16, 256, hip::counts_of_pairs>);
ENTRY(hip::attend<float16, float, 64, hip::counts_of_pairs>);
ENTRY(hip::attend<float16, float, 128, hip::counts_of_pairs>);
ENTRY(hip::attend<float16, float, 256, hip::counts_of_pairs>);

ENTRY(hip::count_older);
ENTRY(hip::chunk_groups);
ENTRY(hip::list_askers);
ENTRY(hip::group_means<bfloat16>);
ENTRY(hip::group_means<float16>);
ENTRY(hip::list_candidates);
ENTRY(hip::choose_tokens);
ENTRY(hip::score_clusters<bfloat16, 64>);
ENTRY(hip::score_clusters<bfloat16, 128>);
ENTRY(hip::score_clusters<bfloat16, 256>);
ENTRY(hip::score_clusters<float16, 64>);
ENTRY(hip::score_clusters<float16, 128>);
ENTRY(hip::score_clusters<float16, 256>);
ENTRY(hip::score_candidates<bfloat16, 64>);
ENTRY(hip::score_candidates<bfloat16, 128>);
ENTRY(hip::score_candidates<bfloat16, 256>);
ENTRY(hip::score_candidates<float16, 64>);
ENTRY(hip::score_candidates<float16, 128>);
ENTRY(hip::score_candidates<float16, 256>);
ENTRY(hip::attend_chosen<bfloat16, 64>);
ENTRY(hip::attend_chosen<bfloat16, 128>);
ENTRY(hip::attend_chosen<bfloat16, 256>);
ENTRY(hip::attend_chosen<float16, 64>);
ENTRY(hip::attend_chosen<float16, 128>);
ENTRY(hip::attend_chosen<float16, 256>);
