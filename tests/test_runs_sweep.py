"""A sweep: which runs it is made of, that it can be stopped anywhere, and that choices never see the test part."""

import json

import pytest
from tiny_runs import assert_same, everything, tiny

from bregma.runs import sweep
from bregma.runs.experiment import recipe
from bregma.runs.loop import Diverged
from bregma.runs.plan import Plan, Point, tuning_name
from bregma.runs.sweep import SweepFolder, mean_of, means, run_sweep


@pytest.fixture(autouse=True)
def _tiny_data(monkeypatch, splits):
    monkeypatch.setattr(sweep, "load", lambda *_, **__: splits)


def plan_of(**changed) -> Plan:
    settings = {"methods": ("adabreg", "gmp", "adam"), "densities": (0.2, 0.5), "seeds": 2}
    return Plan(tiny(epochs=2), **settings | changed)


class Watcher:
    """Counts steps, and keeps what it is told of runs."""

    def __init__(self) -> None:
        self.steps = 0
        self.numbers: list[tuple[int, int]] = []
        self.ended: list[dict] = []

    def begin(self, number, total, experiment) -> None:
        self.numbers.append((number, total))

    def start(self, done, total) -> None:
        pass

    def step(self, loss) -> None:
        self.steps += 1

    def epoch(self, row) -> None:
        pass

    def end(self, summary) -> None:
        self.ended.append(summary)


def test_each_method_runs_at_each_density_with_each_seed_and_the_dense_network_once():
    plan = plan_of()
    names = [name for name, _ in plan.runs(lambda point: None)]
    assert names == [
        f"{name}-seed{seed}"
        for seed in (0, 1)
        for name in ("adam-1", "adabreg-0.5", "gmp-0.5", "adabreg-0.2", "gmp-0.2")
    ]
    assert plan.total == len(names)


def test_runs_take_what_is_recommended_for_their_method_and_density():
    plan = plan_of()
    dense, sparse = plan.experiment(Point("adam", 0.0), 0), plan.experiment(Point("gmp", 0.2), 1)
    assert (dense.lr, dense.seed) == (recipe("digits", "adam").lr, 0)
    assert (sparse.lr, sparse.density, sparse.seed) == (recipe("digits", "gmp", density=0.2).lr, 0.2, 1)
    assert sparse.hidden == plan.base.hidden
    assert plan_of(rates=(0.5,)).experiment(Point("gmp", 0.2), 0).lr == 0.5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"methods": ("linbreg",)}, "method must be one or more of adabreg, .*, got linbreg"),
        ({"methods": ()}, "method and density must name at least one each"),
        ({"densities": ()}, "method and density must name at least one each"),
        ({"densities": (0.0,)}, r"density must be one or more numbers in \(0, 1\], got 0.0"),
        ({"densities": (0.1, 0.1)}, "density must name each once, got 0.1, 0.1"),
        ({"methods": ("gmp", "gmp")}, "method must name each once"),
        ({"rates": (0.1, 0.1)}, "lr must name each once"),
        ({"rates": (0.1, -1.0)}, "lr must be a finite number > 0, got -1.0"),
        ({"rates": (-1.0,)}, "lr must be a finite number > 0, got -1.0"),
        ({"seeds": 0}, "seeds must be >= 1, got 0"),
    ],
)
def test_a_bad_plan_is_named_before_any_work(changed, message):
    with pytest.raises(ValueError, match=message):
        plan_of(**changed)


def test_a_sweep_leaves_a_run_folder_for_each_run_and_is_not_run_twice(tmp_path):
    folder, watcher = SweepFolder(tmp_path / "sweep"), Watcher()
    assert run_sweep(folder, plan_of(), observer=watcher)
    assert watcher.numbers == [(number, 10) for number in range(1, 11)]
    rows = folder.rows()
    assert [row["run"] for row in rows] == [name for name, _ in plan_of().runs(lambda point: None)]
    for row, summary in zip(rows, watcher.ended, strict=True):
        assert row["test_accuracy"] == folder.run(row["run"]).summary()["test_accuracy"] == summary["test_accuracy"]
        assert row["density_reached"] == pytest.approx(row["density"], abs=0.005)
    again = Watcher()
    assert run_sweep(folder, observer=again)
    assert again.steps == 0
    assert again.ended == watcher.ended


@pytest.mark.parametrize("stops", [(3, 1), (10, 25), (11, 10, 10)])
def test_a_sweep_stopped_anywhere_equals_an_uninterrupted_one(tmp_path, stops):
    plan = plan_of(methods=("adabreg", "set"), densities=(0.2,), seeds=2)
    whole, cut = SweepFolder(tmp_path / "whole"), SweepFolder(tmp_path / "cut")
    run_sweep(whole, plan)
    for number, steps in enumerate(stops):
        watcher = Watcher()
        ended = run_sweep(
            cut,
            plan if number == 0 else None,
            observer=watcher,
            should_stop=lambda watcher=watcher, steps=steps: watcher.steps >= steps,
        )
        assert not ended
        assert watcher.steps == steps  # it stops where it is told to, even in the last step of a run
    assert run_sweep(cut)
    for row in whole.rows():
        assert_same(everything(whole.run(row["run"])), everything(cut.run(row["run"])))


def test_a_sweep_under_way_elsewhere_is_not_gone_on_with(tmp_path):
    pytest.importorskip("fcntl")
    folder, tried = SweepFolder(tmp_path / "sweep"), []

    def try_too():
        with pytest.raises(BlockingIOError, match=f"{folder.path} is in use by another process"):
            run_sweep(folder)
        tried.append(True)
        return True

    plan = plan_of(methods=("gmp",), densities=(0.2,), seeds=1)
    assert not run_sweep(folder, plan, should_stop=try_too)
    with folder.locked(), pytest.raises(BlockingIOError):
        run_sweep(folder)
    assert not run_sweep(folder, should_stop=try_too)
    assert len(tried) == 2
    assert run_sweep(folder)


def test_a_new_sweep_takes_over_runs_that_are_there(tmp_path):
    folder, plan = SweepFolder(tmp_path / "sweep"), plan_of(methods=("gmp",), densities=(0.2,), seeds=1)
    run_sweep(folder, plan)
    (folder.path / "sweep.toml").unlink()
    assert run_sweep(folder, plan)
    assert folder.plan().points == plan.points
    assert len(folder.rows()) == 1


def test_the_learning_rate_is_chosen_on_validation_at_a_seed_of_its_own(tmp_path, monkeypatch):
    seen = []
    accuracy = {0.01: 0.5, 0.02: 0.9, 0.04: 0.7}

    def fake(run, splits, **_):
        experiment = run.config().experiment
        seen.append((experiment.method, experiment.seed, experiment.lr))
        figures = {"density": 0.2, "firing_rate": 0.1, "seconds": 1.0}
        summary = {"validation_accuracy": accuracy[experiment.lr], "test_accuracy": 1 - accuracy[experiment.lr]}
        run.write_summary(summary | figures)
        return summary | figures

    monkeypatch.setattr(sweep, "train", fake)
    folder = SweepFolder(tmp_path / "sweep")
    plan = plan_of(methods=("gmp", "adam"), densities=(0.2,), rates=tuple(accuracy))
    assert run_sweep(folder, plan)
    tuning, rest = seen[:6], seen[6:]
    assert {(method, lr) for method, _, lr in tuning} == {(m, lr) for m in ("gmp", "adam") for lr in accuracy}
    assert {seed for _, seed, _ in tuning} == {2}
    assert {(seed, lr) for _, seed, lr in rest} == {(0, 0.02), (1, 0.02)}
    assert len(folder.rows()) == len(rest) == 4  # the runs that choose do not count
    assert plan.total == len(seen)


def test_a_learning_rate_that_diverges_is_not_chosen_and_a_run_that_does_ends_the_sweep(tmp_path, monkeypatch):
    ran = []

    def fake(run, splits, **_):
        experiment = run.config().experiment
        ran.append(run.path.name)
        if experiment.lr == 0.5 or experiment.seed == 1:
            raise Diverged("training diverged in epoch 1")
        figures = {"density": 0.2, "firing_rate": 0.1, "seconds": 1.0, "test_accuracy": 0.1}
        run.write_summary({"validation_accuracy": 0.1, **figures})
        return run.summary()

    monkeypatch.setattr(sweep, "train", fake)
    folder = SweepFolder(tmp_path / "sweep")
    plan = plan_of(methods=("gmp",), densities=(0.2,), rates=(0.5, 0.01))
    for expected in (4, 1):  # what has ended, or diverged while a rate is chosen, is not tried again
        ran.clear()
        with pytest.raises(Diverged):
            run_sweep(folder, plan if expected == 4 else None)
        assert len(ran) == expected
    assert [row["lr"] for row in folder.rows()] == [0.01]


def test_the_plan_is_read_back(tmp_path):
    plan = Plan(recipe("mnist", epochs=3, seed=7), ("rigl", "adam"), (0.1,), seeds=4, rates=(0.01, 0.02))
    folder = SweepFolder(tmp_path / "sweep")
    folder.create(plan)
    back = folder.plan()
    assert list(back.runs(lambda point: 0.02)) == list(plan.runs(lambda point: 0.02))
    with pytest.raises(ValueError, match="already holds a sweep"):
        run_sweep(folder, plan)


@pytest.mark.parametrize("changed", [{"structure": "neurons"}, {"structure": "2:4"}, {"cost": "synops"}, {"l1": 1e-4}])
def test_the_plan_of_a_structured_sweep_is_read_back(tmp_path, changed):
    plan = Plan(tiny(density=0.5, **changed), methods=("adabreg",), densities=(0.5, 0.2), seeds=1)
    SweepFolder(tmp_path / "sweep").create(plan)
    read = SweepFolder(tmp_path / "sweep").plan()
    wanted = {"density": 0.5, **changed}
    assert {name: getattr(read.base, name) for name in wanted} == wanted
    assert read.densities == (0.5, 0.2)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("format = 1", "format = 9", "sweep format 9, this version of bregma reads format 1"),
        ("seeds = 2", "", "'seeds' is missing"),
        ("seeds = 2", "seeds = 'two'", "sweep.toml: "),
        ("densities", "densities = = ", "sweep.toml: "),
        ("epochs = 2", "epochs = 0", "epochs must be >= 1, got 0"),
        ('"gmp"', '"sgd"', "method must be one or more of adabreg"),
    ],
)
def test_a_broken_plan_is_one_clear_error(tmp_path, old, new, message):
    folder = SweepFolder(tmp_path / "sweep")
    folder.create(plan_of())
    path = folder.path / "sweep.toml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        folder.plan()


def test_a_run_with_other_settings_is_not_taken_for_one_of_the_sweep(tmp_path, splits):
    folder = SweepFolder(tmp_path / "sweep")
    plan = plan_of(methods=("adabreg",), densities=(0.2,), seeds=1)
    run_sweep(folder, plan)
    config = folder.run("adabreg-0.2-seed0").path / "config.toml"
    config.write_text(config.read_text().replace("epochs = 2", "epochs = 5"))
    with pytest.raises(ValueError, match=r"adabreg-0.2-seed0: epochs is 5, the sweep has 2"):
        run_sweep(folder)


def test_a_summary_without_a_figure_is_named(tmp_path):
    folder = SweepFolder(tmp_path / "sweep")
    run_sweep(folder, plan_of(methods=("adabreg",), densities=(0.2,), seeds=1))
    path = folder.run("adabreg-0.2-seed0").path / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "test_accuracy": None}))
    with pytest.raises(ValueError, match=r"summary.json: test_accuracy must be a finite number, got None"):
        folder.rows()


@pytest.mark.parametrize("value", [None, "high", True, float("nan")])
def test_a_rate_is_not_chosen_by_what_is_no_number(tmp_path, value):
    folder, plan = SweepFolder(tmp_path / "sweep"), plan_of(methods=("adabreg",), densities=(0.2,), rates=(0.01, 0.02))
    folder.create(plan)
    for rate in plan.rates:
        run = folder.run(tuning_name(plan.points[0], rate))
        run.path.mkdir()
        run.write_summary({"validation_accuracy": value})
    with pytest.raises(ValueError, match=r"summary.json: validation_accuracy must be a finite number"):
        folder.rate(plan, plan.points[0])


def test_a_plan_that_says_one_thing_twice_is_named(tmp_path):
    folder = SweepFolder(tmp_path / "sweep")
    folder.create(plan_of())
    path = folder.path / "sweep.toml"
    path.write_text(path.read_text() + "epochs = 3\n")
    with pytest.raises(ValueError, match=r"sweep.toml: not a readable TOML file"):
        folder.plan()


def test_no_folder_is_left_where_the_data_are_missing(tmp_path, monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("not here")

    monkeypatch.setattr(sweep, "load", missing)
    with pytest.raises(FileNotFoundError, match="not here"):
        run_sweep(SweepFolder(tmp_path / "sweep"), plan_of())
    assert not (tmp_path / "sweep").exists()


def test_means_are_over_seeds():
    rows = [{"method": "gmp", "density": 0.1, "test_accuracy": value} for value in (0.8, 0.9)]
    rows.append({"method": "gmp", "density": 0.2, "test_accuracy": 0.5})
    found = means(rows)
    assert found["gmp", 0.1] == pytest.approx((0.85, 0.05 * 2**0.5, 2))
    assert found["gmp", 0.2] == mean_of([0.5]) == (0.5, 0.0, 1)
