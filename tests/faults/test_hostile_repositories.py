"""What an agent may do to its clone; a canary proves that nothing of it ran outside."""

from __future__ import annotations

import os
import subprocess

import pytest

from agents import sandbox, workspaces
from agents.workspaces import Workspace, WorkspaceError
from projects import git, intake
from projects.hub import Hub, HubError, init, integration_ref, module_ref

BOT = ("agent", "agent@localhost")
REF = module_ref(1, "core")

pytestmark = pytest.mark.skipif(
    sandbox.level() != sandbox.BUBBLEWRAP, reason="bubblewrap does not work on this host"
)


@pytest.fixture
def canary(tmp_path):
    """A file that every planted command writes; inside the sandbox its directory is absent."""
    path = tmp_path / "canary" / "ran"
    path.parent.mkdir()
    return path


@pytest.fixture(autouse=True)
def nothing_ran_outside(canary):
    yield
    assert not canary.exists()


@pytest.fixture
def hub(tmp_path) -> Hub:
    init(tmp_path / "hub.git")
    hub = Hub(tmp_path / "hub.git")
    empty = git.run("mktree", repo=hub.path, input=b"").text
    root = hub.commit_tree(empty, [], "Start", author=BOT, trailers={})
    first = hub.commit_files(root, {"a.py": b"one\n", "d/b.py": b"two\n"}, "First")
    assert hub.swap(integration_ref(), first, None)
    return hub


@pytest.fixture
def base(hub):
    return hub.head(integration_ref())


@pytest.fixture
def workspace(hub, base, tmp_path) -> Workspace:
    return Workspace(tmp_path / "workspace").prepare(hub, base)


def agent(workspace, script, **env):
    """Let the agent do something in its sandbox, as a real one would."""
    done = sandbox.run(["/bin/sh", "-c", script], workspace=workspace.path, timeout_seconds=20,
                       env={**git.environment(inside=True), **env})  # fmt: skip
    assert done.code == 0, done.output


def take(hub, workspace, base):
    bundle = workspace.checkpoint("Work", BOT)
    assert bundle is not None
    return intake.take(hub, bundle, REF, expected_base=base)


def refused(hub, workspace, base, match):
    before = hub.refs("refs/")
    with pytest.raises(HubError, match=match) as caught:
        take(hub, workspace, base)
    assert hub.refs("refs/") == before
    return caught.value.message


def handmade(hub, tmp_path, tree_lines, base, *, name="refs/tutti/out"):
    """A bundle made by plumbing, as an agent with its own tools would make it."""
    clone = tmp_path / "evil"
    subprocess.run(["git", "clone", "-q", "--no-local", str(hub.path), str(clone)], check=True)

    def run(*args, data=b""):
        done = subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@x", *args],
                              cwd=clone, input=data, capture_output=True, check=True)  # fmt: skip
        return done.stdout.decode().strip()

    blob = run("hash-object", "-w", "--stdin", data=b"evil\n")
    tree = raw_tree(clone, tree_lines, blob)
    commit = run("commit-tree", tree, "-p", base, "-m", "Evil")
    run("update-ref", name, commit)
    bundle = tmp_path / "evil.bundle"
    run("bundle", "create", str(bundle), name, f"^{base}")
    return bundle


def raw_tree(clone, entries, blob):
    data = b"".join(
        mode + b" " + name + b"\0" + bytes.fromhex(sha or blob) for mode, name, sha in entries
    )
    argv = ["git", "hash-object", "-w", "-t", "tree", "--literally", "--stdin"]
    done = subprocess.run(argv, cwd=clone, input=data, capture_output=True, check=True)
    return done.stdout.decode().strip()


# --- What is planted in the clone runs nowhere but inside ----------------------------------------


@pytest.mark.parametrize(
    "plant",
    [
        "git config core.fsmonitor 'touch $CANARY'",
        "git config core.hooksPath hooks; mkdir hooks; for h in pre-commit post-commit"
        " reference-transaction post-index-change; do echo 'touch $CANARY' > hooks/$h;"
        " chmod +x hooks/$h; done",
        "for h in pre-commit post-checkout reference-transaction post-index-change; do mkdir -p"
        " .git/hooks; echo 'touch $CANARY' > .git/hooks/$h; chmod +x .git/hooks/$h; done",
        "git config filter.x.clean 'touch $CANARY; cat'; git config filter.x.smudge 'touch $CANARY;"
        " cat'; echo '* filter=x' > .gitattributes",
        "git config diff.external 'touch $CANARY'; git config diff.x.textconv 'touch $CANARY';"
        " echo '* diff=x' > .gitattributes",
        "git config merge.x.driver 'touch $CANARY'; echo '* merge=x' > .gitattributes",
        "git config alias.add '!touch $CANARY'; git config core.pager 'touch $CANARY'",
        "git config core.sshCommand 'touch $CANARY'; git config gpg.program 'touch $CANARY';"
        " git config commit.gpgSign true",
        "git config include.path ../planted; echo '[core] fsmonitor = touch $CANARY' > planted",
        "git config uploadpack.packObjectsHook 'touch $CANARY'; git config core.askPass $CANARY",
    ],
)
def test_planted_commands_never_run_outside(hub, base, workspace, canary, tmp_path, plant):
    agent(workspace, plant.replace("$CANARY", str(canary)) + "; echo changed > a.py")
    head = take(hub, workspace, base)
    assert hub.read(head, "a.py") == b"changed\n"
    hub.checkout(head, tmp_path / "checkout")
    hub.diff(base, head)
    hub.merge_tree(base, head)
    workspace.accept(head)
    workspace.update(hub, hub.commit_files(head, {"n": b"1"}, "Newer"))
    workspace.remove()


def test_a_planted_filter_that_hangs_is_ended(workspace, monkeypatch):
    monkeypatch.setattr(workspaces, "GIT_SECONDS", 1.0)
    agent(workspace, "git config filter.x.clean 'sleep 1000'; echo '* filter=x' > .gitattributes;"
                     " rm .git/info/attributes; echo changed > a.py")  # fmt: skip
    with pytest.raises(WorkspaceError, match="planted") as caught:
        workspace.checkpoint("x", BOT)
    assert caught.value.kind == "timeout"


def test_moving_refs_moves_nothing_but_the_clone(hub, base, workspace):
    agent(workspace, "echo x > a.py; git add -A; git commit -qm mine; for r in refs/heads/main"
                     " refs/heads/tutti/integration refs/tutti/base; do git update-ref $r HEAD;"
                     " done; git checkout -q --orphan lost; git commit -qm alone")  # fmt: skip
    head = take(hub, workspace, base)
    assert hub.head(integration_ref()) == base
    assert sorted(hub.refs("refs/")) == [REF, integration_ref()]
    assert hub.log(base, head)[0].subject == "Work"
    assert len(hub.log(base, head)) == 1


def test_a_rewritten_history_still_builds_on_the_base(hub, base, workspace):
    agent(workspace, "echo x > a.py; git add -A; git commit -q --amend -m forged;"
                     " git reflog expire --expire=now --all; rm -rf .git/refs/tutti")  # fmt: skip
    assert hub.is_ancestor(base, take(hub, workspace, base))


def test_alternates_to_another_project_show_nothing(hub, base, workspace, tmp_path):
    init(tmp_path / "other.git")
    other = Hub(tmp_path / "other.git")
    empty = git.run("mktree", repo=other.path, input=b"").text
    secret = other.commit_tree(empty, [], "Start", author=BOT, trailers={})
    secret = other.commit_files(secret, {"secret": b"tenant"}, "Secret")
    agent(workspace, f"echo {other.path}/objects > .git/objects/info/alternates; echo {secret} >"
                     " .git/refs/heads/stolen; echo x > a.py")  # fmt: skip
    head = take(hub, workspace, base)
    assert hub.files(head) == ["a.py", "d/b.py"]
    assert not hub.has(secret)


def test_a_git_file_that_points_elsewhere_is_refused(workspace, hub):
    agent(workspace, f"mv .git moved; echo 'gitdir: {hub.path}' > .git; echo x > a.py")
    with pytest.raises(WorkspaceError, match="removed or replaced"):
        workspace.checkpoint("x", BOT)


def test_a_git_link_to_the_hub_is_refused(workspace, hub):
    agent(workspace, f"mv .git moved; ln -s {hub.path} .git; echo x > a.py")
    with pytest.raises(WorkspaceError, match="removed or replaced"):
        workspace.checkpoint("x", BOT)


def test_a_worktree_setting_leads_nowhere(hub, base, workspace, canary):
    agent(workspace, f"git config core.worktree {canary.parent}; echo x > a.py")
    with pytest.raises(WorkspaceError, match="is broken"):
        workspace.checkpoint("x", BOT)


def test_links_left_in_the_home_do_not_lead_the_server_out(hub, base, workspace, canary):
    (workspace.home / "prompt.md").symlink_to(canary)
    os.mkfifo(workspace.home / "pipe")
    workspace.prepare(hub, base)
    (workspace.home / "prompt.md").write_text("for the agent")
    assert [path.name for path in workspace.home.iterdir()] == ["prompt.md"]


# --- What the work may not hold ------------------------------------------------------------------


def test_a_repository_in_the_repository_is_refused(hub, base, workspace):
    agent(workspace, "git init -q sub; cd sub; echo x > y; git add y; git commit -qm sub")
    refused(hub, workspace, base, "sub is a submodule or a repository")


@pytest.mark.parametrize("target", ["/etc/passwd", "../../secret", "d/../../x", "/"])
def test_a_link_out_of_the_tree_is_refused(hub, base, workspace, target):
    agent(workspace, f"ln -s {target} link")
    refused(hub, workspace, base, "The link link leads out of the repository")


def test_a_link_of_a_megabyte_is_refused(hub, base, tmp_path):
    long = hub.commit_files(base, {"long": b"x" * 1_000_000}, "Long")
    assert hub.swap(module_ref(1, "long"), long, None)
    blob = hub.blobs(long)["long"]
    bundle = handmade(hub, tmp_path, [(b"120000", b"link", blob)], base)
    with pytest.raises(HubError, match="leads out"):
        intake.take(hub, bundle, REF, expected_base=base)


def test_a_link_inside_the_tree_is_taken(hub, base, workspace, tmp_path):
    agent(workspace, "ln -s ../a.py d/link")
    head = take(hub, workspace, base)
    hub.checkout(head, tmp_path / "out")
    assert (tmp_path / "out" / "d" / "link").read_text() == "one\n"
    assert hub.links(head) == {"d/link": "../a.py"}


def test_file_names_that_are_no_text_are_refused(hub, base, workspace):
    agent(workspace, r"""touch "$(printf 'bad\377name')" """)
    message = refused(hub, workspace, base, "control characters or is not UTF-8")
    assert message.encode()


def test_file_names_with_control_characters_are_refused(hub, base, workspace):
    agent(workspace, r"""touch "$(printf 'a\033[31m\nb')" """)
    refused(hub, workspace, base, "control characters")


def test_content_that_is_no_text_is_carried_as_it_is(hub, base, workspace, tmp_path):
    agent(workspace, r"printf 'nul\000 bad\377\033]52;x\007' > a.py")
    head = take(hub, workspace, base)
    hub.checkout(head, tmp_path / "out")
    assert (tmp_path / "out" / "a.py").read_bytes() == b"nul\0 bad\xff\033]52;x\007"
    assert "\0" not in hub.diff(base, head).text
    hub.diff(base, head).text.encode()


def test_names_that_differ_only_in_case_are_refused(hub, base, workspace):
    agent(workspace, "echo x > A.py")
    refused(hub, workspace, base, "differ only in upper and lower case")


def test_a_file_that_is_too_large_is_refused(hub, base, workspace):
    agent(workspace, "truncate -s 60000000 zeros")
    refused(hub, workspace, base, "zeros is larger than 50 MB")


@pytest.mark.parametrize("name", [b".git", b".GIT", b"..", b".", b"git~1", b".gi\xe2\x80\x8ct"])
def test_trees_that_would_write_into_git_are_refused(hub, base, tmp_path, name):
    inner = [(b"100644", name, None)]
    bundle = handmade(hub, tmp_path, inner, base)
    before = hub.refs("refs/")
    with pytest.raises(HubError):
        intake.take(hub, bundle, REF, expected_base=base)
    assert hub.refs("refs/") == before
    made = git.run("bundle", "list-heads", str(bundle)).text.split()[0]
    assert not hub.has(made)


def test_a_planted_gitmodules_with_a_submodule_is_refused(hub, base, tmp_path):
    bundle = handmade(hub, tmp_path, [(b"160000", b"sub", "1" * 40)], base)
    with pytest.raises(HubError, match="submodule"):
        intake.take(hub, bundle, REF, expected_base=base)


def test_work_that_does_not_build_on_the_base_is_refused(hub, base, workspace):
    newer = hub.commit_files(base, {"n": b"1"}, "Newer")
    agent(workspace, "echo x > a.py")
    refused(hub, workspace, newer, "does not build on")


def test_a_bundle_with_unknown_prerequisites_is_refused(hub, base, tmp_path, workspace):
    agent(workspace, "echo x > a.py")
    bundle = workspace.checkpoint("Work", BOT)
    init(tmp_path / "other.git")
    with pytest.raises(HubError, match="no bundle that builds on known commits"):
        intake.take(Hub(tmp_path / "other.git"), bundle, REF, expected_base=base)


@pytest.mark.parametrize("content", [b"", b"garbage", b"# v2 git bundle\n\nPACK", b"\0" * 1000])
def test_garbage_is_no_bundle(hub, base, tmp_path, content):
    (tmp_path / "x.bundle").write_bytes(content)
    with pytest.raises(HubError):
        intake.take(hub, tmp_path / "x.bundle", REF, expected_base=base)


def test_a_bundle_that_is_no_plain_file_is_never_opened(hub, base, tmp_path):
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    for name, match in (("link", "no plain file"), ("pipe", "no plain file"), ("no", "no bundle")):
        with pytest.raises(HubError, match=match):
            intake.take(hub, tmp_path / name, REF, expected_base=base)


def test_a_bundle_that_is_too_large_is_refused(hub, base, workspace):
    agent(workspace, "head -c 2000000 /dev/urandom > big")
    bundle = workspace.checkpoint("Work", BOT)
    with pytest.raises(HubError, match="leave built and downloaded"):
        intake.take(hub, bundle, REF, expected_base=base, max_bytes=1_000_000)


def test_a_checkout_with_a_link_out_is_refused(hub, base, tmp_path):
    lines = f"120000 blob {'0' * 40}\tx"
    blob = git.run("hash-object", "-w", "--stdin", repo=hub.path, input=b"/etc").text
    tree = git.run("mktree", repo=hub.path, input=lines.replace("0" * 40, blob).encode() + b"\n")
    made = hub.commit_tree(tree.text, [base], "Link", author=BOT, trailers={})
    with pytest.raises(HubError, match="leads out"):
        hub.checkout(made, tmp_path / "out")


def test_many_files_are_refused_by_number(hub, base, workspace):
    agent(workspace, "mkdir many; cd many; seq 20001 | xargs touch")
    refused(hub, workspace, base, "more than 20000")
