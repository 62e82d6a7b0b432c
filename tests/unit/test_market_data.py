"""Where tests find recorded candles, and what becomes of them where there are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import market_data
from tests.support.market_data import market_data_dir


def test_the_folder_is_the_one_that_is_named_or_the_nearest_above(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "shared" / "data").mkdir(parents=True)
    (tmp_path / "far" / "shared" / "data").mkdir(parents=True)
    searched = (tmp_path / "repository" / "tests", tmp_path / "repository", tmp_path, tmp_path / "far")
    monkeypatch.setattr(market_data, "SEARCHED_FOLDERS", searched)
    monkeypatch.delenv("MARKET_DATA", raising=False)
    assert market_data_dir() == tmp_path / "shared" / "data"
    monkeypatch.setenv("MARKET_DATA", "/elsewhere")
    assert market_data_dir() == Path("/elsewhere")


def test_the_searched_folders_are_the_ones_above_this_repository_s_tests():
    here = Path(__file__).resolve()
    assert market_data.SEARCHED_FOLDERS[1:] == tuple(here.parents)[1:]


@pytest.mark.parametrize(
    ("named", "ci", "fails"),
    [("", "true", True), ("none", "true", False), ("", "", False), ("none", "", False)],
)
def test_without_it_tests_skip_but_in_ci_only_where_that_was_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str, ci: str, fails: bool
):
    monkeypatch.setattr(market_data, "SEARCHED_FOLDERS", (tmp_path,))
    monkeypatch.setenv("MARKET_DATA", named)
    monkeypatch.setenv("CI", ci)
    expected = FileNotFoundError if fails else pytest.skip.Exception
    with pytest.raises(expected, match="set MARKET_DATA"):
        market_data_dir()


def test_outside_of_tests_it_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MARKET_DATA", "none")
    monkeypatch.delenv("PYTEST_VERSION")
    with pytest.raises(FileNotFoundError, match="set MARKET_DATA"):
        market_data_dir()
