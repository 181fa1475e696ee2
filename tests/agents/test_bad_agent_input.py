"""What people and providers get wrong: each gets a sentence that says what to do.

Tested where each lives: an agent that is not installed, unknown models and options of ACP agents
and signing in (test_acp.py), wrong addresses, keys and models of an API and five answers that fit
no schema (test_llm.py), refusals of providers by agent (test_command.py, formats), addresses of
repositories (tests/projects/test_private_sources.py, test_hub.py). Here is what is left.
"""

from __future__ import annotations

import re
import ssl
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.utils import timezone

from agents import pipeline, scheduler
from agents.backends.base import BackendError, Turn
from agents.backends.command import CommandBackend
from agents.backends.mistakes import failure
from agents.services import runs
from agents.workspaces import Workspace
from tests.acceptance.conftest import team  # noqa: F401
from tests.acceptance.stage import given
from tests.acceptance.test_acp_runs import executor
from tests.agents import test_llm
from tests.agents.llmstub import Stub
from tests.agents.test_acp import Stage

COMMON = NameOID.COMMON_NAME


@pytest.fixture
def acp(tutti_home, tmp_path):
    stage = Stage(tmp_path)
    yield stage
    stage.kept.close()


@pytest.fixture
def command(tmp_path):
    """Let a shell script be an agent of the command backend; returns the error of its turn."""

    def fails(script: str, *argv: str, **settings) -> BackendError:
        values = {"command": [*argv] or ["/bin/sh", "-c", script], "format": "text", **settings}
        turn = Turn("Build.", "m", "build", "executor", 1, "nine", tmp_path, tmp_path, values)
        with pytest.raises(BackendError) as caught:
            CommandBackend().run(turn, lambda *_: None, lambda: None)
        return caught.value

    return fails


def says(error: BaseException, kind: str, owner: str, *words: str) -> None:
    assert isinstance(error, BackendError)
    assert (error.kind, error.owner) == (kind, owner), error
    for text in words:
        assert text in str(error)
    assert str(error).endswith("."), error


@pytest.mark.parametrize(
    ("prompt", "kind", "owner", "words"),
    [
        ("model", "settings", "tutti", ["NotFoundError: nine. Correct the model in the role's"]),
        ("cert", "settings", "tutti", ["is not trusted", "NODE_EXTRA_CA_CERTS or SSL_CERT_FILE"]),
        ("url", "settings", "tutti", ["can't be reached", "whether the profile has network"]),
        ("write used", "exhausted", "provider", ["is used up", "fill it up", "another provider"]),
        ("rate", "rate_limited", "provider", ["come too fast", "tried again by itself"]),
    ],
)
def test_an_acp_agents_words_tell_what_to_do(acp, prompt, kind, owner, words):
    says(acp.fails(prompt), kind, owner, *words)


@pytest.mark.parametrize("script", ["echo usage: agent [acp] >&2; exit 2", "exit 0"])
def test_a_command_that_is_no_acp_agent(acp, script):
    error = acp.fails("one", command=["/bin/sh", "-c", script])
    code = script[-1]
    says(error, "protocol", "tutti", f"exit code {code} before it answered as an ACP agent",
         "Check that its command starts it in ACP mode", "/bin/sh -c")  # fmt: skip


@pytest.mark.parametrize(
    ("script", "kind", "owner", "words"),
    [
        ("echo 'Error: model not found: nine' >&2; exit 1", "settings", "tutti",
         ["Correct the model in the role's profile"]),
        ("echo 'certificate has expired' >&2; exit 1", "settings", "tutti",
         ["name the file of your own authority"]),
        ("echo 'getaddrinfo ENOTFOUND api.example' >&2; exit 1", "settings", "tutti",
         ["look at the address"]),
        ("echo Half done.; echo 'Your credit balance is too low' >&2; exit 1", "exhausted",
         "provider", ["credit balance is too low. Work goes on by itself", "fill it up"]),
        ("echo 'Not logged in' >&2; exit 1", "signed_out", "provider",
         ["Enter the account's key at its provider", "and retry"]),
        ("echo 'tests failed' >&2; exit 1", "exit", "agent", ["exit code 1: tests failed"]),
    ],
)  # fmt: skip
def test_a_command_lines_words_tell_what_to_do(command, script, kind, owner, words):
    says(command(script), kind, owner, *words)


def test_a_command_that_is_not_installed(command):
    error = command("", "no-such-agent", "--json")
    says(error, "not_installed", "tutti", "no-such-agent is not installed on this host",
         "or correct the command in the role's profile", "in the profile's readable")  # fmt: skip
    assert error.permanent
    error = command("echo began; exit 127")
    says(error, "exit", "agent", "exit code 127")


def self_signed(path: Path) -> Path:
    """A key and its own certificate for 127.0.0.1, in one file."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.NameAttribute(COMMON, "127.0.0.1")
    now, who = timezone.now(), x509.Name([name])
    made = x509.CertificateBuilder().subject_name(who).issuer_name(who).serial_number(1)
    made = made.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    certificate = made.public_key(key.public_key()).sign(key, hashes.SHA256())
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    path.write_bytes(key.private_bytes(pem, *plain) + certificate.public_bytes(pem))
    return path


def test_a_certificate_that_nobody_vouches_for(tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path / "server.pem"))
    stub = Stub(lambda _: "never")
    stub.server.socket = context.wrap_socket(stub.server.socket, server_side=True)
    try:
        error = test_llm.Stage(tmp_path).fails(stub.url.replace("http", "https", 1))
    finally:
        stub.close()
    says(error, "settings", "tutti", "its certificate is not trusted", "self-signed certificate",
         "SSL_CERT_FILE")  # fmt: skip
    assert stub.requests == []


# --- A full disk ---------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tutti_home: Path):
    """All of Tutti's data on a disk of 6 MB."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", tutti_home], capture_output=True
    )
    if done.returncode:
        pytest.skip(f"no disk of one's own can be made here: {done.stderr.decode().strip()}")
    yield tutti_home
    subprocess.run(["umount", "-l", tutti_home], check=True)


def build_once(stage):
    """Do what is queued until the module's next build has ended; returns that run."""
    before = len(stage.runs("a", "build"))
    stage.project.modules.update(not_before=None)
    while len(found := stage.runs("a", "build")) == before or found[-1].is_active:
        scheduler.tick()
        for pk, fence in stage.project.runs.filter(status="queued").values_list("pk", "fence"):
            if (run := runs.run_claim(pk, fence)) is not None:
                pipeline.execute(run)
    return found[-1]


def test_a_full_disk_is_nobodys_failure_and_says_what_to_free(small_disk, team):  # noqa: F811
    stage = team(given("a"))
    executor(stage, "right", "fills")
    stage.approve()
    filled = build_once(stage)
    Workspace.of(stage.project.pk, "a").remove()
    with (small_disk / "ballast").open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(4096))
    full = build_once(stage)
    error = failure("The agent ended with exit code 1: ENOSPC: no space left on device", "exit")
    says(error, "disk", "tutti", "Free some space there")
    (small_disk / "ballast").unlink()
    executor(stage, "right")
    good = build_once(stage)
    assert "could not go on" not in filled.reason, "its commit failed, not the agent"
    wanted = rf"The disk that holds {re.escape(str(small_disk))} is full \(\d+ MB left\), .*Free "
    for run in (filled, full):
        assert (run.status, run.reason_kind, run.reason_owner) == ("failed", "disk", "tutti")
        assert re.search(wanted, run.reason), run.reason
    assert good.status == "succeeded"
    assert stage.module("a").failures == 0
