// Every kernel of the gfx942 backend, for the compiler alone: code_gates.py reads what it makes of them.

#include "cascada/hip/attention/ask_leaves.hpp"
#include "cascada/hip/attention/attend.hpp"
#include "cascada/hip/attention/begin_tokens.hpp"
#include "cascada/hip/attention/copy_results.hpp"
#include "cascada/hip/attention/count_older.hpp"
#include "cascada/hip/attention/extend_means.hpp"
#include "cascada/hip/attention/find_grown_anchors.hpp"
#include "cascada/hip/attention/form_leaves.hpp"
#include "cascada/hip/attention/gather_clusters.hpp"
#include "cascada/hip/attention/groups.hpp"
#include "cascada/hip/attention/join_chains.hpp"
#include "cascada/hip/attention/leaf_statistics.hpp"
#include "cascada/hip/attention/leaves_by_keys.hpp"
#include "cascada/hip/attention/linked_leaves.hpp"
#include "cascada/hip/attention/list_far_rows.hpp"
#include "cascada/hip/attention/list_leaves.hpp"
#include "cascada/hip/attention/merge.hpp"
#include "cascada/hip/attention/merge_segments.hpp"
#include "cascada/hip/attention/open_leaves.hpp"
#include "cascada/hip/attention/truncate_tokens.hpp"
#include "cascada/hip/select/adopt.hpp"
#include "cascada/hip/select/advance.hpp"
#include "cascada/hip/select/begin.hpp"
#include "cascada/hip/select/begin_extension.hpp"
#include "cascada/hip/select/count.hpp"
#include "cascada/hip/select/cross_gram.hpp"
#include "cascada/hip/select/graph.hpp"
#include "cascada/hip/select/meet_kept.hpp"
#include "cascada/hip/select/number_kept.hpp"
#include "cascada/hip/select/truncate.hpp"

using namespace cascada;

#define ENTRY(...) template __attribute__((global)) void hip::entry<__VA_ARGS__>(__VA_ARGS__)

ENTRY(hip::select::selection_begin<bfloat16>);
ENTRY(hip::select::selection_begin<float16>);
ENTRY(hip::select::selection_graph<bfloat16>);
ENTRY(hip::select::selection_graph<float16>);
ENTRY(hip::select::selection_cross_gram<bfloat16>);
ENTRY(hip::select::selection_cross_gram<float16>);
ENTRY(hip::select::selection_advance<bfloat16, assignment::lowest_index>);
ENTRY(hip::select::selection_advance<bfloat16, assignment::nearest>);
ENTRY(hip::select::selection_advance<float16, assignment::lowest_index>);
ENTRY(hip::select::selection_advance<float16, assignment::nearest>);
ENTRY(hip::select::selection_count<bfloat16>);
ENTRY(hip::select::selection_count<float16>);

ENTRY(hip::select::begin_extension<bfloat16>);
ENTRY(hip::select::begin_extension<float16>);
ENTRY(hip::select::meet_kept<bfloat16, assignment::lowest_index>);
ENTRY(hip::select::meet_kept<bfloat16, assignment::nearest>);
ENTRY(hip::select::meet_kept<float16, assignment::lowest_index>);
ENTRY(hip::select::meet_kept<float16, assignment::nearest>);
ENTRY(hip::select::join_kept<bfloat16, assignment::lowest_index>);
ENTRY(hip::select::join_kept<bfloat16, assignment::nearest>);
ENTRY(hip::select::join_kept<float16, assignment::lowest_index>);
ENTRY(hip::select::join_kept<float16, assignment::nearest>);
ENTRY(hip::select::selection_advance<bfloat16, assignment::lowest_index, hip::gram::gram_rows_behind>);
ENTRY(hip::select::selection_advance<bfloat16, assignment::nearest, hip::gram::gram_rows_behind>);
ENTRY(hip::select::selection_advance<float16, assignment::lowest_index, hip::gram::gram_rows_behind>);
ENTRY(hip::select::selection_advance<float16, assignment::nearest, hip::gram::gram_rows_behind>);
ENTRY(hip::select::adopt_extension<bfloat16>);
ENTRY(hip::select::adopt_extension<float16>);
ENTRY(hip::select::truncate_selection<bfloat16>);
ENTRY(hip::select::truncate_selection<float16>);
ENTRY(hip::select::number_kept<bfloat16>);
ENTRY(hip::select::number_kept<float16>);

ENTRY(hip::attention::gather_selections);
ENTRY(hip::attention::cluster_offsets);
ENTRY(hip::attention::cluster_members);
ENTRY(hip::attention::form_leaves);
ENTRY(hip::attention::begin_chains<bfloat16>);
ENTRY(hip::attention::begin_chains<bfloat16, hip::attention::rows_in_pages>);
ENTRY(hip::attention::begin_chains<float16>);
ENTRY(hip::attention::begin_chains<float16, hip::attention::rows_in_pages>);
ENTRY(hip::attention::find_anchors<bfloat16>);
ENTRY(hip::attention::find_anchors<bfloat16, hip::attention::rows_in_pages>);
ENTRY(hip::attention::find_anchors<float16>);
ENTRY(hip::attention::find_anchors<float16, hip::attention::rows_in_pages>);
ENTRY(hip::attention::meet_anchors<bfloat16>);
ENTRY(hip::attention::meet_anchors<bfloat16, hip::attention::rows_in_pages>);
ENTRY(hip::attention::meet_anchors<float16>);
ENTRY(hip::attention::meet_anchors<float16, hip::attention::rows_in_pages>);
ENTRY(hip::attention::count_chains);
ENTRY(hip::attention::chain_offsets);
ENTRY(hip::attention::order_chains);
ENTRY(hip::attention::find_rows);
ENTRY(hip::attention::find_member_rows);
ENTRY(hip::attention::lay_out_values<bfloat16>);
ENTRY(hip::attention::lay_out_values<float16>);
ENTRY(hip::attention::list_leaves);
ENTRY(hip::attention::leaf_means<bfloat16>);
ENTRY(hip::attention::leaf_means<bfloat16, hip::attention::rows_in_pages>);
ENTRY(hip::attention::leaf_means<float16>);
ENTRY(hip::attention::leaf_means<float16, hip::attention::rows_in_pages>);
ENTRY(hip::attention::list_far_rows);
ENTRY(hip::attention::copy_results<bfloat16>);
ENTRY(hip::attention::copy_results<float16>);
ENTRY(hip::attention::attend<bfloat16, 64>);
ENTRY(hip::attention::attend<bfloat16, 64, hip::attention::counts_of_keys, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<bfloat16, 128>);
ENTRY(hip::attention::attend<bfloat16, 128, hip::attention::counts_of_keys, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<bfloat16, 256>);
ENTRY(hip::attention::attend<bfloat16, 256, hip::attention::counts_of_keys, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<float16, 64>);
ENTRY(hip::attention::attend<float16, 64, hip::attention::counts_of_keys, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<float16, 128>);
ENTRY(hip::attention::attend<float16, 128, hip::attention::counts_of_keys, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<float16, 256>);
ENTRY(hip::attention::attend<float16, 256, hip::attention::counts_of_keys, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<bfloat16, 64, hip::attention::counts_of_pairs>);
ENTRY(hip::attention::attend<bfloat16, 64, hip::attention::counts_of_pairs, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<bfloat16, 128, hip::attention::counts_of_pairs>);
ENTRY(hip::attention::attend<bfloat16, 128, hip::attention::counts_of_pairs, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<bfloat16, 256, hip::attention::counts_of_pairs>);
ENTRY(hip::attention::attend<bfloat16, 256, hip::attention::counts_of_pairs, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<float16, 64, hip::attention::counts_of_pairs>);
ENTRY(hip::attention::attend<float16, 64, hip::attention::counts_of_pairs, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<float16, 128, hip::attention::counts_of_pairs>);
ENTRY(hip::attention::attend<float16, 128, hip::attention::counts_of_pairs, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<float16, 256, hip::attention::counts_of_pairs>);
ENTRY(hip::attention::attend<float16, 256, hip::attention::counts_of_pairs, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<bfloat16, 64, hip::attention::closed_leaves_of_bands>);
ENTRY(hip::attention::attend<bfloat16, 64, hip::attention::closed_leaves_of_bands, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<bfloat16, 128, hip::attention::closed_leaves_of_bands>);
ENTRY(hip::attention::attend<bfloat16, 128, hip::attention::closed_leaves_of_bands, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<bfloat16, 256, hip::attention::closed_leaves_of_bands>);
ENTRY(hip::attention::attend<bfloat16, 256, hip::attention::closed_leaves_of_bands, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<float16, 64, hip::attention::closed_leaves_of_bands>);
ENTRY(hip::attention::attend<float16, 64, hip::attention::closed_leaves_of_bands, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<float16, 128, hip::attention::closed_leaves_of_bands>);
ENTRY(hip::attention::attend<float16, 128, hip::attention::closed_leaves_of_bands, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<float16, 256, hip::attention::closed_leaves_of_bands>);
ENTRY(hip::attention::attend<float16, 256, hip::attention::closed_leaves_of_bands, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<bfloat16, 64, hip::attention::adjusted_counts>);
ENTRY(hip::attention::attend<bfloat16, 64, hip::attention::adjusted_counts, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<bfloat16, 128, hip::attention::adjusted_counts>);
ENTRY(hip::attention::attend<bfloat16, 128, hip::attention::adjusted_counts, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<bfloat16, 256, hip::attention::adjusted_counts>);
ENTRY(hip::attention::attend<bfloat16, 256, hip::attention::adjusted_counts, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<float16, 64, hip::attention::adjusted_counts>);
ENTRY(hip::attention::attend<float16, 64, hip::attention::adjusted_counts, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<float16, 128, hip::attention::adjusted_counts>);
ENTRY(hip::attention::attend<float16, 128, hip::attention::adjusted_counts, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<float16, 256, hip::attention::adjusted_counts>);
ENTRY(hip::attention::attend<float16, 256, hip::attention::adjusted_counts, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<bfloat16, 64, hip::attention::adjusted_closed_leaves_of_bands>);
ENTRY(hip::attention::attend<bfloat16, 64, hip::attention::adjusted_closed_leaves_of_bands,
                             hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<bfloat16, 128, hip::attention::adjusted_closed_leaves_of_bands>);
ENTRY(hip::attention::attend<bfloat16, 128, hip::attention::adjusted_closed_leaves_of_bands,
                             hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<bfloat16, 256, hip::attention::adjusted_closed_leaves_of_bands>);
ENTRY(hip::attention::attend<bfloat16, 256, hip::attention::adjusted_closed_leaves_of_bands,
                             hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<float16, 64, hip::attention::adjusted_closed_leaves_of_bands>);
ENTRY(hip::attention::attend<float16, 64, hip::attention::adjusted_closed_leaves_of_bands,
                             hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<float16, 128, hip::attention::adjusted_closed_leaves_of_bands>);
ENTRY(hip::attention::attend<float16, 128, hip::attention::adjusted_closed_leaves_of_bands,
                             hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<float16, 256, hip::attention::adjusted_closed_leaves_of_bands>);
ENTRY(hip::attention::attend<float16, 256, hip::attention::adjusted_closed_leaves_of_bands,
                             hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<bfloat16, 64, hip::attention::sloped_keys>);
ENTRY(hip::attention::attend<bfloat16, 128, hip::attention::sloped_keys>);
ENTRY(hip::attention::attend<bfloat16, 256, hip::attention::sloped_keys>);
ENTRY(hip::attention::attend<float16, 64, hip::attention::sloped_keys>);
ENTRY(hip::attention::attend<float16, 128, hip::attention::sloped_keys>);
ENTRY(hip::attention::attend<float16, 256, hip::attention::sloped_keys>);
ENTRY(hip::attention::attend<bfloat16, 64, hip::attention::sloped_keys, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<bfloat16, 128, hip::attention::sloped_keys, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<bfloat16, 256, hip::attention::sloped_keys, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<float16, 64, hip::attention::sloped_keys, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<float16, 128, hip::attention::sloped_keys, hip::attention::rows_in_pages>);
ENTRY(hip::attention::attend<float16, 256, hip::attention::sloped_keys, hip::attention::rows_in_pages>);

ENTRY(hip::attention::merge_segments<bfloat16, 64>);
ENTRY(hip::attention::merge_segments<bfloat16, 128>);
ENTRY(hip::attention::merge_segments<bfloat16, 256>);
ENTRY(hip::attention::merge_segments<float16, 64>);
ENTRY(hip::attention::merge_segments<float16, 128>);
ENTRY(hip::attention::merge_segments<float16, 256>);
ENTRY(hip::attention::merge_rows<float, float, float>);
ENTRY(hip::attention::merge_rows<bfloat16, bfloat16, bfloat16>);
ENTRY(hip::attention::merge_rows<float16, float16, float16>);
ENTRY(hip::attention::merge_rows<bfloat16, float, bfloat16>);

ENTRY(hip::attention::ask_leaves<bfloat16, 64>);
ENTRY(hip::attention::ask_leaves<bfloat16, 64, hip::attention::leaves_of_bands, hip::attention::rows_in_pages>);
ENTRY(hip::attention::ask_leaves<bfloat16, 128>);
ENTRY(hip::attention::ask_leaves<bfloat16, 128, hip::attention::leaves_of_bands, hip::attention::rows_in_pages>);
ENTRY(hip::attention::ask_leaves<bfloat16, 256>);
ENTRY(hip::attention::ask_leaves<bfloat16, 256, hip::attention::leaves_of_bands, hip::attention::rows_in_pages>);
ENTRY(hip::attention::ask_leaves<float16, 64>);
ENTRY(hip::attention::ask_leaves<float16, 64, hip::attention::leaves_of_bands, hip::attention::rows_in_pages>);
ENTRY(hip::attention::ask_leaves<float16, 128>);
ENTRY(hip::attention::ask_leaves<float16, 128, hip::attention::leaves_of_bands, hip::attention::rows_in_pages>);
ENTRY(hip::attention::ask_leaves<float16, 256>);
ENTRY(hip::attention::ask_leaves<float16, 256, hip::attention::leaves_of_bands, hip::attention::rows_in_pages>);
ENTRY(hip::attention::ask_leaves<bfloat16, 64, hip::attention::adjusted_leaves_of_bands>);
ENTRY(
    hip::attention::ask_leaves<bfloat16, 64, hip::attention::adjusted_leaves_of_bands, hip::attention::rows_in_pages>);
ENTRY(hip::attention::ask_leaves<bfloat16, 128, hip::attention::adjusted_leaves_of_bands>);
ENTRY(
    hip::attention::ask_leaves<bfloat16, 128, hip::attention::adjusted_leaves_of_bands, hip::attention::rows_in_pages>);
ENTRY(hip::attention::ask_leaves<bfloat16, 256, hip::attention::adjusted_leaves_of_bands>);
ENTRY(
    hip::attention::ask_leaves<bfloat16, 256, hip::attention::adjusted_leaves_of_bands, hip::attention::rows_in_pages>);
ENTRY(hip::attention::ask_leaves<float16, 64, hip::attention::adjusted_leaves_of_bands>);
ENTRY(hip::attention::ask_leaves<float16, 64, hip::attention::adjusted_leaves_of_bands, hip::attention::rows_in_pages>);
ENTRY(hip::attention::ask_leaves<float16, 128, hip::attention::adjusted_leaves_of_bands>);
ENTRY(
    hip::attention::ask_leaves<float16, 128, hip::attention::adjusted_leaves_of_bands, hip::attention::rows_in_pages>);
ENTRY(hip::attention::ask_leaves<float16, 256, hip::attention::adjusted_leaves_of_bands>);
ENTRY(
    hip::attention::ask_leaves<float16, 256, hip::attention::adjusted_leaves_of_bands, hip::attention::rows_in_pages>);
ENTRY(hip::attention::open_leaves<hip::attention::formed_leaves<hip::attention::rows_in_order>>);
ENTRY(hip::attention::open_leaves<hip::attention::formed_leaves<hip::attention::rows_in_pages>>);
ENTRY(hip::attention::open_leaves<hip::attention::linked_leaves<hip::attention::rows_in_order>>);
ENTRY(hip::attention::open_leaves<hip::attention::linked_leaves<hip::attention::rows_in_pages>>);
ENTRY(hip::attention::count_older);
ENTRY(hip::attention::chunk_groups);
ENTRY(hip::attention::list_leaders);
ENTRY(hip::attention::gather_clusters);
ENTRY(hip::attention::begin_tokens);
ENTRY(hip::attention::truncate_tokens);
ENTRY(hip::attention::join_chains<false>);
ENTRY(hip::attention::join_chains<true>);
ENTRY(hip::attention::meet_grown_anchors<bfloat16>);
ENTRY(hip::attention::meet_grown_anchors<bfloat16, hip::attention::rows_in_pages>);
ENTRY(hip::attention::meet_grown_anchors<float16>);
ENTRY(hip::attention::meet_grown_anchors<float16, hip::attention::rows_in_pages>);
ENTRY(hip::attention::find_grown_anchors<bfloat16>);
ENTRY(hip::attention::find_grown_anchors<bfloat16, hip::attention::rows_in_pages>);
ENTRY(hip::attention::find_grown_anchors<float16>);
ENTRY(hip::attention::find_grown_anchors<float16, hip::attention::rows_in_pages>);
ENTRY(hip::attention::list_new_leaves);
ENTRY(hip::attention::extend_means<bfloat16>);
ENTRY(hip::attention::extend_means<bfloat16, hip::attention::rows_in_pages>);
ENTRY(hip::attention::extend_means<float16>);
ENTRY(hip::attention::extend_means<float16, hip::attention::rows_in_pages>);
ENTRY(hip::attention::list_grown_rows);
ENTRY(hip::attention::truncate_leaves<false>);
ENTRY(hip::attention::truncate_leaves<true>);
