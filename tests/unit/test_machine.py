"""What the kernel says, read from folders of files."""

from __future__ import annotations

import pytest

from agents import machine
from agents.machine import Ticks

GB = 1024**3


def files(root, **texts):
    for name, text in {"proc/meminfo": MEMINFO, **texts}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(text))
    return root


MEMINFO = "MemTotal: 8388608 kB\nMemFree: 1048576 kB\nMemAvailable: 4194304 kB\nCached: 1024 kB\n"
V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/memory"


def v2(root, limit, used, inactive=0, group="jobs/one", **more):
    place = f"{V2}/{group}"
    return files(root, **{
        f"{V2}/cgroup.controllers": "memory", "proc/self/cgroup": f"0::/{group}\n",
        f"{place}/memory.max": limit, f"{place}/memory.current": used,
        f"{place}/memory.stat": f"anon 5\ninactive_file {inactive}\n", **more,
    })  # fmt: skip


def read(root, **options):
    return machine.read(root, root=root, **options)


def test_a_machine_without_control_groups(tmp_path) -> None:
    found = read(files(tmp_path))
    assert (found.memory_mb, found.memory_available_mb, found.source) == (8192, 4096, "proc")
    assert (found.pressure_some, found.pressure_full, found.cpu_percent) == (None, None, None)
    assert found.doubt == "" and found.disk_free_mb > 0 and found.cores >= 1


def test_an_old_kernel_does_not_say_what_is_available(tmp_path) -> None:
    found = read(files(tmp_path, **{"proc/meminfo": MEMINFO.replace("MemAvailable", "Other")}))
    assert found.memory_available_mb == 1025


def test_a_host_without_proc_is_asked_in_another_way(tmp_path) -> None:
    assert read(files(tmp_path, **{"proc/meminfo": "nothing"})).memory_mb > 0


def test_the_limit_of_version_2_counts_with_its_files_taken_off(tmp_path) -> None:
    found = read(v2(tmp_path, 2 * GB, GB, inactive=GB // 2))
    assert (found.memory_mb, found.memory_available_mb) == (2048, 1536)
    assert (found.source, found.doubt) == ("cgroup", "")


def test_the_tightest_group_above_counts(tmp_path) -> None:
    v2(tmp_path, "max", GB)
    found = read(files(tmp_path, **{f"{V2}/jobs/memory.max": GB, f"{V2}/jobs/memory.current": 0}))
    assert (found.memory_mb, found.source) == (1024, "cgroup")


def test_the_limit_of_version_1(tmp_path) -> None:
    place = {f"{V1}/memory.usage_in_bytes": GB, f"{V1}/memory.limit_in_bytes": 3 * GB,
             "proc/self/cgroup": "4:cpu,memory:/docker/unseen\n"}  # fmt: skip
    found = read(files(tmp_path, **place))
    assert (found.memory_mb, found.memory_available_mb) == (3072, 2048)
    endless = read(files(tmp_path, **{**place, f"{V1}/memory.limit_in_bytes": 2**63 - 4096}))
    assert (endless.source, endless.doubt) == ("proc", "")


@pytest.mark.parametrize(
    ("limit", "used", "said"),
    [(64 * GB, GB, "(65536 MB) is larger than the machine (8192 MB)"), (0, GB, "is 0"),
     (-5, GB, "is -5"), ("garbage", GB, "cannot be read"), (GB, "garbage", "cannot be read"),
     (GB, 3 * GB, "(1024 MB) is less than what is in use (3072 MB)")],
)  # fmt: skip
def test_a_limit_that_lies_is_said_and_ignored(tmp_path, limit, used, said) -> None:
    found = read(v2(tmp_path, limit, used))
    assert found.doubt == f"The memory limit of /{V2}/jobs/one {said}: ignored."
    assert (found.memory_mb, found.memory_available_mb, found.source) == (8192, 4096, "proc")


def test_a_group_just_over_its_limit_has_nothing_left(tmp_path) -> None:
    assert read(v2(tmp_path, GB, GB + GB // 20)).memory_available_mb == 0


def test_a_budget_for_agents(tmp_path) -> None:
    found = read(files(tmp_path), budget_mb=1000, used_mb=300)
    assert (found.memory_mb, found.memory_available_mb, found.source) == (1000, 700, "budget")
    assert read(files(tmp_path), budget_mb=1000, used_mb=1300).memory_available_mb == 0
    assert read(files(tmp_path), budget_mb=6000, used_mb=0).memory_available_mb == 4096


def test_a_budget_larger_than_the_machine_is_said_and_ignored(tmp_path) -> None:
    found = read(files(tmp_path), budget_mb=9000)
    assert (found.memory_mb, found.source) == (8192, "proc")
    assert found.doubt == "TUTTI_MEMORY_MB is 9000 MB, but there are only 8192 MB: ignored."


def psi(some, full):
    return f"some avg10={some} avg60=0.00 total=1\nfull avg10={full} avg60=0.00 total=1\n"


def test_pressure_is_the_groups_own_where_it_has_one(tmp_path) -> None:
    files(tmp_path, **{"proc/pressure/memory": psi("1.50", "0.25")})
    assert machine.pressure(tmp_path) == (1.5, 0.25)
    v2(tmp_path, "max", 0, **{f"{V2}/jobs/one/memory.pressure": psi("7.00", "3.00")})
    assert machine.pressure(tmp_path) == (7.0, 3.0)


def test_pressure_that_makes_no_sense_is_none(tmp_path) -> None:
    files(tmp_path, **{"proc/pressure/memory": "some avg10=oops\nfull\n"})
    assert machine.pressure(tmp_path) == (None, None)


def test_cpu_between_two_readings(tmp_path) -> None:
    first = read(files(tmp_path, **{"proc/stat": "cpu  100 0 100 700 100 0 0 0 0 0\n"}))
    assert (first.ticks, first.cpu_percent) == (Ticks(200, 1000), None)
    files(tmp_path, **{"proc/stat": "cpu  250 0 150 1500 100 0 0 0 0 0\n"})
    assert read(tmp_path, before=first.ticks).cpu_percent == 20.0
    assert read(tmp_path, before=Ticks(9000, 99000)).cpu_percent is None
    assert read(files(tmp_path, **{"proc/stat": "cpu 1\n"}), before=first.ticks).ticks is None


def test_how_often_the_kernel_ended_something_for_memory(tmp_path) -> None:
    assert machine.oom_kills(files(tmp_path)) is None
    files(tmp_path, **{"proc/vmstat": "pgfault 9\noom_kill 3\noom_kill_other 4\n"})
    assert machine.oom_kills(tmp_path) == 3


def test_a_disk_that_cannot_be_read(tmp_path) -> None:
    found = machine.read(tmp_path / "gone", root=files(tmp_path))
    assert found.disk_free_mb is None and "cannot be read" in found.doubt


def test_this_machine_is_read_within_milliseconds(tmp_path) -> None:
    found = machine.read(tmp_path)
    assert 0 < found.memory_available_mb <= found.memory_mb
