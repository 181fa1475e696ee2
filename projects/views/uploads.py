"""Read an uploaded plan file."""

from __future__ import annotations

from django.core.files.uploadedfile import UploadedFile

from projects import planfile


def read_plan(upload: UploadedFile[bytes]) -> planfile.PlanFile:
    """The uploaded plan. Raises PlanFileError with the lines of all that is wrong."""
    # UTF-8 takes at most four bytes a character.
    raw = upload.read(4 * planfile.LARGEST + 1)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        problem = planfile.Problem(line, "", "the file is not UTF-8 text; save it as UTF-8")
        raise planfile.PlanFileError([problem]) from error
    return planfile.load(text)
