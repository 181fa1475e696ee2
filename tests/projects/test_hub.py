from __future__ import annotations

import os
import shutil
import subprocess
import threading

import pytest

from projects import hub as hubs
from projects.git import GitError
from projects.hub import Hub, integration_ref, module_ref

WHO = ("agent", "agent@localhost")


def git(where, *args, input=None):
    argv = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *args]
    done = subprocess.run(argv, cwd=where, check=True, capture_output=True, input=input)
    return done.stdout.decode().strip()


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    (path / "a.py").write_text("one\n" * 30)
    (path / "b.py").write_text("two\n")
    git(path, "add", ".")
    git(path, "commit", "-qm", "First")
    return path


@pytest.fixture
def hub(source, tmp_path) -> Hub:
    return Hub.create(tmp_path / "hub.git", str(source), "main", roots=[tmp_path])


@pytest.fixture
def base(hub):
    return hub.head(integration_ref())


def test_a_hub_starts_at_the_teams_branch(hub, source, base):
    assert base == git(source, "rev-parse", "HEAD")
    assert hub.files(base) == ["a.py", "b.py"]
    assert hub.read(base, "b.py") == b"two\n"
    assert hub.read(base, "none.py") is None
    assert list((hub.path / "hooks").glob("*")) == []


def refused(tmp_path, source, branch="main"):
    with pytest.raises(GitError) as caught:
        Hub.create(tmp_path / "new.git", str(source), branch, roots=[tmp_path])
    assert not (tmp_path / "new.git").exists()
    assert list(tmp_path.glob("new.git.*")) == []
    return caught.value.message


def test_a_missing_repository_is_named(tmp_path):
    assert "There is no repository at" in refused(tmp_path, tmp_path / "gone")


def test_a_directory_without_git_says_so(tmp_path):
    (tmp_path / "plain").mkdir()
    assert "not a git repository" in refused(tmp_path, tmp_path / "plain")


def test_an_empty_repository_asks_for_a_first_commit(tmp_path):
    git(tmp_path, "init", "-q", "empty")
    assert "no commit yet; push a first commit" in refused(tmp_path, tmp_path / "empty")


def test_a_branch_that_does_not_exist_names_those_that_do(tmp_path, source):
    git(source, "branch", "dev")
    message = refused(tmp_path, source, "nope")
    assert "has no branch “nope”; it has dev, main." in message


def test_a_path_outside_the_roots_is_refused(tmp_path, source):
    with pytest.raises(GitError, match="outside the directories"):
        Hub.create(tmp_path / "h", str(source), "main", roots=[tmp_path / "other"])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "link").symlink_to(source)
    with pytest.raises(GitError, match="outside the directories"):
        Hub.create(tmp_path / "h", f"{tmp_path}/other/link", "main", roots=[tmp_path / "other"])


def test_other_projects_hubs_and_agents_clones_are_no_source(tmp_path, source, tutti_home):
    made = Hub.create(tutti_home / "hubs" / "1.git", str(source), "main", roots=[tmp_path])
    (tmp_path / "link").symlink_to(made.path)
    for stolen in (made.path, tmp_path / "link"):
        with pytest.raises(GitError, match="data of Tutti's own"):
            Hub.create(tmp_path / "h", str(stolen), "tutti/integration", roots=[tmp_path])
    shutil.copytree(source, tutti_home / "examples" / "small")
    Hub.create(tmp_path / "h", f"{tutti_home}/examples/small", "main", roots=[tmp_path])


@pytest.mark.parametrize(
    "url",
    ["file:///etc", "http://host/x", "git://host/x", "ext::sh -c x", "--upload-pack=touch x",
     "https:///x", "ssh://-oProxyCommand=x/y", "https://ho st/x", "", "fd::17", "ssh://h:99999999/x"],
)  # fmt: skip
def test_other_sources_are_refused(tmp_path, url):
    with pytest.raises(GitError):
        Hub.create(tmp_path / "h", url, "main", roots=[tmp_path])


def test_a_broken_source_gives_a_sentence(tmp_path, source):
    (source / ".git" / "HEAD").write_text("garbage")
    assert "cannot be read" in refused(tmp_path, source)


def test_an_empty_branch_name_means_the_sources_own(tmp_path, source):
    made = Hub.create(tmp_path / "h", str(source), "", roots=[tmp_path])
    assert made.head(integration_ref()) == git(source, "rev-parse", "HEAD")


def test_a_child_has_a_ref_beside_its_parents():
    assert module_ref(3, "core") == "refs/heads/tutti/3/core"
    assert module_ref(3, "core/io") == "refs/heads/tutti/3/core+io"


def test_parent_and_child_refs_live_side_by_side(hub, base):
    assert hub.swap(module_ref(1, "core"), base, None)
    assert hub.swap(module_ref(1, "core/io"), base, None)
    assert hub.refs("refs/heads/tutti/1/") == {
        "refs/heads/tutti/1/core": base,
        "refs/heads/tutti/1/core+io": base,
    }


def test_files_are_committed_without_a_work_tree(hub, base):
    made = hub.commit_files(base, {"x/y.py": b"new\n", "b.py": None}, "Skeleton\n\nWhy.", WHO,
                            trailers={"Tutti-Plan": "1"})  # fmt: skip
    assert hub.files(made) == ["a.py", "x/y.py"]
    raw = git(hub.path, "log", "-1", "--format=%an|%cn|%ce|%B", made)
    assert raw == "agent|Tutti|tutti@localhost|Skeleton\n\nWhy.\n\nTutti-Plan: 1"


@pytest.mark.parametrize("path", ["../x", "/x", ".git/config", "a/.GIT/x", "a//b", "", "a/./b"])
def test_files_outside_the_tree_are_refused(hub, base, path):
    with pytest.raises(GitError, match="inside the repository"):
        hub.commit_files(base, {path: b"x"}, "x")


def test_a_clean_merge_is_a_tree_and_moves_nothing(hub, base):
    ours = hub.commit_files(base, {"a.py": b"ours\n" + b"one\n" * 29}, "Ours")
    theirs = hub.commit_files(base, {"b.py": b"theirs\n"}, "Theirs")
    merged = hub.merge_tree(ours, theirs)
    made = hub.commit_tree(merged.tree, [ours, theirs], "Merge", author=WHO, trailers={})
    assert merged.conflicts == []
    assert hub.read(made, "b.py") == b"theirs\n"
    assert hub.head(integration_ref()) == base


def test_a_conflict_names_its_paths(hub, base):
    ours = hub.commit_files(base, {"b.py": b"ours\n"}, "Ours")
    theirs = hub.commit_files(base, {"b.py": b"theirs\n"}, "Theirs")
    merged = hub.merge_tree(ours, theirs)
    assert (merged.tree, merged.conflicts) == (None, ["b.py"])
    assert any("CONFLICT" in message for message in merged.messages)


def test_attributes_in_the_tree_cannot_hide_a_conflict(hub, base):
    start = hub.commit_files(base, {".gitattributes": b"* merge=union -diff\n"}, "Attributes")
    ours = hub.commit_files(start, {"b.py": b"ours\n"}, "Ours")
    theirs = hub.commit_files(start, {"b.py": b"theirs\n"}, "Theirs")
    assert hub.merge_tree(ours, theirs).conflicts == ["b.py"]
    assert "+ours" in hub.diff(start, ours).text


def test_commits_are_the_same_for_the_same_date(hub, base):
    made = {
        hub.commit_tree(hub.tree(base), [base], "M", author=WHO, trailers={"A": "1"}, date=1000)
        for _ in range(2)
    }
    assert len(made) == 1


def test_names_and_trailers_cannot_forge_lines(hub, base):
    made = hub.commit_tree(hub.tree(base), [base], "M", author=("x\ny <z>", "a>b\n"),
                           trailers={"A": "1\nReviewed-by: boss"})  # fmt: skip
    assert git(hub.path, "log", "-1", "--format=%an%n%b", made) == "x y z\nA: 1 Reviewed-by: boss"


def test_a_swap_is_compare_and_set(hub, base):
    new = hub.commit_files(base, {"x": b""}, "X")
    assert hub.swap(integration_ref(), new, base)
    assert not hub.swap(integration_ref(), base, base)
    assert not hub.swap(integration_ref(), new, None)
    assert hub.head(integration_ref()) == new


def test_a_swap_to_a_commit_that_is_missing_is_an_error(hub, base):
    with pytest.raises(GitError):
        hub.swap(integration_ref(), "1" * 40, base)


def test_of_many_swaps_at_once_exactly_one_wins(hub, base):
    news = [hub.commit_files(base, {"x": b"%d" % n}, "X") for n in range(8)]
    won = []
    threads = [
        threading.Thread(target=lambda new=new: won.append(hub.swap(integration_ref(), new, base)))
        for new in news
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]


def test_changes_show_both_sides_of_a_rename(hub, base):
    new = hub.commit_files(base, {"c.py": b"one\n" * 30, "a.py": None}, "Rename")
    found = {(change.path, change.status) for change in hub.changes(base, new)}
    assert found == {("a.py", "D"), ("c.py", "A")}
    assert "rename to c.py" in hub.diff(base, new).text


def test_a_diff_is_limited_in_paths_and_bytes(hub, base):
    new = hub.commit_files(base, {"a.py": b"x\n" * 9000, "b.py": b"y\n"}, "Much")
    assert "a.py" not in hub.diff(base, new, ["b.py"]).text
    assert hub.diff(base, new, []).text == ""
    cut = hub.diff(base, new, max_bytes=500)
    assert cut.truncated
    assert len(cut.text) <= 500
    assert ("a.py", 9000, 30) in hub.numstat(base, new)


def test_the_log_lists_what_is_new(hub, base):
    new = hub.commit_files(base, {"x": b""}, "Say \x1f it", WHO)
    found = hub.log(base, new)
    assert [(commit.sha, commit.author) for commit in found] == [(new, "agent")]
    assert found[0].subject.startswith("Say")


def test_the_history_lists_what_changed_together(hub, base):
    new = hub.commit_files(base, {"x": b"", "a.py": b"z"}, "Both")
    assert list(hub.history(5, new)) == [(new, ["a.py", "x"]), (base, ["a.py", "b.py"])]


def test_ancestors_and_bases(hub, base):
    new = hub.commit_files(base, {"x": b""}, "X")
    other = hub.commit_files(base, {"y": b""}, "Y")
    assert hub.is_ancestor(base, new)
    assert not hub.is_ancestor(new, base)
    assert hub.merge_base(new, other) == base


def test_a_checkout_is_the_tree_and_nothing_else(hub, base, tmp_path):
    hub.checkout(base, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.py", "b.py"]
    with pytest.raises(GitError, match="not empty"):
        hub.checkout(base, tmp_path / "out")


def test_a_checkout_converts_nothing(hub, base, tmp_path):
    attributes = b"* text eol=crlf\n*.u working-tree-encoding=UTF-16\n*.i ident\n*.f filter=x\n"
    files = {".gitattributes": attributes, "a": b"1\n", "b.u": b"2\n", "c.i": b"$Id$\n",
             "d.f": b"3\n", "e.sh": b"x\r\n"}  # fmt: skip
    new = hub.commit_files(base, files, "Attributes")
    hub.checkout(new, tmp_path / "out")
    assert {name: (tmp_path / "out" / name).read_bytes() for name in files} == files


def test_publishing_moves_the_teams_branch_forward_only(hub, base, source, tmp_path):
    git(source, "checkout", "-q", "-b", "elsewhere")
    new = hub.commit_files(base, {"x": b""}, "X")
    assert hub.publish(str(source), "main", new, base, roots=[tmp_path]).is_done
    assert git(source, "rev-parse", "main") == new
    again = hub.publish(str(source), "main", new, base, roots=[tmp_path])
    assert again.is_done
    back = hub.publish(str(source), "main", base, new, roots=[tmp_path])
    assert not back.is_done


def test_publishing_refuses_a_branch_that_moved(hub, base, source, tmp_path):
    (source / "team.py").write_text("x")
    git(source, "add", ".")
    git(source, "commit", "-qm", "Team")
    new = hub.commit_files(base, {"x": b""}, "X")
    published = hub.publish(str(source), "main", new, base, roots=[tmp_path])
    assert not published.is_done
    assert "has moved in the source" in published.message


def test_a_checked_out_branch_is_left_alone(hub, base, source, tmp_path):
    new = hub.commit_files(base, {"x": b""}, "X")
    published = hub.publish(str(source), "main", new, base, roots=[tmp_path])
    assert "is checked out in" in published.message
    assert git(source, "rev-parse", "main") == base


def test_a_branch_for_a_pull_request_is_pushed_without_hooks(hub, base, source, tmp_path):
    hooks = source / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("pre-receive", "update", "post-receive", "post-update", "reference-transaction"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/pwned\n")
        (hooks / name).chmod(0o755)
    new = hub.commit_files(base, {"x": b""}, "X")
    assert hub.push_branch(str(source), "tutti/plan-1", new, roots=[tmp_path]).is_done
    assert git(source, "rev-parse", "tutti/plan-1") == new
    assert not (tmp_path / "pwned").exists()
    other = hub.commit_files(base, {"y": b""}, "Y")
    assert (
        "already" in hub.push_branch(str(source), "tutti/plan-1", other, roots=[tmp_path]).message
    )


def test_fetching_again_brings_the_teams_new_commits(hub, source, tmp_path):
    (source / "team.py").write_text("x")
    git(source, "add", ".")
    git(source, "commit", "-qm", "Team")
    new = hub.fetch_source(str(source), "main", roots=[tmp_path])
    assert hub.has(new)
    assert new == hub.source_head(str(source), "main", roots=[tmp_path])


def test_a_missing_hub_says_what_to_run(tmp_path):
    with pytest.raises(GitError, match=r"manage\.py recover"):
        Hub(tmp_path / "gone").head(integration_ref())


def test_a_link_target_stays_in_the_tree_or_is_none():
    assert hubs.link_target("a/b", "../c") == "c"
    assert hubs.link_target("a", "b/../c") == "c"
    for target in ("/etc", "../x", "a/../../x", "", "x\0y"):
        assert hubs.link_target("a", target) is None


def test_half_made_hubs_of_dead_processes_are_removed(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    for name in (f"7.git.{dead.pid}.new", f"8.git.{os.getpid()}.new", "9.git"):
        (tmp_path / name).mkdir()
    assert hubs.remove_leftovers(tmp_path) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"8.git.{os.getpid()}.new", "9.git"]
