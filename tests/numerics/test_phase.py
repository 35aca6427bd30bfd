"""Phase diagrams of real flows: equal to single runs, whatever happens on the way."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray

from solvers import store, sweep
from solvers.diagrams.engine import Interrupted, compute, pool_of
from solvers.diagrams.measures import measure
from solvers.diagrams.phase import FILE, JOURNAL, phase_diagram
from solvers.diagrams.sweep import Study, Trajectories
from solvers.errors import ExperimentError
from solvers.experiment import Experiment
from solvers.states import FAILED
from solvers.trajectories.integrate import integrate

QUICK = {"integrate.time": 4.0, "integrate.points": 5}
AXES = ["rule.outer_rate=0.5:4:6", "tasks.head_mean=0.5:1.5:5"]
DRAWN = {f"initial.random.{k}": v for k, v in (("norm", 0.5), ("dimension", 50), ("seed", 3))}


@pytest.fixture
def committee():
    return Experiment.load("saad-solla").replace(**QUICK)


@pytest.fixture
def drawn(committee):
    return committee.replace(**DRAWN)


def test_each_point_is_that_of_a_single_run_bit_for_bit(committee):
    table = sweep(committee, AXES)
    assert table["label"].dims == ("rule.outer_rate", "tasks.head_mean")
    for i, j in [(0, 0), (3, 2), (5, 4)]:
        rate, mean = (float(table[k].values[n]) for k, n in zip(table.dims, (i, j), strict=True))
        trajectory = integrate(
            committee.replace(**{"rule.outer_rate": rate, "tasks.head_mean": mean}), throw=False
        )
        point = table.isel({"rule.outer_rate": i, "tasks.head_mean": j})
        assert float(point["error"]).hex() == trajectory.final.error.hex()
        assert float(point["specialization"]) == trajectory.specialization
        assert str(point["label"].values) == trajectory.label
        assert str(point["status"].values) == trajectory.status


def test_plateau_escape_and_stability_are_those_of_the_flow():
    experiment = Experiment.load("saad-solla").replace(**{"rule.outer_rate": 1.0})
    trajectory = integrate(experiment)
    record = measure(trajectory)
    (plateau,) = trajectory.plateaus
    assert record["plateau_length"] == plateau.length
    assert record["escape_time"] == trajectory.escape_time
    # the specialization grows at the escape rate while it is small
    rho = trajectory.specializations
    growing = (rho > 1e-2) & (rho < 5e-2) & (trajectory.time > plateau.start)
    slope = np.polyfit(trajectory.time[growing], np.log(rho[growing]), 1)[0]
    assert record["escape_rate"] == pytest.approx(slope, rel=0.05)
    assert record["growth_rate"] < 0
    assert record["unstable"] == 0


def test_any_number_of_workers_gives_the_same(committee, tmp_path):
    one = sweep(committee, AXES)
    xarray.testing.assert_identical(one, sweep(committee, AXES, workers=2))
    written = phase_diagram(committee, AXES, tmp_path / "new", workers=2)
    assert written.points == 30
    assert sum(written.labels.values()) == 30
    xarray.testing.assert_equal(written.dataset, one)
    assert not (tmp_path / "new" / JOURNAL).exists()


def test_a_finished_diagram_is_not_overwritten_by_another(committee, tmp_path):
    first = phase_diagram(committee, AXES[:1], tmp_path)
    before = (tmp_path / FILE).read_bytes()
    for other, axes in (
        (committee.replace(**{"rule.head_rate": 0.1}), AXES[:1]),
        (committee, AXES[1:]),
    ):
        for resume in (False, True):
            with pytest.raises(ExperimentError, match="diagram of something else"):
                phase_diagram(other, axes, tmp_path, resume=resume)
    assert (tmp_path / FILE).read_bytes() == before
    assert phase_diagram(committee, AXES[:1], tmp_path, resume=True).dataset.identical(
        first.dataset
    )
    assert phase_diagram(committee, AXES[:1], tmp_path).dataset.identical(first.dataset)


def test_one_failing_point_is_a_labelled_point(committee, monkeypatch):
    def breaks(experiment, throw):
        if experiment.rule.outer_rate == 2.0:
            raise ArithmeticError("no such luck")
        return integrate(experiment, throw=throw)

    monkeypatch.setattr(sys.modules["solvers.diagrams.sweep"], "integrate", breaks)
    table = sweep(committee, ["rule.outer_rate=1,2,3"])
    assert table["label"].values.tolist()[1] == FAILED
    assert table["message"].values.tolist() == ["", "ArithmeticError: no such luck", ""]
    assert np.isnan(table["error"].values).tolist() == [False, True, False]


def test_a_diverged_point_has_no_error():
    linear = Experiment.from_dict(
        {
            "model": {"activation": "linear", "hidden": 1, "teacher_hidden": 1},
            "tasks": {"head_mean": 1.0},
            "rule": {"name": "sgd", "outer_rate": 0.5},
            "initial": {"w": 1.0, "Q": [[0.2]], "R": [[0.1]]},
            "integrate": {"time": 100},
        }
    )
    table = sweep(linear, ["rule.outer_rate=0.5,5"])
    assert table["label"].values.tolist() == ["specialized", "diverged"]
    assert table["status"].values.tolist() == ["success", "diverged"]
    assert np.isfinite(table["error"].values).tolist() == [True, False]


def test_sizes_vary_from_random_starts_only(committee, drawn):
    with pytest.raises(ExperimentError, match=r"model\.hidden varies.*initial\.random"):
        sweep(committee, ["model.hidden=1,2"])
    table = sweep(drawn, ["model.hidden=1:3:3"])
    assert table["model.hidden"].values.tolist() == [1, 2, 3]
    assert np.isfinite(table["error"].values).all()


@pytest.mark.parametrize(
    ("axes", "more", "sentence"),
    [
        (["rule.outer_rat=1,2"], {}, "did you mean rule.outer_rate"),
        (["rule.outer_rate=-1:1:3"], {}, "at least 0"),
        (["rule.outer_rate=1:2:3"], {"runs": 3}, "initial.random"),
        (["rule.outer_rate=1:2:3"], {"adaptive": 2}, "too few"),
        (["rule.outer_rate=1,2"], {"adaptive": 20}, "values in between"),
        (["title=1,2"], {}, "title"),
        (["model.activation=1,2"], {}, "model.activation"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(
    committee, tmp_path, axes, more, sentence
):
    with pytest.raises(ExperimentError, match=sentence):
        phase_diagram(committee, axes, tmp_path / "new", **more)
    assert not (tmp_path / "new").exists()


def test_random_starts_are_those_of_their_seeds_and_have_standard_errors(drawn):
    axes, runs = ["rule.outer_rate=1:3:2"], 3
    table = sweep(drawn, axes, runs=runs)
    study = Study.of(drawn, axes, runs)
    seeds = {study.seed((i, r)) for i in range(2) for r in range(runs)}
    assert len(seeds) == 2 * runs
    single = integrate(
        drawn.replace(**{"rule.outer_rate": 3.0, "initial.random.seed": study.seed((1, 2))}),
        throw=False,
    )
    assert float(table["error_of_run"][1, 2]) == single.final.error
    errors = table["error_of_run"].values
    np.testing.assert_allclose(table["error"], errors.mean(1), rtol=1e-14)
    spread = errors.std(1, ddof=1) / np.sqrt(runs)
    np.testing.assert_allclose(table["error_standard_error"], spread, rtol=1e-12)
    share = (table["label_of_run"] == "specialized").mean("run")
    np.testing.assert_array_equal(table["share_specialized"], share)
    np.testing.assert_allclose(
        table["share_specialized_standard_error"], np.sqrt(share * (1 - share) / runs), atol=1e-15
    )


def test_a_rule_of_a_script_reaches_the_workers(tmp_path):
    """Worker processes do not have the script's text, from which the equations are found again."""
    script = tmp_path / "script.py"
    script.write_text("""
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from solvers import Experiment, sweep
from theory.rules import MetaRule
from theory.rules.base import rate

@dataclass(frozen=True, kw_only=True)
class Halving(MetaRule):
    name: ClassVar[str] = "halving"
    large: float = rate("rate of the first step")

    def adapt(self, network, task):
        network = network.descend(task.support, head=self.large)
        return network.descend(task.support, head=self.large * 0.5)

if __name__ == "__main__":
    rule = Halving(large=1.0, outer_rate=1.5)
    e = Experiment.load("meta-specialization").replace(rule=rule, **{"integrate.time": 3.0})
    one, two = (sweep(e, ["rule.large=0.5,1"], workers=n) for n in (1, 2))
    assert np.isfinite(one["error"]).all() and one.identical(two), (one, two)
""")
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_everything_needed_to_make_it_again_is_in_the_file(committee, tmp_path):
    made = phase_diagram(committee, AXES, tmp_path).dataset
    assert store.experiment_of(made) == committee
    assert made["rule.outer_rate"].attrs["units"] == "1"
    assert made["plateau_length"].attrs["units"] == "outer updates / N"
    assert all("units" in variable.attrs for variable in made.data_vars.values())
    identity = json.loads(made.attrs["identity"])
    assert identity["sources"] == [committee.compiled.digest]
    assert identity["experiment"] == committee.digest == made.attrs["experiment_digest"]


@pytest.mark.alone
def test_preparing_a_point_costs_less_than_2_ms(committee):
    study = Study.of(committee, AXES)
    tasks = list(study.tasks((i, j) for i in range(6) for j in range(5)))
    study.at(tasks[0]).compiled  # noqa: B018

    def cost():
        begin = time.process_time()
        for task in tasks:
            study.at(task).compiled  # noqa: B018
        return (time.process_time() - begin) / len(tasks)

    assert min(cost() for _ in range(10)) < 2e-3


def test_a_hundred_thousand_points_stay_below_1_GiB(tmp_path):
    """The whole path but the integration: places, journal, dataset, in a process of its own.

    The peak is read where it is the process's alone: ``ru_maxrss`` starts at its parent's.
    """
    code = f"""
from pathlib import Path
from solvers.diagrams.engine import InProcess
from solvers.experiment import Experiment
from solvers.diagrams.journal import Journal
from solvers.diagrams.sweep import Study, dataset, fill

def dry(task):
    return {{"label": "symmetric", "status": "success", "message": "x" * 200, "error": task[0] / 7}}

study = Study.of(
    Experiment.load("saad-solla"), ["rule.outer_rate=1:2:1000", "tasks.head_mean=1:2:100"]
)
with Journal(Path({str(tmp_path)!r}) / "journal", study.identity) as journal:
    fill(study, journal, InProcess(), work=dry)
    made = dataset(study, journal, None)
assert made["error"].shape == (1000, 100)
assert (made["error"].values[:, 0] == [i / 7 for i in range(1000)]).all()
print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) * 1024 < 2**30


def sleeping(task):
    begin = time.perf_counter()
    time.sleep(0.005)
    return {"seconds": time.perf_counter() - begin}


class Timed:
    """The work of a study, with the seconds that it takes."""

    def __init__(self, study):
        self.inner = Trajectories(study)

    def __call__(self, task):
        begin = time.perf_counter()
        record = self.inner(task)
        return record | {"seconds": time.perf_counter() - begin}


@pytest.mark.alone
def test_forty_by_forty_points_keep_two_workers_busy(effort):
    """40 × 40 points at K = M = 2 to α = 50, in full; overhead counts all that is no point."""
    study = Study.of(
        Experiment.load("saad-solla").replace(**{"integrate.time": 50.0}),
        ["rule.outer_rate=0.1:4:40", f"tasks.head_mean=0.5:1.5:{max(4, round(40 * effort))}"],
    )
    work, tasks = Timed(study), list(study.tasks(itertools.chain(*study.placement.rounds({}))))

    def once(pool):
        begin = time.perf_counter()
        outcomes = [o for batch in compute(work, tasks, pool, len(tasks)) for o in batch]
        wall = time.perf_counter() - begin
        assert len(outcomes) == study.total
        return wall, sum(o.record["seconds"] for o in outcomes)

    with pool_of(2) as pool:
        list(compute(work, tasks[:8], pool, 8))
        tries = [once(pool) for _ in range(5)]
    assert min(2 * wall - busy for wall, busy in tries) / study.total < 2e-3
    if effort == 1:
        assert max(busy / (2 * wall) for wall, busy in tries) > 0.9


@pytest.mark.alone
def test_two_workers_are_busy_nine_tenths_of_the_time():
    tasks = [(i,) for i in range(600)]
    with pool_of(2) as pool:
        list(compute(sleeping, tasks[:4], pool, 4))
        begin = time.perf_counter()
        outcomes = [o for batch in compute(sleeping, tasks, pool, 600) for o in batch]
        wall = time.perf_counter() - begin
    busy = sum(o.record["seconds"] for o in outcomes)
    assert busy / (2 * wall) > 0.9
    assert wall - busy / 2 < 600 * 2e-3


def test_on_a_cluster_the_values_are_the_same(committee, cluster, tmp_path):
    address, _, _ = cluster
    found = phase_diagram(committee, AXES, tmp_path, cluster=address).dataset
    xarray.testing.assert_equal(found, sweep(committee, AXES))


def test_a_lost_scheduler_is_resumed_without_it(committee, cluster, tmp_path):
    address, scheduler, _ = cluster

    def stop(done, total):
        if 5 < done < total and scheduler.poll() is None:
            os.kill(scheduler.pid, signal.SIGKILL)
            scheduler.wait()

    axes = [AXES[0], "tasks.head_mean=0.5:1.5:30"]
    with pytest.raises(Interrupted, match=r"scheduler.*--resume") as raised:
        phase_diagram(committee, axes, tmp_path, cluster=address, progress=stop)
    assert 5 < raised.value.result.done < raised.value.result.points == 180
    found = phase_diagram(committee, axes, tmp_path, resume=True).dataset
    xarray.testing.assert_equal(found, sweep(committee, axes))
