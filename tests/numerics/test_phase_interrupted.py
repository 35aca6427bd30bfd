"""Diagrams by the command, killed, refused or out of room, and continued to the same values."""

import resource
import signal
import subprocess
import sys
import time

import pytest
import xarray

from solvers import store
from solvers.diagrams.phase import FILE, JOURNAL

AXES = ["rule.outer_rate=0.5:4:6", "tasks.head_mean=0.5:1.5:5"]
SETTINGS = {"integrate.time": 4.0, "integrate.points": 5, "integrate.method": "LSODA"}
"""Slow enough that there is time to kill what computes it."""
DRAWN = {f"initial.random.{k}": v for k, v in (("norm", 0.5), ("dimension", 50), ("seed", 3))}


def command(folder, *extra, axes=AXES, settings=None):
    """The diagram by the command, in a process of its own."""
    words = ["phase", "saad-solla", "--out", str(folder), *extra]
    for axis in axes:
        words += ["--axis", axis]
    for key, value in (settings or SETTINGS).items():
        words += ["--set", f"{key}={value}"]
    return [sys.executable, "-c", "from solvers.cli import main; main()", *words]


def finish(folder, *extra, **more):
    done = subprocess.run(command(folder, *extra, **more), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return store.load(folder / FILE)


def lines_of(journal):
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def killed(folder, lines, *extra, **more):
    """Starts the command and kills it once the journal has so many lines."""
    process = subprocess.Popen(command(folder, *extra, **more))
    until = time.monotonic() + 120
    while lines_of(folder / JOURNAL) < lines and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.002)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize(
    ("extra", "settings"),
    [
        ((), SETTINGS),
        (("--adaptive", "20", "--runs", "2"), SETTINGS | DRAWN),
    ],
    ids=["grid", "adaptive-ensemble"],
)  # fmt: skip
def test_killed_and_resumed_the_file_is_the_same(tmp_path, extra, settings):
    whole = finish(tmp_path / "whole", *extra, "--workers", "1", settings=settings)
    folder = tmp_path / "killed"
    killed(folder, 4, *extra, "--workers", "2", settings=settings)
    assert not (folder / FILE).exists()
    again = finish(folder, *extra, "--workers", "1", "--resume", settings=settings)
    xarray.testing.assert_identical(whole.drop_attrs(), again.drop_attrs())
    assert whole.attrs == again.attrs
    assert not (folder / JOURNAL).exists()


def test_unfinished_work_is_neither_lost_nor_mixed(tmp_path):
    killed(tmp_path, 4, "--workers", "1")
    kept = (tmp_path / JOURNAL).read_bytes()
    for extra, axes, sentence in (
        ([], AXES, "--resume"),
        (["--resume"], AXES[:1], "something else"),
        (["--resume", "--set", "rule.outer_rate=9", "--set", "integrate.rtol=1e-9"], AXES, "else"),
    ):
        done = subprocess.run(command(tmp_path, *extra, axes=axes), capture_output=True, text=True)
        assert done.returncode == 2
        assert sentence in done.stderr
        assert done.stderr.count("\n") == 1
    assert (tmp_path / JOURNAL).read_bytes() == kept


def test_a_second_command_in_the_same_folder_is_refused(tmp_path):
    first = subprocess.Popen(command(tmp_path, "--workers", "1"), stderr=subprocess.PIPE)
    while lines_of(tmp_path / JOURNAL) < 2:
        assert first.poll() is None
        time.sleep(0.002)
    first.send_signal(signal.SIGSTOP)
    try:
        done = subprocess.run(
            command(tmp_path, "--workers", "1", "--resume"), capture_output=True, text=True
        )
    finally:
        first.send_signal(signal.SIGCONT)
    assert done.returncode == 2
    assert "another process is at work" in done.stderr
    first.communicate()
    assert first.returncode == 0


def test_a_full_disk_ends_with_a_sentence_and_is_resumed(tmp_path):
    whole = finish(tmp_path / "whole", "--workers", "1")
    folder = tmp_path / "full"
    done = subprocess.run(
        command(folder, "--workers", "1", "--json"), capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)),
    )  # fmt: skip
    assert done.returncode == 3
    assert "--resume" in done.stderr
    assert done.stderr.count("\n") == 1
    assert '"points": 30' in done.stdout
    assert '"file": null' in done.stdout
    assert not (folder / FILE).exists()
    again = finish(folder, "--workers", "1", "--resume")
    xarray.testing.assert_identical(whole.drop_attrs(), again.drop_attrs())
