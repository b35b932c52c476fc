"""Generated parts: the same for the same seed, closed, of the size asked for, and a data set to train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sopose.core.bop.models import load_models
from sopose.core.bop.splits import resolve_split
from sopose.core.making.new_dataset import NewObject
from sopose.core.making.parts import PartRange, generated_part
from sopose.core.utils.errors import UserError
from tests.support.command import verb

main = verb("toy")


@pytest.fixture(scope="module")
def parts() -> list[NewObject]:
    return [generated_part(0, number) for number in range(4)]


def test_a_seed_and_a_number_make_the_same_part(parts):
    again = generated_part(0, 2)
    np.testing.assert_array_equal(again.model.vertices, parts[2].model.vertices)
    np.testing.assert_array_equal(again.model.colors, parts[2].model.colors)
    assert len({part.model.vertices.tobytes() for part in parts}) == len(parts)
    other = generated_part(1, 2)
    assert other.model.vertices.shape != again.model.vertices.shape or not np.array_equal(
        other.model.vertices, again.model.vertices
    )


def test_parts_have_the_size_asked_for_and_their_origin_in_the_middle(parts):
    low, high = PartRange().diameter
    for part in parts:
        assert low / 1000 * 0.999 <= part.model.diameter <= high / 1000 * 1.001  # metres
        middle = part.model.bounds_min + part.model.extent / 2
        np.testing.assert_allclose(middle, 0, atol=1e-7)
        assert np.isfinite(part.model.vertices).all() and part.model.colors.shape == part.model.vertices.shape


def test_every_edge_of_a_part_has_a_triangle_on_each_side(parts):
    for part in parts:
        edges = np.concatenate([part.model.faces[:, [i, (i + 1) % 3]] for i in range(3)])
        forward = {tuple(edge) for edge in edges.tolist()}
        assert all((b, a) in forward for a, b in forward)


def test_a_turned_body_alone_is_reported_to_be_one(parts):
    """The first part of seed 0 is one, see the overview; its axis goes through the origin."""
    ((axis, offset),) = parts[0].model.symmetries_continuous
    assert abs(axis[2]) == pytest.approx(1.0, abs=1e-3)
    np.testing.assert_allclose(offset, 0, atol=1e-3)  # metres


def test_the_tool_makes_a_folder_to_train_on(tmp_path: Path, capsys):
    main(["--root", str(tmp_path / "parts"), "--parts", "2"])
    assert "2 parts, 1 of them symmetric" in capsys.readouterr().out
    assert (tmp_path / "parts" / "overview.png").is_file()
    spec = resolve_split(f"{tmp_path / 'parts'}:cad", tmp_path)
    assert list(spec.object_names.values()) == ["part_0000", "part_0001"]
    assert len(load_models(spec.models_dir)) == 2
    with pytest.raises(UserError, match="overwrite"):
        main(["--root", str(tmp_path / "parts"), "--parts", "2"])
