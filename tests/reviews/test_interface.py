from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from agents import evidence, sandbox
from projects.coupling import ImportEdge
from reviews import interface
from reviews.interface import Remark, check_code, check_imports, check_interface, skeleton

SHOP = """\
from typing import TYPE_CHECKING
from shop.base import Base
from shop import till
import shop.till as money
if TYPE_CHECKING:
    from shop.types import Kind

LIMIT = 3


def total(prices, tax=0, *, rounded=False, **more): return sum(prices)


async def fetch(url): return url


def later(x):
    raise NotImplementedError


class Cart(Base):
    def __init__(self, owner, size=3): self.owner = owner
    def add(self, book, /, count=1): return till.ring(book), money._secret, money.__name__
    def drop(self, book):
        raise NotImplementedError
    @staticmethod
    def empty(): return Cart(0)
    @property
    def price(self): return 1


class Rows(list):
    pass


Basket = Cart
make = Cart.empty
"""
FILES = {
    "shop/__init__.py": "from shop.cart import Cart\n",
    "shop/cart.py": SHOP,
    "shop/base.py": "class Base:\n    def inherited(self, a): return a\n",
    "shop/till.py": "from shop.cart import *\ndef ring(book): return 1\n_secret = 1\n",
    "shop/types.py": "import shop.cart\nKind = int\n",
    "shop/broken.py": "def f(:\n",
    "tests/test_cart.py": "from shop.cart import Cart, total\nfrom . import helper\n",
    "tests/helper.py": "",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, source in FILES.items():
        place = tmp_path / "tree" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(source)
    return tmp_path / "tree"


def breaches(tree: Path, *clauses: str) -> list[Remark]:
    return check_interface(clauses, tree, sandbox.Runner())


def test_interface_that_is_kept_gives_no_remark(tree: Path) -> None:
    kept = [
        "shop.cart.total(prices, tax=0, *, rounded=False, **more)",
        "shop.cart.total(prices)",
        "shop.cart.Cart(owner, size=1)",
        "class shop.cart.Rows",
        "shop.cart.Cart.add(self, book, /, count=2)",
        "shop.cart.Cart.empty()",
        "shop.cart.Cart.price(self)",
        "shop.cart.Cart.inherited(self, a: int) -> int",
        "shop.cart.Rows.append(self, x)",
        "shop.cart.Basket.add(self, book, /)",
        "shop.cart.make(x)",
        "shop.Cart.empty()",
        "async shop.cart.fetch(url)",
        "shop.cart.LIMIT",
        "shop.types",
        "text: carts are cheap",
    ]
    assert [r for r in breaches(tree, *kept) if "skeleton" not in r.message] == []
    assert interface.unchecked(kept) == ["text: carts are cheap"]


@pytest.mark.parametrize(
    ("clause", "line", "message"),
    [
        ("shop.cart.nothing(x)", None, "shop.cart.nothing is missing"),
        ("shop.cart.Cart.nothing(self)", None, "shop.cart.Cart.nothing is missing"),
        ("shop.cart.Rows.nothing(self)", None, "shop.cart.Rows.nothing is missing"),
        ("nowhere.f()", None, "nowhere.f does not exist: no such module"),
        ("shop.cart.total(prices, discount)", 11, "total: has no parameter 'discount'"),
        ("shop.cart.total(tax=0)", 11, "total: needs 'prices', which the contract does not name;"
         " give it a default"),
        ("shop.cart.total(prices, tax=0, rounded=False)", 11,
         "total: parameter 'rounded' must be positional-or-keyword; it is keyword-only"),
        ("shop.cart.total(prices=())", 11, "total: parameter 'prices' must have a default"),
        ("shop.cart.total(prices, *rest)", 11, "total: does not take *rest"),
        ("shop.cart.fetch(url, **more)", 14, "fetch: does not take **more"),
        ("shop.cart.total(tax, prices)", 11,
         "total: parameters must come in the order tax, prices"),
        ("async shop.cart.total(prices)", 11, "total must be async"),
        ("class shop.cart.total", 11, "total must be a class; it is a function"),
        ("shop.cart.LIMIT()", 8, "LIMIT must be callable; it is a constant"),
        ("shop.cart.Cart(size)", 22, None),
    ],
)  # fmt: skip
def test_breach_is_named(tree: Path, clause: str, line: int | None, message: str | None) -> None:
    found = [r for r in breaches(tree, clause) if "skeleton" not in r.message]
    assert len(found) == 1 and found[0].clause == clause
    if message is None:
        assert "needs 'owner'" in found[0].message
    else:
        assert (found[0].line, found[0].message) == (line, message)


def test_skeleton_bodies_count_only_in_what_is_provided(tree: Path) -> None:
    def left(clause: str) -> list[tuple[str, int | None]]:
        return [(r.message.split()[0], r.line) for r in breaches(tree, clause)]

    assert left("shop.cart.Cart") == [("Cart.drop", 25)]
    assert left("shop.cart.later(x)") == [("later", 18)]
    assert left("shop.cart") == [("later", 18), ("Cart.drop", 25)]
    assert left("shop.cart.total(prices)") == []


def test_file_that_cannot_be_parsed_is_a_remark(tree: Path) -> None:
    (found,) = breaches(tree, "shop.broken.f()")
    assert found.path == "shop/broken.py" and found.line == 1
    assert "is not valid Python" in found.message


@pytest.mark.parametrize(
    "source",
    [
        b"x = " + b"-" * 200_000 + b"1",
        b"x = " + b"(" * 100_000,
        b"a.b" + b".c" * 200_000,
        b"\x00\xff\xfe",
        b"#" * 3_000_000,
    ],
)
def test_hostile_source_is_a_remark_and_no_crash(tree: Path, source: bytes) -> None:
    (tree / "shop/cart.py").write_bytes(source)
    (found,) = breaches(tree, "shop.cart.A.f()")
    assert found.path == "shop/cart.py" and found.message


def test_names_that_refer_to_themselves_end(tree: Path) -> None:
    (tree / "shop/cart.py").write_text("from shop.cart import B\nclass A(A): pass\nA = A\n")
    found = breaches(tree, "shop.cart.A.f()", "shop.cart.B.f()")
    assert [remark.message for remark in found] == ["shop.cart.B.f is missing"]


def test_link_out_of_the_tree_is_not_followed(tree: Path) -> None:
    (tree / "shop/cart.py").unlink()
    (tree / "shop/cart.py").symlink_to("/usr/lib/python3/dist-packages/x.py")
    assert len(breaches(tree, "shop.cart.f()")) == 1


def test_tree_cannot_take_the_place_of_the_analysis(tree: Path) -> None:
    for name in ("griffe.py", "grimp.py", "json.py", "sitecustomize.py", "stubs.py"):
        (tree / name).write_text("raise SystemExit(0)\n")
    (tree / "tutti1:x\ntutti1.").write_text("")
    assert breaches(tree, "shop.cart.nothing()")[0].message == "shop.cart.nothing is missing"
    assert check_imports(["shop/cart.py"], {"till": (["shop/till.py"], ["shop.till.ring"])}, tree,
                         sandbox.Runner())  # fmt: skip


def test_text_alone_starts_no_analysis(tree: Path) -> None:
    def unused(*_args, **_more):
        raise AssertionError("started")

    assert check_interface(["text: anything", "f("], tree, unused) == []


def test_analysis_that_dies_is_a_remark(tree: Path) -> None:
    stopped = sandbox.Runner()
    (found,) = check_interface(["shop.cart.f()"], tree, stopped, stop=lambda: "cancelled")
    assert found.message.startswith("The code could not be analysed")


def reached(tree: Path, owns: str, module: str, provides: list[str]) -> list[tuple[int, str]]:
    promises = {module: ([f"shop/{module}.py"], provides)}
    found = check_imports([owns], promises, tree, sandbox.Runner())
    return [(r.line or 0, r.message.split(" reaches")[0]) for r in found]


def test_imports_past_an_interface(tree: Path) -> None:
    assert reached(tree, "tests/*.py", "cart", ["shop.cart.Cart"]) == [(1, "shop.cart.total")]
    assert reached(tree, "shop/cart.py", "till", ["shop.till.nothing()"]) == [
        (23, "shop.till._secret"), (23, "shop.till.ring"),
    ]  # fmt: skip
    assert reached(tree, "shop/cart.py", "till", ["shop.till.ring(book)"]) == [
        (23, "shop.till._secret")
    ]
    assert reached(tree, "shop/till.py", "cart", ["shop.cart.Cart"]) == [
        (1, "importing everything from shop/cart.py")
    ]


def test_what_declares_nothing_or_everything_is_open(tree: Path) -> None:
    assert reached(tree, "shop/cart.py", "till", ["text: rings"]) == []
    assert reached(tree, "shop/cart.py", "till", ["shop.till"]) == []


def test_edges_tell_types_from_run_time_and_hold_the_tests(tree: Path) -> None:
    found = evidence.imports(sandbox.Runner(), tree)
    assert ImportEdge("shop/cart.py", "shop/types.py", True, 6) in found
    assert ImportEdge("shop/types.py", "shop/cart.py", False, 1) in found
    assert ImportEdge("tests/test_cart.py", "shop/cart.py", False, 1) in found
    assert ImportEdge("tests/test_cart.py", "tests/helper.py", False, 2) in found
    assert evidence.imports(sandbox.Runner(), tree / "tests" / "none") == []


def test_both_checks_in_one_start(tree: Path) -> None:
    promises = {"till": (["shop/till.py"], ["shop.till.ring(book)"])}
    found = check_code(["shop.cart.nothing()"], ["shop/cart.py"], promises, tree, sandbox.Runner())
    assert [remark.line for remark in found] == [None, 23]
    assert check_code([], ["shop/cart.py"], {}, tree, sandbox.Runner()) == []


# The skeleton commit.


def test_skeleton_of_what_does_not_exist_yet() -> None:
    made = skeleton(
        ["shop.web.serve(port: int = 80) -> None", "shop.web.Page.show(self)",
         "shop.web.Page.make(kind)", "shop.web.Name(text)", "shop.web.LIMIT",
         "class shop.web.error",
         "async shop.web.get(url)", "shop.cart.total(x)", "text: no code"],
        FILES,
    )  # fmt: skip
    assert list(made) == ["shop/web.py"]
    kinds = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    body = ast.parse(made["shop/web.py"]).body
    names = [node.name for node in body if isinstance(node, kinds)]
    assert names == ["serve", "Page", "Name", "error", "get"]
    space: dict[str, Any] = {}
    exec(made["shop/web.py"], space)
    with pytest.raises(NotImplementedError):
        space["serve"](8000)
    with pytest.raises(NotImplementedError):
        space["Page"]().show()
    with pytest.raises(NotImplementedError):
        space["Page"].make("x")
    with pytest.raises(NotImplementedError):
        space["Name"]("x")


def test_skeleton_makes_packages_and_overwrites_nothing() -> None:
    made = skeleton(["new.deep.mod.f(x)", "shop.cart.more(x)"], FILES)
    assert set(made) == {"new/__init__.py", "new/deep/__init__.py", "new/deep/mod.py"}
    assert not set(made) & set(FILES)


def test_skeleton_goes_where_the_owner_says() -> None:
    made = skeleton(["fresh.f(x)"], FILES, owns=["src/fresh.py"])
    assert list(made) == ["src/fresh.py"]
    below_src = skeleton(["lib_a.new.f(x)"], ["src/lib_a/__init__.py"])
    assert list(below_src) == ["src/lib_a/new.py"]


def test_skeleton_passes_its_own_interface_check(tree: Path) -> None:
    clauses = ["shop.web.serve(port=80)", "shop.web.Page.show(self, a, *b, **c)"]
    for path, source in skeleton(clauses, FILES).items():
        (tree / path).write_text(source)
    messages = [remark.message for remark in breaches(tree, *clauses)]
    assert len(messages) == 2 and all("still a skeleton" in message for message in messages)
