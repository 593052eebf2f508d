"""What makes a report well-formed is itself tested: a good one passes, each kind of damage is found."""
import copy
import unittest

from harness.chains import anchors_met
from harness.report import LABELS, MEASURES, MORE_NAMES, NAMES, faults, meets_target, variant
from table import UNITS, rows

ENTRY = {"name": "cascade_1024", "case": "", "measure": "ratio", "value": 1.3, "target": 1.2, "ours": 1.0, "peer": 1.3,
         "peer_name": "own full selection", "ratio": 1.3, "of_peak": 0.5, "threads": 1, "T": 1024, "d": 576,
         "heads": None, "r": 340, "repetitions": 9, "spread": 0.02, "series": None}
REPORT = {"machine": {}, "peers": {}, "settings": {}, "entries": [ENTRY],
          "gaps": [{"name": name, "reason": "not asked for"} for name in NAMES if name != "cascade_1024"]}


class Counting(unittest.TestCase):
    def test_keys_meet_the_anchors_of_their_cluster(self):
        self.assertEqual(anchors_met([0, 0, 0, 1, 0], [0, 1, 0, 2, 3]), 0 + 1 + 2 + 0 + 2)

    def test_the_numbers_of_chains_are_names(self):
        self.assertEqual(anchors_met([0, 1, 0, 1], [7, 3, 5, 3]), anchors_met([0, 1, 0, 1], [0, 1, 2, 1]))


class WellFormed(unittest.TestCase):
    def damaged(self, damage):
        report = copy.deepcopy(REPORT)
        damage(report)
        return faults(report)

    def test_a_good_report_passes(self):
        self.assertEqual(faults(REPORT), [])

    def test_each_kind_of_damage_is_found(self):
        for what, damage in {
            "a part": lambda report: report.pop("gaps"),
            "a name": lambda report: report["gaps"].pop(),
            "a gap's reason": lambda report: report["gaps"][0].update(reason=""),
            "a field": lambda report: report["entries"][0].pop("spread"),
            "a type": lambda report: report["entries"][0].update(T="1024"),
            "a measure": lambda report: report["entries"][0].update(measure="speed"),
            "a NaN": lambda report: report["entries"][0].update(value=float("nan")),
            "a negative time": lambda report: report["entries"][0].update(ours=-1.0),
            "half a peer": lambda report: report["entries"][0].update(peer_name=None),
        }.items():
            with self.subTest(what):
                self.assertTrue(self.damaged(damage))

    def test_targets(self):
        self.assertTrue(meets_target(ENTRY))
        self.assertFalse(meets_target({**ENTRY, "value": 1.1}))
        for measure in ("exponent", "cost"):
            self.assertTrue(meets_target({**ENTRY, "measure": measure, "value": 1.1}))
            self.assertFalse(meets_target({**ENTRY, "measure": measure, "value": 1.3}))
        self.assertIsNone(meets_target({**ENTRY, "target": None}))

    def test_every_name_has_a_label_and_every_measure_a_unit(self):
        self.assertEqual(set(LABELS), set(NAMES + MORE_NAMES))
        self.assertEqual(set(UNITS), set(MEASURES))


class Table(unittest.TestCase):
    def test_variants_have_rows_of_their_own(self):
        cases = [{**ENTRY, "case": "by keys: T=1"}, {**ENTRY, "case": "by keys: T=2"},
                 {**ENTRY, "case": "by cascade: T=1", "target": None}]
        found = [(label, len(entries)) for label, _, _, entries in rows(cases)]
        self.assertEqual(found, [("cascade, T = 1024, by keys", 2), ("cascade, T = 1024, by cascade", 1)])

    def test_cases_without_a_target_give_way_to_those_of_their_variant_that_have_one(self):
        self.assertEqual(variant(ENTRY), "")
        cases = [ENTRY, {**ENTRY, "peer_name": "another", "target": None}]
        self.assertEqual([peer for _, peer, _, _ in rows(cases)], ["own full selection"])


if __name__ == "__main__":
    unittest.main()
