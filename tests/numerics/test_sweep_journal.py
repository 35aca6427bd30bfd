"""The journal: what was finished is on disk, whatever happens to its process or its disk."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from solvers.diagrams.journal import Journal, JournalError

IDENTITY = {"experiment": "e", "axes": [1, 2]}
ENTRIES = [((i, 0), {"error": 0.1 * i, "label": "ψ", "escape": None}) for i in range(5)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "journal"


def write(path, entries=ENTRIES, **options):
    with Journal(path, IDENTITY, **options) as journal:
        journal.append(entries)


def read(path):
    with Journal(path, IDENTITY, resume=True) as journal:
        return list(journal)


def test_what_is_written_is_read(path):
    write(path, ENTRIES[:3])
    write(path, ENTRIES[3:], resume=True)
    assert read(path) == ENTRIES


def test_doubles_keep_every_bit(path):
    values = [0.1 + 0.2, 5e-324, 1.7976931348623157e308, -0.0, 1 / 3]
    write(path, [((0,), {"values": values})])
    ((_, record),) = read(path)
    assert [v.hex() for v in record["values"]] == [v.hex() for v in values]


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_last_line_is_dropped_and_written_again(path, cut):
    write(path)
    os.truncate(path, path.stat().st_size - cut)
    kept = read(path)
    assert kept == ENTRIES[: len(kept)]
    assert len(kept) == 4
    write(path, ENTRIES[4:], resume=True)
    assert read(path) == ENTRIES


def test_a_damaged_line_is_passed_over(path):
    write(path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b"0.2", b"0.7")
    path.write_bytes(b"".join(lines))
    assert read(path) == [e for e in ENTRIES if e[0] != (2, 0)]


def test_other_work_is_refused_and_left_alone(path):
    write(path)
    before = path.read_bytes()
    for resume in (False, True):
        with pytest.raises(JournalError, match=r"something else \(other axes\).*--out"):
            Journal(path, IDENTITY | {"axes": [1, 3]}, resume=resume)
    assert path.read_bytes() == before


def test_unfinished_work_is_not_thrown_away(path):
    write(path)
    with pytest.raises(JournalError, match=r"5 finished pieces of this very work.*--resume"):
        Journal(path, IDENTITY)
    assert read(path) == ENTRIES


def test_a_second_process_is_refused_until_the_first_ends(path):
    code = (
        "import sys, time; from pathlib import Path; from solvers.diagrams.journal import Journal\n"
        f"journal = Journal(Path({str(path)!r}), {IDENTITY!r}); print('held', flush=True)\n"
        "time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(JournalError, match="another process is at work"):
            Journal(path, IDENTITY, resume=True)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    assert read(path) == []


def test_removing_it_frees_the_folder(path):
    first = Journal(path, IDENTITY)
    first.append(ENTRIES)
    first.remove()
    assert not path.exists()
    write(path)


def test_a_full_disk_stops_the_writer_and_harms_nothing(path):
    """A limit on the size of files stands for the disk."""
    code = f"""
import json, resource, sys
from pathlib import Path
from solvers.diagrams.journal import Journal
journal = Journal(Path({str(path)!r}), {IDENTITY!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
done = 0
try:
    while True:
        journal.append([((done, 0), {{"x": done / 3}})])
        done += 1
except OSError as error:
    print(json.dumps([done, error.errno]))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    done, errno = json.loads(run.stdout)
    assert errno == 27  # EFBIG
    assert done > 5
    assert path.stat().st_size <= 1000
    assert read(path) == [((i, 0), {"x": i / 3}) for i in range(done)]


def test_killed_at_any_moment_nothing_that_was_reported_is_lost(path):
    code = f"""
from pathlib import Path
from solvers.diagrams.journal import Journal
journal = Journal(Path({str(path)!r}), {IDENTITY!r}, resume=True)
done = sum(1 for _ in journal)
while True:
    journal.append([((done, 0), {{"x": done / 3}})])
    done += 1
    print(done, flush=True)
"""
    reported = 0
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.05)
        writer.kill()
        seen = writer.stdout.read().split("\n")
        writer.wait()
        writer.stdout.close()
        reported = max([reported, *(int(line) for line in seen[:-1] if line)])
        found = read(path)
        assert found == [((i, 0), {"x": i / 3}) for i in range(len(found))]
        assert len(found) >= reported > 0
