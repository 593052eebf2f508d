// Clusters: their members, in token order.

#include <vector>

#include "attention_data.hpp"
#include "cascada/cluster.hpp"
#include "catch.hpp"

using namespace cascada;
using namespace tests;

namespace {

struct lists {
  std::vector<index_t> cluster_of, offsets, members;
  clusters             view;

  explicit lists(const selection& s) : cluster_of(s.rep.size()), offsets(s.indices.size() + 1), members(s.rep.size()) {
    view = list_clusters(s.view(), cluster_of.data(), offsets.data(), members.data());
  }
};

}  // namespace

TEST_CASE("cluster: members in token order, the representative first", "[attention]") {
  const index_t T     = GENERATE(0, 1, 2, 64, 300);
  const double  share = GENERATE(0.0, 0.05, 0.5, 1.0);
  CAPTURE(T, share);
  const selection s = random_selection(T, share, 1);
  const lists     l(s);
  REQUIRE(l.view.count() == static_cast<index_t>(s.indices.size()));
  std::vector<index_t> seen;
  for (index_t j = 0; j < l.view.count(); ++j) {
    CHECK(l.view.representative(j) == s.indices[static_cast<std::size_t>(j)]);
    CHECK(l.view.end(j) - l.view.begin(j) == s.counts[static_cast<std::size_t>(j)]);
    for (index_t i = l.view.begin(j); i < l.view.end(j); ++i) {
      const index_t member = l.members[static_cast<std::size_t>(i)];
      CHECK(s.rep[static_cast<std::size_t>(member)] == l.view.representative(j));
      CHECK(l.cluster_of[static_cast<std::size_t>(member)] == j);
      CHECK((i == l.view.begin(j) || l.members[static_cast<std::size_t>(i) - 1] < member));
      CHECK(l.view.first_from(j, member) == i);
      CHECK(l.view.first_from(j, member + 1) == i + 1);
      seen.push_back(member);
    }
  }
  CHECK(seen.size() == s.rep.size());
}

TEST_CASE("cluster: counts that are wrong in sum's disguise do no harm", "[attention]") {
  selection s({0, 1, 1, 1});
  s.counts = {3, 1};  // adds up to T, but the clusters have 1 and 3 members
  const lists l(s);
  CHECK(l.offsets == std::vector<index_t>{0, 1, 4});
  CHECK(l.members == std::vector<index_t>{0, 1, 2, 3});
}
