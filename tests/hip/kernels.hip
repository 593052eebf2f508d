// Every kernel of the gfx942 backend, for the compiler alone: code_gates.py reads what it makes of them.

#include "cascada/hip/attention/attend.hpp"
#include "cascada/hip/attention/copy_results.hpp"
#include "cascada/hip/attention/count_older.hpp"
#include "cascada/hip/attention/groups.hpp"
#include "cascada/hip/select/advance.hpp"
#include "cascada/hip/select/begin.hpp"
#include "cascada/hip/select/block_graph.hpp"
#include "cascada/hip/select/cross_gram.hpp"
#include "cascada/hip/select/finish.hpp"

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
ENTRY(hip::form_leaves);
ENTRY(hip::list_leaves);
ENTRY(hip::leaf_means<bfloat16>);
ENTRY(hip::leaf_means<float16>);
ENTRY(hip::far_fields);
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
