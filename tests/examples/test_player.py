from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from examples.tree import git
from tests.examples.stage import PLAYER, play

HEADER = {"format": "tutti-recording/1", "module": "m", "role": "executor", "kind": "build"}


@pytest.fixture
def clone(tmp_path):
    clone = tmp_path / "clone"
    clone.mkdir()
    return clone


@pytest.fixture
def perform(tmp_path, clone):
    def perform(*events):
        path = tmp_path / "recording.jsonl"
        lines = [HEADER, *({"at": 0, **event} for event in events)]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        done = play(path, clone)
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    return perform


def test_files_are_written_and_deleted(perform, clone):
    (clone / "old").write_text("old")
    code, printed = perform(
        {"event": "write", "path": "new/deep/file", "content": "é\n"},
        {"event": "delete", "path": "old"},
        {"event": "delete", "path": "never/there"},
        {"event": "exit", "code": 0},
    )
    assert code == 0
    assert (clone / "new/deep/file").read_text() == "é\n"
    assert not (clone / "old").exists()
    assert printed[0] == {"at": 0, "event": "write", "path": "new/deep/file", "size": 3}


def test_the_recorded_exit_code_is_the_players(perform):
    assert perform({"event": "exit", "code": 7})[0] == 7


def test_a_recording_without_an_exit_is_an_agent_that_died(perform):
    assert perform({"event": "message", "text": "hello"})[0] == 1


@pytest.mark.parametrize("path", ["../out", "/tmp/out", "a/../../out", "", "./x", "a//b"])
def test_a_path_outside_is_refused(perform, path):
    code, printed = perform({"event": "write", "path": path, "content": "x"})
    assert code == 2
    assert "not a path inside the workspace" in printed[-1]["text"]


@pytest.mark.parametrize("path", ["link/file", "link"])
def test_a_link_is_never_followed(perform, clone, tmp_path, path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (clone / "link").symlink_to(outside)
    code, _ = perform({"event": "write", "path": path, "content": "x"})
    assert code == 2
    assert list(outside.iterdir()) == []


def test_a_link_to_a_file_is_never_written_through(perform, clone, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("as it was")
    (clone / "link").symlink_to(outside)
    code, _ = perform({"event": "write", "path": "link", "content": "x"})
    assert code == 2
    assert outside.read_text() == "as it was"


def test_restore_brings_back_and_takes_away(perform, clone):
    git(clone, "init", "--quiet")
    (clone / "kept").write_text("first")
    git(clone, "add", "kept")
    git(clone, "commit", "--quiet", "--message", "first")
    git(clone, "update-ref", "refs/tutti/base", "HEAD")
    (clone / "kept").write_text("changed")
    (clone / "new").write_text("new")
    restore = {"event": "restore", "ref": "refs/tutti/base"}
    done = {"event": "exit", "code": 0}
    code, _ = perform({**restore, "path": "kept"}, {**restore, "path": "new"}, done)
    assert code == 0
    assert (clone / "kept").read_text() == "first"
    assert not (clone / "new").exists()


def test_a_missing_ref_is_said(perform, clone):
    git(clone, "init", "--quiet")
    code, printed = perform({"event": "restore", "path": "a", "ref": "refs/tutti/base"})
    assert code == 2
    assert "no ref refs/tutti/base" in printed[-1]["text"]


def test_terminated_at_once(clone):
    events = [HEADER, {"at": 0, "event": "message", "text": "on"}, {"at": 60, "event": "exit"}]
    command = [sys.executable, "-I", "-S", str(PLAYER), "--scale", "1"]
    with subprocess.Popen(command, cwd=clone, stdin=-1, stdout=-1) as player:
        player.stdin.write("\n".join(json.dumps(event) for event in events).encode())
        player.stdin.close()
        assert json.loads(player.stdout.readline())["text"] == "on"
        player.send_signal(signal.SIGTERM)
        assert player.wait(timeout=5) == 128 + signal.SIGTERM


def test_time_follows_the_scale(tmp_path, clone):
    path = tmp_path / "recording.jsonl"
    path.write_text(json.dumps(HEADER) + "\n" + json.dumps({"at": 30, "event": "exit"}) + "\n")
    command = [sys.executable, "-I", "-S", str(PLAYER), "--scale", "0.001"]
    with path.open() as file:
        done = subprocess.run(command, cwd=clone, stdin=file, timeout=10)
    assert done.returncode == 0


def test_what_is_no_recording_is_said(clone):
    command = [sys.executable, "-I", "-S", str(PLAYER)]
    done = subprocess.run(command, cwd=clone, input="not json", capture_output=True, text=True)
    assert done.returncode == 2
    assert "not JSON Lines" in done.stdout
