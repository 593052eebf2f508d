"""What the assignment of keys to chains compares."""
from collections import Counter


def anchors_met(clusters, chains):
    """Pairs of a key and an earlier anchor of its cluster, given the cluster and the chain of each key in token order. The
    first key of a chain is its anchor; a chain's number is only a name."""
    anchors, begun, met = Counter(), set(), 0
    for cluster, chain in zip(clusters, chains):
        met += anchors[int(cluster)]
        if int(chain) not in begun:
            begun.add(int(chain))
            anchors[int(cluster)] += 1
    return met
