"""``bregma sweep``."""

import argparse
import dataclasses
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args

import tyro
from rich.console import Console
from rich.table import Table

from bregma.cli.interrupt import StopOnInterrupt
from bregma.cli.options import MaybePath
from bregma.cli.train import found_again
from bregma.runs.admm_settings import ADMMSettings
from bregma.runs.experiment import SWEPT, WITH_DENSITY, Experiment, Init, Network, recipe
from bregma.runs.recommended import SWEEP_RECIPES, recommended

if TYPE_CHECKING:
    from bregma.runs.plan import Plan
    from bregma.runs.sweep import SweepFolder

T = TypeVar("T", float, str)

_console = Console(stderr=True, highlight=False)


def _listed(kind: Callable[[str], T], metavar: str) -> tyro.constructors.PrimitiveConstructorSpec[Any]:
    """Values with commas or spaces between them."""

    def shown(values: tuple[T, ...]) -> list[str]:
        return [",".join(format(value, "g") if isinstance(value, float) else str(value) for value in values)]

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar=metavar,
        instance_from_str=lambda words: tuple(kind(part) for word in words for part in word.split(",") if part),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=shown,
    )


Numbers = Annotated[tuple[float, ...], _listed(float, "FLOAT,FLOAT,...")]
Names = Annotated[tuple[str, ...], _listed(str, "NAME,NAME,...")]


@dataclass(frozen=True)
class Sweep(Experiment):
    """Train at several densities with several seeds and methods; draw the accuracy-density curve.

    Args:
        method: one or more of adabreg, gmp, gmp-metric (gradual magnitude pruning, the second by adabreg's score),
            rigl, set, and adam for the dense network.
        density: one or more shares of the connections to be left, each in (0, 1].
        seeds: runs of each method at each density.
        lr: learning rate. Several: each method at each density takes the one with the best validation accuracy, found
            at a seed of its own.
        seed: of the first run of each; the others have the next ones.
        out: folder to make, with a run folder for each run; "runs/sweep-DATA-TIME" if not given.
        resume: folder of a sweep to go on with, instead of all other options.
        root: folder of the data files; the environment variable BREGMA_DATA, else "~/.cache/bregma".
    """

    method: Names = ("adabreg", "gmp", "gmp-metric", "adam")  # type: ignore[assignment]
    density: Numbers = (0.2, 0.05, 0.02, 0.01)  # type: ignore[assignment]
    seeds: int = 3
    lr: Annotated[Numbers, tyro.conf.arg(help_behavior_hint="(default: recommended)")] = ()  # type: ignore[assignment]
    lam: tyro.conf.Suppress[float] = 0.0
    penalty: tyro.conf.Suppress[str] = "l1"
    init: tyro.conf.Suppress[Init] = "sparse"
    init_density: tyro.conf.Suppress[float] = 0.1
    admm: tyro.conf.Suppress[ADMMSettings] = ADMMSettings()  # noqa: RUF009  (frozen, no state)
    out: MaybePath = None
    resume: MaybePath = None
    root: MaybePath = None

    def __post_init__(self) -> None:
        """Nothing: the settings are checked by `plan`, since the parser would hide the one line in a box."""

    def plan(self) -> "Plan":
        """The sweep alone, checked."""
        from bregma.runs.plan import Plan

        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(Experiment) if f.name not in SWEPT}
        if any(given[name] != getattr(Experiment, name) for name in WITH_DENSITY):
            given["density"] = (*self.density, 1.0)[0]  # which the others need; each run has its own
        return Plan(found_again(recipe(**given)), self.method, self.density, self.seeds, self.lr)  # type: ignore[arg-type]

    def __call__(self) -> int:
        """Run the sweep, or go on; 130 if stopped by Ctrl-C."""
        from bregma.report import write_sweep
        from bregma.runs.progress import SweepBar
        from bregma.runs.sweep import SweepFolder, run_sweep

        plan = self.plan()
        folder = SweepFolder(self.resume or self.out or _new_folder(plan.base))
        with StopOnInterrupt() as stop:
            with SweepBar(_console) as bar:
                new = None if self.resume else plan
                done = run_sweep(folder, new, root=self.root, observer=bar, should_stop=stop)
            page = write_sweep(folder)  # of what is there; takes a second, so an interrupt lets it finish
        _show(folder)
        if not done:
            command = shlex.join(["bregma", "sweep", "--resume", str(folder.path)])
            _console.print(f"stopped; go on with: {command}", soft_wrap=True, markup=False)
            return 130
        print(page)
        return 0


def usual_sweep(words: Sequence[str]) -> Sweep:
    """The sweep recommended for the data on the command line; its settings are the defaults that --help shows."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--network", choices=get_args(Network), default="mlp")
    parser.exit_on_error = False
    try:
        given = vars(parser.parse_known_args(words)[0])
    except argparse.ArgumentError:  # the parser proper will say what is wrong
        given = {"data": "digits"}
    shared = {name: value for name, value in recommended(**given).items() if name not in SWEPT}
    return Sweep(**{**shared, **SWEEP_RECIPES.get(given["data"], {}), **given})


def _show(folder: "SweepFolder") -> None:
    """The table on the terminal."""
    from bregma.report import sweep_table

    head, lines = sweep_table(folder.plan(), folder.rows())
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        table.add_column(name, justify="left" if name == "method" else "right")
    for line in lines:
        table.add_row(*line)
    _console.print("test accuracy by density")
    _console.print(table)


def _new_folder(base: Experiment) -> Path:
    return Path("runs") / f"sweep-{Path(base.data).name.split('.')[0]}-{time.strftime('%Y%m%d-%H%M%S')}"
