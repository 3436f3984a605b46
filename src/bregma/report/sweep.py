"""The page, table and figures of a sweep, from its folder alone."""

import json
import shlex
from html import escape
from pathlib import Path
from typing import Any

from bregma.files import write_text
from bregma.report import page
from bregma.report.curves import percent
from bregma.report.report import duration, option_words
from bregma.report.style import Drawing
from bregma.report.sweep_figures import draw_sweep, in_order, name_of
from bregma.runs.experiment import STRUCTURED, SWEPT, recipe
from bregma.runs.plan import Plan
from bregma.runs.recommended import SWEEP_RECIPES
from bregma.runs.sweep import Mean, SweepFolder, means


def write_sweep(folder: SweepFolder) -> Path:
    """Write what there is to see of a sweep, finished or not, into its folder.

    ``report.html`` is a page that needs no other file, ``table.md`` its table, ``results.jsonl`` a line for each run,
    and ``figures/`` holds the pictures as SVG.

    Args:
        folder: a sweep with or without runs that have ended.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: no sweep is there.
        ValueError: a file is broken; the message names it.
    """
    plan, rows = folder.plan(), folder.rows()
    drawings = draw_sweep(plan.methods, rows) if rows else []
    write_text(folder.path / "results.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write_text(folder.path / "table.md", _markdown(plan, rows))
    if drawings:
        (folder.path / "figures").mkdir(exist_ok=True)
    for drawing in drawings:
        write_text(folder.path / "figures" / f"{drawing.name}.svg", drawing.svg)
    path = folder.path / "report.html"
    write_text(path, _page(folder, plan, rows, drawings))
    return path


def sweep_table(plan: Plan, rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and cells of the table: a row for each method, a column for each density.

    Args:
        plan: of the sweep.
        rows: of `SweepFolder.rows`.

    Returns:
        Test accuracy in per cent as mean ± standard deviation, and the number of seeds in brackets where some are
        missing.
    """
    found, shares = means(rows), _shares(plan)
    head = ["method", *(f"{share:g}" for share in shares)]
    lines = []
    for method in in_order(plan.methods):
        cells = [_cell(found.get((method, share)), plan.seeds) for share in shares]
        lines.append([name_of(method), *cells])
    return head, lines


def sweep_command(plan: Plan) -> str:
    """The command line that runs a sweep again.

    Example:
        >>> sweep_command(Plan(recipe("mnist", epochs=3), ("adabreg", "adam"), (0.2, 0.05), seeds=2))
        'bregma sweep --data mnist --method adabreg,adam --density 0.2,0.05 --seeds 2 --epochs 3'
    """
    words = ["bregma", "sweep", "--data", plan.base.data, "--method", ",".join(plan.methods)]
    words += ["--density", ",".join(map(str, plan.densities)), "--seeds", str(plan.seeds)]
    if plan.rates:
        words += ["--lr", ",".join(map(str, plan.rates))]
    usual = recipe(plan.base.data, **SWEEP_RECIPES.get(plan.base.data, {}))
    return shlex.join(words + option_words(plan.base, usual, leave_out=SWEPT))


def _shares(plan: Plan) -> list[float]:
    return list(dict.fromkeys(point.density or 1.0 for point in sorted(plan.points, key=lambda p: -(p.density or 1))))


def _cell(value: Mean | None, seeds: int) -> str:
    if value is None:
        return ""
    spread = f" ± {100 * value.deviation:.1f}" if value.seeds > 1 else ""
    missing = f" ({value.seeds})" if value.seeds < seeds else ""
    return f"{100 * value.mean:.1f}{spread}{missing}"


def _markdown(plan: Plan, rows: list[dict[str, Any]]) -> str:
    head, lines = sweep_table(plan, rows)
    table = [head, ["---"] * len(head), *lines]
    note = f"Test accuracy in per cent by density, {_seeds(plan)}.\n\n"
    return note + "".join(f"| {' | '.join(line)} |\n" for line in table)


def _page(folder: SweepFolder, plan: Plan, rows: list[dict[str, Any]], drawings: list[Drawing]) -> str:
    data = Path(plan.base.data).name
    title = f"Accuracy and density on {data}"
    return page.page(
        f"{title} · {folder.path.resolve().name} · bregma",
        [
            page.header(f"Sweep {folder.path.resolve().name}", title, _lede(plan), _notes(folder, plan, rows)),
            page.numbers(_numbers(plan, rows)) if rows else "",
            page.section("Test accuracy by density", page.paragraph(_how(plan)), _html_table(plan, rows)),
            page.figures("Curves", drawings),
            _rates(folder, plan),
            page.section("Repeat this sweep", page.code(sweep_command(plan))),
            page.section(
                "Runs and settings",
                page.paragraph("Each run has a folder of its own; the report of one is drawn by"),
                page.code(shlex.join(["bregma", "report", str(folder.path / rows[0]["run"])])) if rows else "",
                page.folded("Every run", _runs(rows)),
                _settings(plan),
            ),
        ],
    )


def _lede(plan: Plan) -> str:
    names = [name_of(method) for method in in_order(plan.methods)]
    listed = ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else names[0]
    epochs, seeds, shares = plan.base.epochs, plan.seeds, len(plan.densities)
    at = f" at {shares} densit{'ies' if shares > 1 else 'y'}" if shares else ""
    return (
        f"{listed}{at}, {seeds} seed{'s' * (seeds > 1)} of each, "
        f"{epochs} epoch{'s' * (epochs > 1)}, {' → '.join(map(str, plan.base.hidden))} hidden neurons."
    )


def _notes(folder: SweepFolder, plan: Plan, rows: list[dict[str, Any]]) -> list[str]:
    notes = []
    planned = len(plan.points) * plan.seeds
    if len(rows) < planned:
        command = shlex.join(["bregma", "sweep", "--resume", str(folder.path)])
        notes.append(f"Not finished: {len(rows)} of {planned} runs are here. To go on: {command}")
    if rows and folder.run(rows[0]["run"]).config().synthetic:
        notes.append("The recordings are simulated or synthesised, not measured with a sensor.")
    return notes


def _numbers(plan: Plan, rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The ends of the first method's curve, the dense network, and what it all took."""
    found = means(rows)
    numbers = []
    method = in_order(plan.methods)[0]
    by_neurons = plan.base.structure == "neurons" and method in STRUCTURED["structure"]
    parts = "neurons" if by_neurons else "connections"
    own = sorted(share for name, share in found if name == method)
    for share in dict.fromkeys((own[-1], own[0])) if own and method != "adam" else ():
        numbers.append((percent(found[method, share].mean), f"{name_of(method)} with {100 * share:g} % of the {parts}"))
    if ("adam", 1.0) in found:
        numbers.append((percent(found["adam", 1.0].mean), "the dense network"))
    numbers.append((str(len(rows)), f"runs done, of {len(plan.points) * plan.seeds}"))
    return [*numbers, (duration(sum(row["seconds"] for row in rows)), "of training them")]


def _seeds(plan: Plan) -> str:
    return f"mean ± standard deviation over {plan.seeds} seeds" if plan.seeds > 1 else "of one seed"


def _how(plan: Plan) -> str:
    text = (
        f"Per cent of the test part that is classified rightly, {_seeds(plan)}; the best mean of a density is bold. "
        "The best epoch is chosen on the validation part"
    )
    if plan.tuned:
        return f"{text}, and so is the learning rate of each method and density, at a seed of its own."
    if plan.rates:
        return f"{text}. All have the learning rate {plan.rates[0]:g}."
    return (
        f"{text}. Learning rates are the recommended ones; a comparison of methods is fair with several, such as "
        "--lr 0.005,0.01,0.02,0.04, of which each takes its best."
    )


def _html_table(plan: Plan, rows: list[dict[str, Any]]) -> str:
    head, lines = sweep_table(plan, rows)
    found = means(rows)
    cells = []
    for method, line in zip(in_order(plan.methods), lines, strict=True):
        marked = [escape(line[0])]
        for share, text in zip(_shares(plan), line[1:], strict=True):
            best = max((value.mean for (_, other), value in found.items() if other == share), default=None)
            is_best = (method, share) in found and found[method, share].mean == best
            marked.append(f"<b>{escape(text)}</b>" if is_best else escape(text))
        cells.append(marked)
    return page.table("Test accuracy by method and density", head, cells, range(1, len(head)))


def _rates(folder: SweepFolder, plan: Plan) -> str:
    """The learning rates that were chosen; empty where none were."""
    if not plan.tuned:
        return ""
    chosen = {point: folder.rate(plan, point) for point in plan.points}
    values = {str(point): f"{rate:g}" if rate else "–" for point, rate in chosen.items()}
    return page.section("Learning rates", page.folded(f"Chosen of {', '.join(map('{:g}'.format, plan.rates))}", values))


def _runs(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {
        row["run"]: f"test {percent(row['test_accuracy'])}, validation {percent(row['validation_accuracy'])}, "
        f"density {row['density_reached']:.4f}, lr {row['lr']:g}, {duration(row['seconds'])}"
        for row in rows
    }


def _settings(plan: Plan) -> str:
    values = {k: v for k, v in plan.base.to_dict().items() if k not in (*SWEPT, "seed")}
    shared = {k: ", ".join(map(str, v)) if isinstance(v, list) else v for k, v in values.items()}
    return page.folded("Settings that all runs share", shared)
