"""What the checks in packs share: the runs, which begin together, and how many functions are run alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from envpack import Store
from tests.packs.asked import asked_for
from tests.packs.runs import ROOT, Runs

TEST_FILES = sorted(str(file.relative_to(ROOT)) for file in (ROOT / "tests").rglob("test_*.py"))
RUN_FILES = [file for file in TEST_FILES if not asked_for(file).left_out]
EXAMPLES = sorted(str(file.relative_to(ROOT)) for file in (ROOT / "examples").rglob("*.py"))


def pytest_addoption(parser: pytest.Parser) -> None:
    help_text = "how many functions of each test file are run alone (default: 1)"
    parser.addoption("--alone", type=int, default=1, metavar="N", help=help_text)
    parser.addoption("--without-slow", action="store_true", help="leave out slow tests")
    help_text = "take this share of the test files, always the same ones (default: 1, all)"
    parser.addoption("--share", type=float, default=1.0, metavar="X", help=help_text)
    help_text = "run N functions of each test file, each with one set of its parameters (default: 0, all with all sets)"
    parser.addoption("--most", type=int, default=0, metavar="N", help=help_text)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    share = config.getoption("--share")
    chosen = {file for file in RUN_FILES if hashlib.sha256(file.encode()).digest()[0] < 256 * share}
    kept = [item for item in items if _file_of(item) is None or _file_of(item) in chosen]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _file_of(item: pytest.Item) -> str | None:
    """Return which test file an item is about; None for examples and others."""
    file = item.callspec.params.get("file") if hasattr(item, "callspec") else None
    return file if file in RUN_FILES else None


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One store for all: most layers are those of many environments."""
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def runs(request: pytest.FixtureRequest, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    wanted = {item.callspec.params.get("file") for item in request.session.items if hasattr(item, "callspec")}
    files = [file for file in RUN_FILES if file in wanted]
    has_slow = not request.config.getoption("--without-slow")
    most = request.config.getoption("--most")
    made = Runs(tmp_path_factory.mktemp("packs"), store, files, has_slow=has_slow, most=most)
    yield made
    made.close()
