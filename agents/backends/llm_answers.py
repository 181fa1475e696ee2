"""What a model answers in, role by role, and what its edits make of the files it was shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from projects import globs
from projects.planfile import PlanFile

LARGEST_CONTENT = 400_000
SHOWN_AGAIN = 20_000

Path = Annotated[str, Field(max_length=500)]
Said = Annotated[str, Field(max_length=20_000)]


class Remark(BaseModel):
    """One thing that is wrong, where, and which clause of the contract it touches."""

    message: Said
    path: Path = ""
    line: Annotated[int, Field(ge=1)] | None = None
    clause: Said = ""


class Judgement(BaseModel):
    """The verdict on one module's change."""

    verdict: Literal["approve", "fix", "rebuild", "ask"]
    summary: Said
    findings: list[Remark] = Field(default_factory=list, max_length=200)


class Edit(BaseModel):
    """One change of one file: either its whole new content, or one search and its replacement."""

    path: Annotated[str, Field(min_length=1, max_length=500)]
    content: str | None = Field(
        None, max_length=LARGEST_CONTENT, description="The whole new text of the file"
    )
    search: str | None = Field(
        None, description="Text that occurs exactly once in the file, line breaks included"
    )
    replace: str = Field("", max_length=LARGEST_CONTENT, description="What takes its place")

    @model_validator(mode="after")
    def _one_way(self) -> Edit:
        if (self.content is None) == (not self.search):
            raise ValueError("give either content (the whole file) or search and replace")
        return self


class Mending(BaseModel):
    """Small errors mended; edits are carried out in their order."""

    summary: Said
    edits: list[Edit] = Field(min_length=1, max_length=200)


class Proposal(BaseModel):
    """A goal cut into modules."""

    summary: Said
    plan: PlanFile


class Word(BaseModel):
    """The answer to a test of whether the model can be reached."""

    word: Annotated[str, Field(max_length=500)]


ANSWERS: dict[str, type[BaseModel]] = {
    "test": Word,
    "decompose": Proposal,
    "review": Judgement,
    "fix": Mending,
}


class EditError(ValueError):
    """Edits that can't be carried out, as sentences for whoever wrote them."""


def edited(
    edits: Sequence[Edit], files: Mapping[str, str | None], owns: Sequence[str]
) -> dict[str, str]:
    """The files that change, with their whole new text; raises EditError with all that is wrong.

    `files` are those that exist, with their text where it was shown; `owns` the globs of what may
    change.
    """
    now: dict[str, str] = {}
    wrong: list[str] = []
    for number, edit in enumerate(edits, 1):
        try:
            now[edit.path] = _edited(edit, files, now, owns)
        except EditError as error:
            wrong.append(f"edit {number}: {error}")
    if not wrong and all(files.get(path) == text for path, text in now.items()):
        wrong.append("these edits change nothing")
    if wrong:
        raise EditError("\n".join(wrong))
    return now


def _edited(
    edit: Edit, files: Mapping[str, str | None], now: Mapping[str, str], owns: Sequence[str]
) -> str:
    path = edit.path
    parts = path.split("/")
    if "" in parts or any(part in (".", "..") or part.lower() == ".git" for part in parts):
        raise EditError(f"{path!r} is not a path inside the repository")
    if "\0" in path or not globs.matches(owns, path):
        raise EditError(f"{path!r} is not yours to change; you own {', '.join(owns) or 'nothing'}")
    if path in files and files[path] is None:
        raise EditError(f"you were not shown {path}, so leave it as it is")
    if edit.content is not None:
        return edit.content
    text = now.get(path, files.get(path))
    if text is None:
        raise EditError(f"there is no file {path}; give its whole content to create it")
    count = text.count(edit.search or "")
    if count != 1:
        found = "does not occur" if count == 0 else f"occurs {count} times"
        raise EditError(
            f"the search text {found} in {path}; it must occur exactly once. The file now:\n"
            f"{text[:SHOWN_AGAIN]}"
        )
    return text.replace(edit.search or "", edit.replace)


def result_of(answer: BaseModel) -> dict[str, Any]:
    """The answer as a run keeps it."""
    data = answer.model_dump(mode="json")
    if isinstance(answer, Mending):
        paths = list(dict.fromkeys(edit.path for edit in answer.edits))
        return {"summary": answer.summary, "edited": paths}
    return data
