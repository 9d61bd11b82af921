"""Cross-fitting: what a second network gains on scans that neither it nor the one before saw.

The annotated scans of a dataset are parted by name into folds. For each, the scans of the others are marked by the
first network, without a look at their labels, and lend their tumours; the second network is scored on the fold's own.
Labels are opened by the last command of each fold alone. docs/pseudo-labels.md has what came out.
"""

import csv
import itertools
from pathlib import Path

from second_network import parser_of, road, run

from scans.catalog.catalog import load_catalog
from scans.image.cases import find_cases


def folds_of(names: list[str], count: int) -> list[list[str]]:
    """Part names, in their order, into `count` folds of equal size but for one."""
    ordered = sorted(names)
    ends = [round(number * len(ordered) / count) for number in range(count + 1)]
    return [ordered[first:last] for first, last in itertools.pairwise(ends)]


def main() -> None:
    """Cross-fit."""
    parser = parser_of(__doc__, Path("out/cross-fit"), size=48, samples=1024, steps=400)
    parser.add_argument("--folds", type=int, default=3)
    asked, more = parser.parse_known_args()
    cases = [case.name for case in find_cases(load_catalog(Path(asked.catalog)).dataset(asked.scans), asked.scans)]
    first = ["--checkpoint", asked.checkpoint] if asked.checkpoint else []
    rows: dict[str, list[float]] = {}
    scored = asked.out / "first"
    evaluate = ("train", "evaluate", "--catalog", asked.catalog, "--dataset", asked.scans)
    run(*evaluate, *first, "--out", str(scored))
    before = dice_of(scored)
    for number, fold in enumerate(folds_of(cases, asked.folds)):
        out = asked.out / f"fold{number}"
        network = road(
            scans=asked.scans, normals=asked.normals, catalog=asked.catalog, out=out, checkpoint=asked.checkpoint,
            size=asked.size, samples=asked.samples, steps=asked.steps, leave_out=fold, more=more,
        )  # fmt: skip
        run(*evaluate, "--checkpoint", str(network), "--out", str(out / "evaluation"))
        after = dice_of(out / "evaluation")
        rows |= {case: [before[case], after[case]] for case in fold if case in before and case in after}
    print("\ncase                 first  second")
    for case, (one, two) in rows.items():
        print(f"{case:20} {one:.3f}  {two:.3f}")
    if rows:
        one, two = (sum(column) / len(rows) for column in zip(*rows.values(), strict=True))
        print(f"{'mean':20} {one:.3f}  {two:.3f}")


def dice_of(evaluation: Path) -> dict[str, float]:
    """Return the network's Dice by case, as `train evaluate` wrote it."""
    with (evaluation / "cases.csv").open(encoding="utf-8", newline="") as file:
        return {
            row["case"]: float(row["dice"]) for row in csv.DictReader(file) if row["row"] == "network" and row["dice"]
        }


if __name__ == "__main__":
    main()
