"""The lowest versions that the project claims, as pip's constraints."""

from __future__ import annotations

import pytest

from tests.support.lowest_versions import all_requirements, lowest, main


def test_every_requirement_of_ours_has_a_lower_bound(capsys):
    main(["--without", "torch"])
    lines = capsys.readouterr().out.splitlines()
    assert lines == lowest(all_requirements(), ["torch"]) and all(line.count("==") == 1 for line in lines)
    assert not any(line.startswith("torch==") for line in lines)


def test_bounds_become_versions_whatever_stands_beside_them():
    requirements = ["b[x]>=1.2", "a >= 3.0, <4", "b>=1.2", "ruff"]
    assert lowest(requirements) == ["a==3.0", "b==1.2"]


@pytest.mark.parametrize(
    ("requirements", "message"), [(["a"], "no lower bound"), (["a>=1", "a>=2"], "two lower bounds")]
)
def test_what_is_no_bound_is_reported(requirements, message):
    with pytest.raises(ValueError, match=message):
        lowest(requirements)
