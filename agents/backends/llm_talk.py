"""One conversation with a model in a thread of its own, so that a stop never waits for it."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from httpx2 import AsyncClient
from pydantic import BaseModel, ValidationError
from pydantic_ai import Agent, ModelRetry, NativeOutput, PromptedOutput, TextOutput, ToolOutput
from pydantic_ai.messages import ModelMessage, ModelRequest
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RunUsage

from agents.backends import llm_models
from agents.backends.base import Turn, Usage
from agents.backends.finals import answer_of
from agents.backends.llm_answers import ANSWERS, EditError, Mending, edited
from agents.backends.llm_errors import MOST_ANSWERS

DEFAULT_SECONDS = 900.0

COMMON = (
    "You have no clone and no tools but your answer: all that you need is in the text. Where the "
    'text asks for a JSON object {"tutti": …}, answer with what is inside of it'
)
OWN = {
    "fix": "Give your change as edits: for each one a path you own, and either the whole new "
    "content, or a search text that occurs exactly once in the file and what replaces it. "
    "Search and replace is better for small changes.",
    "test": "Give the one word that is asked for as `word`.",
    "decompose": "Leave goal, instructions, policies and replay of the plan out.",
}


class Talk:
    """Asks a model until its answer fits, at most five times; everything else waits outside."""

    def __init__(self, turn: Turn, history: Sequence[ModelMessage], text: str) -> None:
        self.turn = turn
        self.history = list(history)
        self.text = text
        self.spent = RunUsage()
        self.answer: BaseModel | None = None
        self.error: BaseException | None = None
        self.messages: list[ModelMessage] = []
        self.done = threading.Event()
        self.said: queue.SimpleQueue[tuple[str, dict[str, Any]]] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_cancelled = False
        self._lock = threading.Lock()

    @property
    def instructions(self) -> str:
        """What the model is told beside the assignment."""
        way = "." if self.mode != "tool" else ", as the arguments of the tool `answer`."
        return " ".join(part for part in (COMMON + way, OWN.get(self.turn.kind, "")) if part)

    @property
    def mode(self) -> str:
        return str(self.turn.settings.get("output", "tool"))

    def start(self) -> None:
        threading.Thread(target=self._run, name="llm", daemon=True).start()

    def cancel(self) -> None:
        """End it at once; `done` follows."""
        with self._lock:
            self._is_cancelled = True
            if self._loop is not None and self._task is not None:
                self._loop.call_soon_threadsafe(self._task.cancel)

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What happened since it was last asked."""
        while not self.said.empty():
            yield self.said.get()

    def usage(self) -> Usage:
        """Tokens as the library counts them, cached ones among the input; None where unknown."""
        spent = self.spent
        if not spent.requests or not (spent.input_tokens or spent.output_tokens):
            return Usage()
        whole = not spent.unmeasured_requests
        is_priced = whole and spent.cost is not None and llm_models.is_priced(self.turn.settings)
        return Usage(
            spent.input_tokens,
            spent.output_tokens,
            "exact" if whole and self.error is None and self.answer else "estimated",
            "answers of the model API",
            float(spent.cost) if is_priced and spent.cost is not None else None,
            "USD" if is_priced else "",
        )

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._guarded())
        except BaseException as error:
            self.error = self.error or error
        finally:
            self.done.set()

    async def _guarded(self) -> None:
        with self._lock:
            self._loop = asyncio.get_running_loop()
            self._task = asyncio.create_task(self._converse())
            if self._is_cancelled:
                self._task.cancel()
        try:
            await self._task
        except asyncio.CancelledError:
            self.error = self.error or RuntimeError("stopped")
        except Exception as error:
            self.error = error
        finally:
            # A stop is told at once; what is left of the connection closes behind it.
            self.done.set()

    async def _converse(self) -> None:
        async with llm_models.client() as http:
            await self._ask(http)

    async def _ask(self, http: AsyncClient) -> None:
        turn = self.turn
        seconds = float(turn.settings.get("timeout_seconds", DEFAULT_SECONDS))
        model = llm_models.build(turn.model, turn.settings, turn.secrets, http)
        wanted = {"temperature", "max_tokens"} & turn.settings.keys()
        asked = ModelSettings(timeout=seconds, max_retries=0)
        for name in wanted:
            asked[name] = turn.settings[name]  # type: ignore[literal-required]
        agent: Agent[None, Any] = Agent(
            model,
            output_type=self._output(),
            instructions=self.instructions,
            retries=MOST_ANSWERS - 1,
            model_settings=asked,
        )
        agent.output_validator(self._fits)
        async with agent:
            async with agent.iter(
                self.text, message_history=self.history, usage=self.spent, timeout=seconds
            ) as run:
                told = len(self.history)
                async for _ in run:
                    self.messages = run.all_messages()
                    self._tell(self.messages[told:])
                    told = len(self.messages)
            assert run.result is not None
            self.answer = run.result.output
            self.messages = run.result.all_messages()

    def _output(self) -> Any:
        shape = ANSWERS[self.turn.kind]
        if self.mode == "native":
            return NativeOutput(shape)
        if self.mode == "prompted":
            return PromptedOutput(shape)
        # Some models answer in words whatever tools they have; their JSON counts as well.
        return [ToolOutput(shape, name="answer"), TextOutput(self._read)]

    def _read(self, text: str) -> BaseModel:
        shape: type[BaseModel] = ANSWERS[self.turn.kind]
        try:
            return shape.model_validate(answer_of(text, self.turn.kind))
        except ValidationError as error:
            raise ModelRetry(_problems(error)) from error

    def _fits(self, answer: BaseModel) -> BaseModel:
        if isinstance(answer, Mending):
            try:
                edited(answer.edits, self.turn.files, self.turn.owns)
            except EditError as error:
                raise ModelRetry(str(error)) from error
        return answer

    def _tell(self, messages: Sequence[ModelMessage]) -> None:
        for message in messages:
            for part in message.parts if isinstance(message, ModelRequest) else ():
                if getattr(part, "retry", None):
                    back = _back(getattr(part, "content", ""))
                    text = f"The answer did not fit and went back: {back}"
                    self.said.put(("message", {"text": text}))


def _back(content: Any) -> str:
    if not isinstance(content, list):
        return str(content)
    return "; ".join(
        f"{'.'.join(str(step) for step in one['loc'])}: {one['msg']}" for one in content[:20]
    )


def _problems(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False, include_input=False)[:50]
    lines = [f"{'.'.join(str(step) for step in one['loc'])}: {one['msg']}" for one in found]
    return "The answer does not fit:\n" + "\n".join(lines)
