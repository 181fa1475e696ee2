"""What an agent's last words stand for: its own failure, or what people have to mend.

A profile's model, its API's address and certificate, and a full disk are no agent's fault: no
attempt is counted.
"""

from __future__ import annotations

import re

from agents import diskspace
from agents.backends.base import BackendError

#: Exit codes of a shell whose program is not there or not one.
NOT_FOUND = (126, 127)

MODEL = (
    "Correct the model in the role's profile; testing the provider on the site's page shows which "
    "ones its agent offers."
)
CERTIFICATE = (
    "The certificate of its model API is not trusted: let that server show one of a known "
    "authority, or name the file of your own authority in the profile's variables (such as "
    "NODE_EXTRA_CA_CERTS or SSL_CERT_FILE) and readable."
)
ADDRESS = (
    "Its model API can't be reached: look at the address in the profile's variables or the agent's "
    "configuration, whether that server runs, and whether the profile has network."
)

# In this order: a certificate that is refused is often reported as a failed connection too.
_SIGNS = [
    (what, re.compile(pattern, re.IGNORECASE))
    for what, pattern in (
        (CERTIFICATE,
         r"self[- _]signed[- _]cert|certificate[- _]verify[- _]failed|cert[_ ]has[_ ]expired"
         r"|certificate (?:has expired|is not trusted|signed by unknown)|unknown certificate auth"
         r"|unable[ _]to[ _](?:verify[ _](?:the )?(?:first|leaf)|get[ _](?:local[ _])?issuer)"
         r"|altname[_ ]invalid|hostname[/ ]ip does not match"),
        (MODEL,
         r"(?:unknown|invalid|unsupported|no such) model\b|model[_ ]?not[_ ]?found"
         r"|\bmodel\b[^\n]{0,80}\b(?:does not exist|not found|is not (?:found|supported|available))"
         r"|not_found_error\W[^\n]{0,80}\bmodel\b"),
        (ADDRESS,
         r"\bENOTFOUND\b|\bECONNREFUSED\b|\bEAI_AGAIN\b|\bEHOSTUNREACH\b|getaddrinfo"
         r"|unable to connect|connection refused|could not resolve host|no such host"
         r"|name or service not known"),
    )
]  # fmt: skip


def failure(said: str, kind: str) -> BackendError:
    """The error of a turn that ended with the sentence `said`; of `kind` where it is the agent's.

    A server that is not there may come back, so that is tried again.
    """
    if diskspace.is_told(said):
        return BackendError(_and(said, diskspace.sentence()), kind="disk", owner="tutti")
    what = next((what for what, signs in _SIGNS if signs.search(said)), "")
    if not what:
        return BackendError(said, kind=kind)
    return BackendError(_and(said, what), kind="settings", owner="tutti", permanent=what != ADDRESS)


def missing(program: str, said: str, install: str = "") -> BackendError:
    """The error of a turn whose agent's program could not be started."""
    last = f" ({said})" if said else ""
    how = install or "Install it, or correct the command in the role's profile."
    if not how.endswith("."):
        how = f"Install it with `{how}`."
    return BackendError(
        f"{program} is not installed on this host, or not readable in the sandbox{last}. {how} "
        "Then name its directory in the profile's readable.",
        kind="not_installed",
        owner="tutti",
        permanent=True,
    )


def _and(said: str, what: str) -> str:
    return f"{said.rstrip('. ')}. {what}"
