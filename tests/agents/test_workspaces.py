from __future__ import annotations

import os
import subprocess
import threading
import time
from contextlib import contextmanager

import pytest

from agents import sandbox
from agents.workspaces import Workspace, WorkspaceError
from projects import git, intake
from projects.hub import Hub, init, integration_ref, module_ref

BOT = ("executor cheap", "agent@localhost")


@pytest.fixture
def hub(tmp_path) -> Hub:
    path = tmp_path / "hub.git"
    init(path)
    hub = Hub(path)
    empty = git.run("mktree", repo=path, input=b"").text
    root = hub.commit_tree(empty, [], "Start", author=BOT, trailers={})
    first = hub.commit_files(root, {"a.py": b"one\n", "b.py": b"two\n"}, "First")
    assert hub.swap(integration_ref(), first, None)
    return hub


@pytest.fixture
def base(hub):
    return hub.head(integration_ref())


@pytest.fixture
def workspace(hub, base, tmp_path) -> Workspace:
    return Workspace(tmp_path / "workspaces" / "1" / "core").prepare(hub, base, refs={"base": base})


def in_clone(workspace, *args):
    done = subprocess.run(["git", *args], cwd=workspace.path, capture_output=True, check=True)
    return done.stdout.decode().strip()


def take(hub, workspace, message="Work"):
    bundle = workspace.checkpoint(message, BOT, {"Tutti-Module": "core"})
    return intake.take(hub, bundle, module_ref(1, "core"), expected_base=workspace.commit)


def test_a_clone_is_at_the_commit_with_its_refs(workspace, base):
    assert (workspace.path / "a.py").read_text() == "one\n"
    assert in_clone(workspace, "rev-parse", "HEAD") == base
    assert in_clone(workspace, "rev-parse", "refs/tutti/base") == base
    assert in_clone(workspace, "status", "--porcelain") == ""
    assert workspace.exists()


def test_a_clone_holds_nothing_of_other_modules_and_shares_no_file(hub, base, workspace):
    other = hub.commit_files(base, {"secret": b"x"}, "Other")
    hub.swap(module_ref(1, "other"), other, None)
    workspace.prepare(hub, base)
    assert subprocess.run(["git", "cat-file", "-e", other], cwd=workspace.path).returncode != 0
    assert not (workspace.path / ".git" / "objects" / "info" / "alternates").exists()
    files = [p for p in (workspace.path / ".git").rglob("*") if p.is_file()]
    assert {p.stat().st_nlink for p in files} == {1}


def test_a_checkpoint_commits_what_is_there(hub, base, workspace):
    (workspace.path / "a.py").write_text("changed\n")
    (workspace.path / "new").mkdir()
    (workspace.path / "new" / "c.py").write_text("new\n")
    (workspace.path / "b.py").unlink()
    head = take(hub, workspace, "Do it")
    assert {(c.path, c.status) for c in hub.changes(base, head)} == {
        ("a.py", "M"), ("b.py", "D"), ("new/c.py", "A"),
    }  # fmt: skip
    assert hub.head(module_ref(1, "core")) == head
    raw = git.run("log", "-1", "--format=%an|%ae|%cn|%B", head, repo=hub.path).text
    assert raw.strip() == "executor cheap|agent@localhost|Tutti|Do it\n\nTutti-Module: core"


def test_nothing_changed_is_no_bundle(workspace):
    assert workspace.checkpoint("Nothing", BOT) is None


def test_turn_after_turn_builds_on_what_was_accepted(hub, workspace):
    for n in range(3):
        (workspace.path / "a.py").write_text(f"turn {n}\n")
        workspace.accept(take(hub, workspace))
    assert hub.read(workspace.commit, "a.py") == b"turn 2\n"
    assert len(hub.log(None, workspace.commit)) == 5


def test_a_clone_takes_in_a_newer_commit(hub, base, workspace):
    newer = hub.commit_files(base, {"fresh.py": b"x\n", "b.py": None}, "Newer")
    (workspace.path / "left.over").write_text("x")
    workspace.update(hub, newer, refs={"base": newer})
    assert sorted(p.name for p in workspace.path.iterdir()) == [".git", "a.py", "fresh.py"]
    assert in_clone(workspace, "rev-parse", "refs/tutti/base") == newer
    workspace.update(hub, newer)
    (workspace.path / "a.py").write_text("after\n")
    assert hub.is_ancestor(newer, take(hub, workspace))


def test_preparing_again_renews_the_clone_but_keeps_the_home(hub, base, workspace):
    (workspace.home / "session").write_text("kept")
    (workspace.path / "junk").write_text("gone")
    workspace.prepare(hub, base)
    assert (workspace.home / "session").read_text() == "kept"
    assert not (workspace.path / "junk").exists()


def test_a_deleted_repository_is_a_clear_reason(workspace):
    sandbox.run(["/bin/rm", "-rf", ".git"], workspace=workspace.path)
    with pytest.raises(WorkspaceError, match=r"removed or replaced its repository") as caught:
        workspace.checkpoint("x", BOT)
    assert caught.value.kind == "repo"


def test_a_deleted_clone_is_a_clear_reason(workspace):
    subprocess.run(["rm", "-rf", workspace.path], check=True)
    with pytest.raises(WorkspaceError, match="has no clone"):
        workspace.checkpoint("x", BOT)


def test_broken_objects_are_a_clear_reason(workspace):
    subprocess.run(["rm", "-rf", workspace.path / ".git" / "objects"], check=True)
    (workspace.path / ".git" / "objects").mkdir()
    (workspace.path / "a.py").write_text("x")
    with pytest.raises(WorkspaceError, match=r"no longer holds|is broken"):
        workspace.checkpoint("x", BOT)


def test_a_broken_index_and_left_locks_are_mended(hub, workspace):
    (workspace.path / ".git" / "index").write_bytes(b"garbage")
    (workspace.path / ".git" / "index.lock").write_bytes(b"")
    (workspace.path / ".git" / "HEAD.lock").write_bytes(b"")
    (workspace.path / "a.py").write_text("x\n")
    assert hub.read(take(hub, workspace), "a.py") == b"x\n"


@contextmanager
def locked(workspace, seconds):
    """Somebody else's git takes the lock of the index, again and again."""
    lock, end = workspace.path / ".git" / "index.lock", time.monotonic() + seconds
    over = threading.Event()

    def hold():
        while time.monotonic() < end and not over.wait(0.001):
            lock.touch()
        lock.unlink(missing_ok=True)

    lock.touch()
    other = threading.Thread(target=hold)
    other.start()
    yield
    over.set()
    other.join()


def test_git_of_a_living_agent_is_in_nobodys_way(hub, workspace):
    with locked(workspace, 0.7):
        workspace.update(hub, workspace.commit)
    (workspace.path / "a.py").write_text("more\n")
    with locked(workspace, 0.7):
        head = take(hub, workspace)
    assert hub.read(head, "a.py") == b"more\n"


def test_work_that_is_too_large_is_a_clear_reason(workspace):
    (workspace.path / "big").write_bytes(os.urandom(3_000_000))
    with pytest.raises(WorkspaceError, match="leave built and downloaded files out") as caught:
        workspace.checkpoint("x", BOT, max_bytes=1_000_000)
    assert caught.value.kind == "size"


def test_a_workspace_is_removed_whatever_its_modes(workspace):
    locked = workspace.path / "locked" / "deep"
    locked.mkdir(parents=True)
    (locked / "f").write_text("x")
    (workspace.path / "out").symlink_to("/usr")
    locked.chmod(0)
    locked.parent.chmod(0o500)
    workspace.remove()
    assert not workspace.directory.exists()
    workspace.remove()


def test_a_module_has_its_place_below_the_data_directory(settings, tmp_path):
    settings.TUTTI_HOME = tmp_path
    assert Workspace.of(7, "core/io").directory == tmp_path / "workspaces" / "7" / "core+io"
    assert not Workspace.of(7, "core/io").exists()
