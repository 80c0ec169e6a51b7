"""``python -m optimize.search``: the best model within a budget, or the plain word that there is none, with the front.

Result folder, ``runs/R/search`` unless --out names another: front.json, front.png, front.html, and NAME-best.toml, the
recipe of a full run. What is built, timed and trained on the way is kept in ``runs/R/search`` and done once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from math import inf
from pathlib import Path

from deploy.export.target import Target, target_named
from edgekp.cli import recipe_of, run, stage_parser
from edgekp.errors import RecipeError, TrainingError
from edgekp.json_file import read_json
from edgekp.recipe import Recipe
from edgekp.run_lock import locked
from eval.verdict import write_json, write_output
from optimize.search.answer import Answer, Budget, table_of
from optimize.search.best_recipe import recipe_of_candidate, to_toml
from optimize.search.candidates import require_searchable
from optimize.search.explore import Space, candidate_named, explore, prepare
from optimize.search.pictures import write_pictures
from train.__main__ import spec_that_fits


def main(argv: Sequence[str] | None = None) -> int:
    parser = stage_parser("python -m optimize.search", "Find the best model within a budget; draw the Pareto front.")
    parser.add_argument("--target", default="cpu", help="a name in deploy/targets (default: %(default)s)")
    parser.add_argument("--budget-ms", type=float, metavar="MS", help="largest median time of one call, ms")
    parser.add_argument("--budget-drop", type=float, metavar="LOSS", help="largest loss against the recipe's own float "
                        "network: points as a fraction, 0.02 is 2 points of AP; for NME relative")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the answer goes (default: runs/NAME/search)")
    parser.add_argument("--ledger", type=Path, metavar="FILE", help="latencies that another machine recorded; "
                        "nothing is timed here")
    parser.add_argument("--measure-only", action="store_true", help="time the candidates and train nothing")
    parser.add_argument("--record", type=Path, metavar="FILE", help="also write the latencies, for --ledger elsewhere")
    return run(search, parser, argv)


def search(arguments: argparse.Namespace) -> int:
    """Exit code 0 where a candidate keeps the budget, or where only time was asked for; else 1.

    Raises:
        EdgekpError: It could not run, or nothing that was trained has learnt anything, so that nothing can be ranked.
    """
    recipe, target, budget = recipe_of(arguments), target_named(arguments.target), _budget(arguments)
    require_searchable(recipe)
    spec_that_fits(recipe)
    if budget.drop is not None and "fp32" not in recipe.search.precisions:
        raise RecipeError("--budget-drop: is measured from the float network; add fp32 to search.precisions")
    with locked(recipe.run_folder):
        return _search(arguments, recipe, target, budget)


def _search(arguments: argparse.Namespace, recipe: Recipe, target: Target, budget: Budget) -> int:
    space = prepare(recipe, target, arguments.ledger, force=arguments.force)
    if arguments.record:
        write_json(arguments.record, read_json(space.ledger))
    if arguments.measure_only:
        for name, latency in sorted(space.latencies.items(), key=lambda entry: entry[1].p50_ms):
            print(f"{latency.p50_ms:8.2f} ms   {name}")
        return 0
    answer = explore(space, budget, force=arguments.force)
    _tell(answer, space, arguments.out or recipe.run_folder / "search")
    if not answer.is_ranked:
        raise TrainingError(answer.sentence)
    return 0 if answer.best else 1


def _budget(arguments: argparse.Namespace) -> Budget:
    """The budget of the command line.

    Raises:
        RecipeError: None at all, or one that is no number of its kind.
    """
    budget_ms, drop = arguments.budget_ms, arguments.budget_drop
    if arguments.ledger and (arguments.record or arguments.measure_only):
        raise RecipeError("--ledger: is read instead of timing; leave --record and --measure-only out")
    if budget_ms is None and drop is None and not arguments.measure_only:
        raise RecipeError("expected a budget: --budget-ms 2.0, --budget-drop 0.02 or both")
    if budget_ms is not None and not 0 < budget_ms < inf:
        raise RecipeError(f"--budget-ms: {budget_ms:g}, expected milliseconds above 0")
    if drop is not None and not 0 <= drop < inf:
        raise RecipeError(f"--budget-drop: {drop:g}, expected a loss from 0 on; 0.02 is 2 points of AP")
    return Budget(budget_ms, drop)


def _tell(answer: Answer, space: Space, out: Path) -> None:
    """Write all files of the answer and print it; the recipe of an earlier one goes before its front does."""
    best = out / f"{space.recipe.name}-best.toml"
    best.unlink(missing_ok=True)
    write_json(out / "front.json", answer.to_json())
    write_pictures(answer, out)
    print(table_of(answer))
    print(f"\n{answer.sentence}\n{answer.explanation}\nfront: {out / 'front.html'}")
    if answer.best:
        write_output(best, _recipe_text(answer, space.recipe, best.stem, space))
        print(f"full run: make train optimize export eval gate RECIPE={best} TARGET={answer.target}")


def _recipe_text(answer: Answer, recipe: Recipe, name: str, space: Space) -> str:
    assert answer.best is not None
    found = recipe_of_candidate(recipe, candidate_named(space, answer.best), answer.target, name)
    return f"# What python -m optimize.search found: {answer.sentence}.\n{to_toml(found)}"


if __name__ == "__main__":
    sys.exit(main())
