"""What makes a report well-formed is itself tested: a good one passes, each kind of damage is found."""
import copy
import unittest

from harness.report import NAMES, faults, meets_target

ENTRY = {"name": "cascade_1024", "case": "", "measure": "ratio", "value": 1.3, "target": 1.2, "ours": 1.0, "peer": 1.3,
         "peer_name": "own full selection", "ratio": 1.3, "of_peak": 0.5, "threads": 1, "T": 1024, "d": 576,
         "heads": None, "r": 340, "repetitions": 9, "spread": 0.02, "series": None}
REPORT = {"machine": {}, "peers": {}, "settings": {}, "entries": [ENTRY],
          "gaps": [{"name": name, "reason": "not asked for"} for name in NAMES if name != "cascade_1024"]}


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
        self.assertTrue(meets_target({**ENTRY, "measure": "exponent", "value": 1.1}))
        self.assertIsNone(meets_target({**ENTRY, "target": None}))


if __name__ == "__main__":
    unittest.main()
