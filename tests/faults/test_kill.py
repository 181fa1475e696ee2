"""Whatever is killed in the middle of the main job: it goes on, loses nothing, doubles nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence

import psutil
import pytest
import redis

from config import embedded, processes
from examples.prepare import prepare
from tests.acceptance.stage import code, need, part, proof
from tests.faults.installation import Installation, kill_group, replayed
from tests.wait import until

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of the death"),
]


@pytest.fixture(scope="module")
def tutti(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("kill") / "home")
    (made.home / "logs").mkdir(parents=True)
    made.open()
    yield made
    made.close()


def worker(tutti: Installation) -> None:
    """The process whose threads do the runs; dramatiq's first process lives."""
    tutti.worker().kill()


def master(tutti: Installation) -> None:
    """Dramatiq's first process; the one that does the runs outlives it for a moment."""
    tutti.worker_master().kill()


def worker_group(tutti: Installation) -> None:
    """Everything of the worker at once, as an out-of-memory killer or a lost host does."""
    kill_group(tutti.worker_master())


def clock(tutti: Installation) -> None:
    for process in tutti.members("manage.py schedule"):
        process.kill()


def valkey(tutti: Installation) -> None:
    psutil.Process(embedded.read_state(tutti.home)["pids"]["Valkey"]).kill()


def flush(tutti: Installation) -> None:
    with redis.Redis.from_url(embedded.redis_url(tutti.home)) as client:
        client.flushall()


#: One alone, one that is built beside what it needs, one that waits for it.
PLAN = (
    part("alpha"),
    part("beta", needs=[need("alpha", "contract")]),
    part("gamma", needs=[need("alpha", "implementation")]),
)


def has_all(
    tutti: Installation, slug: str, names: Sequence[str] = ("alpha", "beta", "gamma")
) -> bool:
    """The files are there as their recordings wrote them."""
    return all(
        tutti.show(slug, f"{name}.py") == code(name)
        and tutti.show(slug, f"tests/test_{name}.py") == proof(name)
        for name in names
    )


Killer = Callable[[Installation], None]


@pytest.mark.parametrize(
    "kills",
    [
        [("building", worker), ("merging", worker_group)],
        [("planning", flush), ("building", master), ("reviewing", valkey), ("merging", clock)],
    ],
    ids=lambda kills: "+".join(f"{when}-{who.__name__}" for when, who in kills),
)
def test_a_killed_process_loses_and_doubles_nothing(
    tutti: Installation, kills: list[tuple[str, Killer]]
) -> None:
    slug = tutti.team("-".join(who.__name__.replace("_", "-") for _, who in kills), *PLAN)
    job = tutti.run(slug)
    for status, kill in kills:
        tutti.wait_for_status(slug, [status])
        kill(tutti)
    tutti.finishes(slug, job)
    assert has_all(tutti, slug)


def test_everything_killed_at_once_goes_on_with_the_next_start(tutti: Installation) -> None:
    """Servers included, as when the machine loses its power."""
    slug = tutti.team("everything", *PLAN)
    first = tutti.run(slug)
    tutti.wait_for_status(slug, ["merging", "reviewing"])
    state = embedded.read_state(tutti.home)
    family = [process for process, _ in processes.marked(f"{tutti.home}#")]
    family += [psutil.Process(pid) for pid in (int(state["keeper"][0]), *state["pids"].values())]
    first.kill()
    for process in family:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    first.wait()
    embedded.stop(tutti.home)
    embedded.start(tutti.home)
    tutti.finishes(slug, tutti.run(slug))
    assert has_all(tutti, slug)


def test_two_workers_share_the_runs_and_one_is_told_to_go(tutti: Installation) -> None:
    """SIGTERM: its runs are interrupted within 30 s, and others go on with them.

    Twelve runs want to begin and the first worker has six threads, so the second must get some.
    """
    names = [f"part{number}" for number in range(12)]
    slug = tutti.team("two-workers", *(part(name) for name in names), ceiling=12)
    second = tutti.start_worker(6)
    job = tutti.run(slug)
    mine = (
        "SELECT r.id FROM agents_run r JOIN projects_project p ON p.id = r.project_id "
        "WHERE p.slug = %s AND r.host = 'second' AND r.status = ANY(%s)"
    )
    (run,) = until(
        lambda: tutti.rows(mine + " LIMIT 1", slug, ["running"]), seconds=60, what="a second run"
    )[0]
    # Its first process alone: that passes it on, and a second one would be impatience.
    second.terminate()
    ended = "SELECT status FROM agents_run WHERE id = %s"
    until(lambda: tutti.value(ended, run) not in ("running", "checking"), seconds=30)
    assert tutti.value(ended, run) in ("interrupted", "succeeded")
    second.wait(30)
    assert tutti.rows(mine, slug, ["running", "checking", "stopping"]) == []
    tutti.finishes(slug, job)
    assert has_all(tutti, slug, names)
    hosts = "SELECT DISTINCT r.worker FROM agents_run r JOIN projects_project p " \
            "ON p.id = r.project_id WHERE p.slug = %s AND r.worker <> ''"  # fmt: skip
    assert len({row[0].split(":")[1] for row in tutti.rows(hosts, slug)}) >= 2


def test_a_worker_that_slept_past_its_lease_writes_nothing(tutti: Installation) -> None:
    slug = tutti.team("sleeper", *PLAN)
    job = tutti.run(slug)
    tutti.wait_for_status(slug, ["building"])
    sleeper = tutti.worker()
    sleeper.suspend()
    lost = (
        "SELECT r.id, r.fence, r.ended_at, r.head_commit FROM agents_run r "
        "JOIN projects_project p ON p.id = r.project_id WHERE p.slug = %s AND r.status = 'stalled'"
    )
    until(lambda: tutti.rows(lost, slug), seconds=25, what="the lease to end")
    before = tutti.rows(lost, slug)
    sleeper.resume()
    tutti.finishes(slug, job)
    assert has_all(tutti, slug)
    assert set(before) <= set(tutti.rows(lost, slug))
    for run, _, ended, _ in before:
        late = "SELECT kind FROM agents_runlog WHERE run_id = %s AND at > %s"
        assert tutti.rows(late, run, ended) == []


def test_a_killed_demo_goes_on_with_the_same_project(tutti: Installation) -> None:
    """And what comes out is the library, file by file."""
    prepared = prepare("itsdangerous", tutti.home)
    prepared.plan_file.write_text(replayed(prepared.plan_file.read_text(), scale=0.2))
    words = ("demo", "itsdangerous", "--exit", "--port", "0")
    first = tutti.start(*words, log="itsdangerous")
    tutti.wait_for_status("itsdangerous", ["building"])
    first.kill()
    first.wait()
    second = tutti.start(*words, log="itsdangerous")
    tutti.finishes("itsdangerous", second)
    assert "Going on with itsdangerous." in tutti.said("itsdangerous")
    for path in tutti.git("itsdangerous", "ls-tree", "-r", "--name-only",
                          "refs/heads/tutti/integration", "src", "tests").splitlines():  # fmt: skip
        upstream = prepared.upstream / path
        if path.endswith(".py") and upstream.exists():
            assert tutti.show("itsdangerous", path) == upstream.read_text(), path
