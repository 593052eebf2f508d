"""Checks what `examples/run.sh --page` writes: the facts of page.json, and what a browser makes of page.html.

check_page.py facts JSON                      everything that is known of any run
check_page.py dom JSON DOM LAYER HEAD TOKEN   a browser's dump of the page with that view
check_page.py spoil JSON FOLDER               page.json with one fact wrong each, to be refused by the page
"""
import copy
import html.parser
import json
import pathlib
import sys


def kinds(data, layer, kv_head, t):
    """What token t attends to: the kind of each token up to it, in words of the page."""
    head = data["layers"][layer]["kv_heads"][kv_head]
    chunk = head["chunks"][t // data["settings"]["chunk"]]
    out = ["near"] * (t + 1)
    for j, leaf in enumerate(chunk["leaves"]):
        for i in leaf:
            out[i] = "alone" if len(leaf) == 1 else "opened" if j in head["open"][t] else "closed"
    return out


def check_chunk(settings, begin, chunk, rep):
    assert chunk["edge"] == max(0, begin - settings["window"])
    assert chunk["sinks"] == min(settings["sinks"], chunk["edge"])
    assert sorted(i for leaf in chunk["leaves"] for i in leaf) == list(range(chunk["sinks"], chunk["edge"]))
    for leaf in chunk["leaves"]:
        assert leaf == sorted(leaf) and 1 <= len(leaf) <= settings["leaf"]
        assert len({rep[i] for i in leaf}) == 1, "a leaf is a part of one cluster"


def check_attention(data, l):
    settings, layer, tokens = data["settings"], data["layers"][l], range(len(data["tokens"]))
    near = leaves = opened = 0
    for g, head in enumerate(layer["kv_heads"]):
        assert len(head["open"]) == len(tokens)
        for c, chunk in enumerate(head["chunks"]):
            check_chunk(settings, c * settings["chunk"], chunk, layer["rep"])
        for t in tokens:
            of = kinds(data, l, g, t)
            near, opened = near + of.count("near"), opened + of.count("opened")
            leaves += len(head["chunks"][t // settings["chunk"]]["leaves"])
            # What a token asks for stays open for the rest of its tile.
            assert t % settings["tile"] == 0 or set(head["open"][t - 1]) <= set(head["open"][t])
    report = layer["report"]
    assert report["rows"] == len(tokens) * len(layer["kv_heads"])
    assert (near, leaves, opened) == (report["near_keys"], report["leaves"], report["opened"])
    for head in layer["heads"]:
        chunks = layer["kv_heads"][head["kv_head"]]["chunks"]
        for t in tokens:
            row, of = head["weights"][t], kinds(data, l, head["kv_head"], t)
            assert len(row) == t + 1 and min(row) >= 0
            assert abs(sum(row) * data["weight_unit"] - 1) <= len(row) * data["weight_unit"] / 2 + 1e-5
            for leaf in chunks[t // settings["chunk"]]["leaves"]:
                assert of[leaf[0]] != "closed" or len({row[i] for i in leaf}) == 1


def check_facts(data):
    before = None
    for l, layer in enumerate(data["layers"]):
        rep = layer["rep"]
        assert len(rep) == len(data["tokens"])
        assert all(r <= i and rep[r] == r for i, r in enumerate(rep))
        now = set(rep)
        if before is not None:
            assert layer["additions"] == len(now - before) and layer["removals"] == len(before - now)
        before = now
        check_attention(data, l)
    opened = sum(layer["report"]["opened"] for layer in data["layers"])
    assert opened > 0 and any("closed" in kinds(data, l, 0, len(data["tokens"]) - 1)
                              for l in range(len(data["layers"]))), "the run shows nothing of the far field"


class Dom(html.parser.HTMLParser):
    """The body's data-ready, and class and text of what has an id."""

    def __init__(self, text):
        super().__init__()
        self.ready, self.classes, self.words, self.values, self.inside = None, {}, {}, {}, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        if tag == "body":
            self.ready = named.get("data-ready")
        if "id" in named:
            self.classes[named["id"]], self.words[named["id"]] = (named.get("class") or "").split(), ""
        if tag not in ("meta", "input", "br"):
            self.inside.append((tag, named.get("id")))

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop()[0] != tag:
            pass

    def handle_data(self, text):
        if self.inside and self.inside[-1][1]:
            self.words[self.inside[-1][1]] += text


def check_dom(data, dom, layer, head, token):
    assert dom.ready == "ok", dom.ready
    tokens, rep = range(len(data["tokens"])), data["layers"][layer]["rep"]
    assert dom.words["layer-shown"] == str(layer)
    assert dom.words["clusters-title"] == f"{len(set(rep))} of {len(tokens)} tokens are representatives"
    assert dom.words["attended-title"].startswith(f"What token {token}, ")
    said = dom.words["clusters-of"]
    assert f"Token {token}, " in said and f"representative {rep[token]}, " in said
    seen = next(one for one in data["layers"][layer]["heads"] if one["head"] == head)
    shown, row = kinds(data, layer, seen["kv_head"], token), seen["weights"][token]
    for t in tokens:
        clusters, attended = dom.classes[f"clusters-{t}"], dom.classes[f"attended-{t}"]
        assert ("rep" in clusters) == (rep[t] == t)
        assert ("lead" in clusters) == (t == rep[token])
        assert ("mine" in clusters) == (rep[t] == rep[token] and t != rep[token])
        assert attended[0] == (shown[t] if t <= token else "later")
        assert ("chosen" in clusters) == ("chosen" in attended) == (t == token)
    for kind, name in (("near", "Near"), ("alone", "Leaves of one"), ("closed", "Closed"), ("opened", "Opened")):
        share = sum(weight for weight, of in zip(row, shown) if of == kind) * data["weight_unit"]
        said = dom.words["attended-counts"].split(name + ": ")[1].split(" %")[0]
        assert abs(float(said.split(", ")[1]) - 100 * share) <= 0.0501 and f"{shown.count(kind)} tokens" in said


def spoil(data, folder):
    """One file for each check that a page makes when it opens."""
    last = len(data["tokens"]) - 1
    for name, fault in {
            "rep": lambda layer: layer["rep"].__setitem__(0, 1),
            "additions": lambda layer: layer.update(additions=layer["additions"] + 1),
            "leaves": lambda layer: layer["kv_heads"][0]["chunks"][-1]["leaves"][0].append(last),
            "opened": lambda layer: layer["report"].update(opened=layer["report"]["opened"] + 1),
            "weights": lambda layer: layer["heads"][0]["weights"][last].__setitem__(0, 20000),
    }.items():
        wrong = copy.deepcopy(data)
        fault(wrong["layers"][1])
        (folder / f"{name}.json").write_text(json.dumps(wrong))


def main():
    what, data = sys.argv[1], json.loads(pathlib.Path(sys.argv[2]).read_text())
    if what == "facts":
        check_facts(data)
    if what == "dom":
        check_dom(data, Dom(pathlib.Path(sys.argv[3]).read_text()), *map(int, sys.argv[4:]))
    if what == "spoil":
        spoil(data, pathlib.Path(sys.argv[3]))


if __name__ == "__main__":
    main()
