"""A test of a provider as rows: the same for its page, the API and the terminal. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WAITING, PASSED, FAILED, UNSURE = "waiting", "passed", "failed", "unsure"
#: Names that are shown of a list; the rest is counted.
SHOWN = 30
#: The row that a failure of this kind belongs to; any other belongs to the step at hand.
_OF_KIND = {
    "sandbox": "sandbox",
    "not_installed": "program",
    "signed_out": "sign_in",
    "lost": "",
}
_LEVELS = {
    "bubblewrap": "bubblewrap: it sees only its own directory and the system's programs",
    "unconfined": "unconfined: it may read and change all that Tutti itself may",
    "none": "none is needed: Tutti itself asks the model's API, and starts no program",
}


@dataclass(frozen=True)
class Row:
    """One step of a test: what, how it stands (waiting, passed, failed, unsure), and in words."""

    key: str
    title: str
    state: str
    text: str

    @property
    def chip(self) -> str:
        """The status whose colour the page shows."""
        return {WAITING: "queued", UNSURE: "needs_person"}.get(self.state, self.state)

    @property
    def word(self) -> str:
        return {PASSED: "ok", UNSURE: "look"}.get(self.state, self.state)


def rows(
    backend: str,
    facts: Mapping[str, Any],
    *,
    is_over: bool,
    problem: str = "",
    kind: str = "",
    key_name: str = "",
) -> list[Row]:
    """Every step in its order. `key_name` is the variable that an account's key is given in."""
    steps = [_sandbox(facts)]
    if backend != "llm":
        steps.append(_program(facts))
    if backend == "acp":
        steps += [_agent(facts), _protocol(facts), *_offers(facts)]
    steps += [_sign_in(facts, key_name), _answer(facts), _first(facts)]
    if problem:
        return _failed(steps, problem, kind, facts)
    steps += [_tokens(facts), _money(facts)]
    if not is_over:
        return steps
    # What is over and nobody told stays unknown.
    return [
        Row(row.key, row.title, UNSURE, row.text if row.state != WAITING else "not said")
        if row.state == WAITING
        else row
        for row in steps
    ]


def _failed(steps: Sequence[Row], problem: str, kind: str, facts: Mapping[str, Any]) -> list[Row]:
    """The steps up to the one that failed, with the reason."""
    wanted = _OF_KIND.get(kind, "")
    waiting = next((row.key for row in steps if row.state == WAITING), "answer")
    key = wanted if any(row.key == wanted for row in steps) else waiting
    if key in ("models", "modes", "options", "first"):
        key = "answer"
    found: list[Row] = []
    for row in steps:
        if row.key == key:
            found.append(Row(row.key, row.title, FAILED, problem))
        elif row.state != WAITING:
            found.append(row)
    if facts.get("input_tokens") is not None or facts.get("cost") is not None:
        found += [_tokens(facts), _money(facts)]
    return found


def _row(key: str, title: str, text: str) -> Row:
    return Row(key, title, PASSED if text else WAITING, text)


def _sandbox(facts: Mapping[str, Any]) -> Row:
    level = str(facts.get("sandbox", ""))
    row = _row("sandbox", "Sandbox", _LEVELS.get(level, level))
    return Row(row.key, row.title, UNSURE, row.text) if level == "unconfined" else row


def _program(facts: Mapping[str, Any]) -> Row:
    found = str(facts.get("program", ""))
    if not found and facts.get("opened_at") is not None:
        found = "found in the sandbox"
    if not found and facts.get("answer"):
        found = "found in the sandbox"
    return _row("program", "Program", found)


def _agent(facts: Mapping[str, Any]) -> Row:
    if facts.get("opened_at") is None:
        return _row("agent", "Agent", "")
    name = f"{facts.get('agent', '')} {facts.get('version', '')}".strip()
    said = name or "it does not say its name"
    return _row("agent", "Agent", f"{said}; its session was open after {facts['opened_at']:g} s")


def _protocol(facts: Mapping[str, Any]) -> Row:
    version = facts.get("protocol")
    return _row("protocol", "Protocol", f"Agent Client Protocol {version}" if version else "")


def _offers(facts: Mapping[str, Any]) -> list[Row]:
    if facts.get("opened_at") is None:
        return [_row(key, title, "") for key, title in _OFFERS]
    found = [
        _row(key, title, _listed(facts.get(key) or [], key)) for key, title in _OFFERS[:2]
    ]  # fmt: skip
    options = facts.get("options") or {}
    text = "; ".join(f"{name}: {_listed(values, '')}" for name, values in options.items())
    return [*found, _row("options", _OFFERS[2][1], text or "none")]


_OFFERS = (("models", "Models"), ("modes", "Modes"), ("options", "Other options"))


def _listed(values: Sequence[Any], what: str) -> str:
    if not values:
        return "it lets nobody choose" if what else "yes or no"
    more = f" and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
    return ", ".join(str(value) for value in values[:SHOWN]) + more


def _sign_in(facts: Mapping[str, Any], key_name: str) -> Row:
    given = f" with the account's key, as {key_name}" if key_name else ""
    return _row("sign_in", "Sign-in", f"signed in{given}" if facts.get("answer") else "")


def _answer(facts: Mapping[str, Any]) -> Row:
    answer = str(facts.get("answer", ""))
    return _row("answer", "Answer to a prompt for one word", answer)


def _first(facts: Mapping[str, Any]) -> Row:
    first, whole = facts.get("first_at"), facts.get("seconds")
    text = "" if first is None else f"{first:g} s"
    if text and whole is not None:
        text += f"; the whole turn took {whole:g} s"
    return _row("first", "Time to its first words", text)


def _tokens(facts: Mapping[str, Any]) -> Row:
    if facts.get("input_tokens") is None:
        return Row("tokens", "Tokens", UNSURE if "seconds" in facts else WAITING,
                   "unknown: it does not say" if "seconds" in facts else "")  # fmt: skip
    quality = str(facts.get("quality", "unknown"))
    least = "at least " if quality == "last_step" else ""
    told = {"last_step": "it tells only a part of what it used"}.get(quality, quality)
    text = f"{least}{facts['input_tokens']:,} in, {facts.get('output_tokens') or 0:,} out ({told})"
    return _row("tokens", "Tokens", text)


def _money(facts: Mapping[str, Any]) -> Row:
    if money := facts.get("money"):
        return _row("money", "Cost", str(money))
    if "seconds" not in facts and facts.get("input_tokens") is None:
        return _row("money", "Cost", "")
    is_known = facts.get("input_tokens") is not None
    text = "unpriced: nobody entered a price for its model" if is_known else "unknown"
    return Row("money", "Cost", UNSURE, text)
