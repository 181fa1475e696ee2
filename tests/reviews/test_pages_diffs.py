from __future__ import annotations

from projects.redaction import MARK, Redactor
from reviews import diffs

CHANGED = """diff --git a/shop/cart.py b/shop/cart.py
index 111..222 100644
--- a/shop/cart.py
+++ b/shop/cart.py
@@ -1,3 +1,4 @@ def total():
 import os
-x = 1
+x = 2
+y = "<b>"
 z = 3
"""


def test_rows_have_the_line_numbers_of_both_sides():
    (file,) = diffs.parse(CHANGED)
    assert (file.path, file.status, file.added, file.deleted) == ("shop/cart.py", "changed", 2, 1)
    assert [(row.kind, row.old, row.new) for row in file.rows] == [
        ("hunk", None, None),
        ("same", 1, 1),
        ("del", 2, None),
        ("add", None, 2),
        ("add", None, 3),
        ("same", 3, 4),
    ]


def test_code_is_highlighted_and_escaped():
    (file,) = diffs.parse(CHANGED)
    assert '<span class="kn">import</span>' in file.rows[1].html
    assert "&lt;b&gt;" in file.rows[4].html
    assert "<b>" not in file.rows[4].html


def test_a_file_of_an_unknown_kind_is_plain_and_escaped():
    (file,) = diffs.parse(CHANGED.replace("cart.py", "cart.zzz"))
    assert file.rows[4].html == "y = &quot;&lt;b&gt;&quot;"


def test_code_that_looks_like_a_header_stays_code():
    text = (
        "diff --git a/a.txt b/a.txt\n--- a/a.txt\n+++ b/a.txt\n@@ -1,2 +1,2 @@\n"
        "--- a/evil\n-diff --git a/x b/x\n+++ b/evil\n+@@ -1 +1 @@\n"
    )
    (file,) = diffs.parse(text)
    assert file.path == "a.txt"
    assert [(row.kind, row.text) for row in file.rows[1:]] == [
        ("del", "-- a/evil"),
        ("del", "diff --git a/x b/x"),
        ("add", "++ b/evil"),
        ("add", "@@ -1 +1 @@"),
    ]


def test_new_deleted_renamed_and_binary_files_say_so():
    text = (
        "diff --git a/new.py b/new.py\nnew file mode 100644\nindex 0..1\n--- /dev/null\n"
        "+++ b/new.py\n@@ -0,0 +1 @@\n+a = 1\n"
        "diff --git a/old.py b/old.py\ndeleted file mode 100644\nindex 1..0\n--- a/old.py\n"
        "+++ /dev/null\n@@ -1 +0,0 @@\n-a = 1\n\\ No newline at end of file\n"
        "diff --git a/was.py b/is.py\nsimilarity index 100%\nrename from was.py\nrename to is.py\n"
        "diff --git a/logo.png b/logo.png\nindex 1..2\n"
        "Binary files a/logo.png and b/logo.png differ\n"
    )
    new, old, renamed, binary = diffs.parse(text)
    assert (new.status, new.path, new.rows[-1].new) == ("added", "new.py", 1)
    assert (old.status, old.path, old.rows[-1].kind) == ("deleted", "old.py", "note")
    assert (renamed.status, renamed.old_path, renamed.path) == ("renamed", "was.py", "is.py")
    assert binary.note.startswith("A binary file")


def test_rows_beyond_the_cap_are_counted_not_shown():
    body = "".join(f"+line {n}\n" for n in range(100))
    text = f"diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -0,0 +1,100 @@\n{body}"
    one, two = diffs.parse(text + text, max_rows=60)
    assert (len(one.rows), one.left_out) == (60, 41)
    assert (len(two.rows), two.left_out) == (0, 101)


def test_a_diff_that_was_cut_in_the_middle_still_parses():
    (file,) = diffs.parse(CHANGED[: CHANGED.index("+y")])
    assert file.rows[3].text == "x = 2"


def test_an_open_string_of_the_new_side_does_not_colour_the_old():
    text = (
        "diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -1,2 +1,2 @@\n"
        '-import os\n+"""\n import re\n'
    )
    (file,) = diffs.parse(text)
    assert '<span class="kn">import</span>' in file.rows[1].html


def test_a_secret_is_hidden_on_both_sides_over_lines_and_beyond_the_cut():
    secret = "sk-ant-0123456789"
    text = (
        f"diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -1,3 +1,5 @@ k = '{secret}'\n"
        f" x = '{secret}'\n-{'o' * (diffs.MAX_LINE - 8)}{secret}\n+sk-ant-\n+0123456789\n y = 1\n"
        "+z = 2\n"
        f"diff --git a/{secret} b/{secret}\nnew file mode 100644\nBinary files differ\n"
    )
    code, named = diffs.parse(text, hide=Redactor([secret]).text)
    shown = "".join(row.text + row.html for row in code.rows)
    assert "sk-ant-0" not in shown and "0123456789" not in shown and "sk-ant-" not in shown
    assert [row.text for row in code.rows[3:]] == [MARK, "", "y = 1", "z = 2"]
    assert named.path == MARK
