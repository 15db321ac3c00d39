#!/usr/bin/env python3
"""Count what `hubprint eval --json` made of a list that make_variants.py or make_trained.py wrote.

    tally.py pairs.tsv answer.json

Prints how many pairs were found, by relation and shape, then every pair whose answer contradicts the list: unrelated
and called related, related and called independent, another relation, the wrong direction. Relation and direction are
judged where the list says which of the two descends from the other; siblings have a relation of their own making.
"""

import argparse
import csv
import json
from collections import Counter, defaultdict

# What hubprint may call a relation of the list. How far training went is a matter of degree; a merge takes both parents
# to see; of what was laundered in several ways one has to be named.
TRAINED = {"fine-tune", "partial fine-tune", "continued pretraining"}
MOVED = {"permuted copy", "copy with moved dimensions"}
NAMES = {
    "copy": {"identical", "copy or cast"},
    "cast": {"copy or cast"},
    "quantised": {"quantised"},
    "fine-tune": TRAINED,
    "continued pretraining": TRAINED,
    "merge": TRAINED | {"merged"},
    "LoRA": {"LoRA"},
    "rescaled": {"rescaled copy"},
    "vocabulary changed": {"vocabulary changed"},
    "width-pruned": {"width-pruned"},
    "depth-pruned": {"depth-pruned"},
    "MoE from dense": {"MoE from dense"},
    "permuted copy": MOVED,
    "rotated copy": {"rotated copy", "copy with moved dimensions"},
    "laundered": MOVED | {"rotated copy", "vocabulary changed", "rescaled copy"},
}
OUTCOMES = {True: "related", False: "independent", None: "undecided"}


def shapes(row):
    return "-".join(sorted({row["a"].split("/")[0], row["b"].split("/")[0]}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs")
    parser.add_argument("answer")
    options = parser.parse_args()
    with open(options.pairs) as file:
        truth = list(csv.DictReader(file, delimiter="\t"))
    with open(options.answer) as file:
        answers = json.load(file)["pairs"]
    assert [(t["a"], t["b"]) for t in truth] == [(p["a"], p["b"]) for p in answers], "another list"

    outcomes, relations, directions, wrong = defaultdict(Counter), defaultdict(Counter), Counter(), []
    for row, found in zip(truth, answers):
        related, expected = found.get("related"), row["related"] == "1"
        kind = row["relation"] if expected else f"unrelated, {'one shape' if '-' not in shapes(row) else 'two shapes'}"
        if expected and not row.get("direction"):
            kind += ", siblings" if "direction" in row else ""
        outcomes[kind]["unreadable" if found["error"] else OUTCOMES[related]] += 1
        faults = []
        if related is not None and related != expected:
            faults.append(f"called {OUTCOMES[related]}")
        if expected and related:
            directions[f"{'descent' if row.get('direction') else 'siblings'}: {found['direction']}"] += 1
            if row.get("direction"):
                relations[row["relation"]][found["relation"]] += 1
                if found["relation"] not in NAMES[row["relation"]]:
                    faults.append(f"is {row['relation']}, called {found['relation']}")
            if row.get("direction") and found["direction"] not in (row["direction"], "undetermined"):
                faults.append(f"direction: {found['direction']}")
        if faults:
            wrong.append(f"{row['a']}  {row['b']}  {'; '.join(faults)}\n    {found['why']}")

    total = Counter()
    for kind, counts in sorted(outcomes.items()):
        print(f"{kind}: {dict(counts)}")
        for outcome, n in counts.items():
            total["unrelated" if kind.startswith("unrelated") else "related", outcome] += n
    print("\nall:", ", ".join(f"{n} {truth} {outcome}" for (truth, outcome), n in sorted(total.items())))
    print("\nrelations of parent and child:")
    for kind, counts in sorted(relations.items()):
        print(f"{kind}: {dict(counts)}")
    print("\ndirections:", dict(directions))
    print(f"\n{len(wrong)} wrong:", *wrong, sep="\n")


if __name__ == "__main__":
    main()
