"""Fixtures of the tests of core/bop."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.bop_files import write_tiny_bop


@pytest.fixture
def tiny_bop(tmp_path: Path) -> Path:
    """Folder `mini` of a hand-written BOP data set that a test may damage."""
    return write_tiny_bop(tmp_path / "mini")
