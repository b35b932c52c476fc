"""The page of options says what the base files do."""

from __future__ import annotations

import pytest

from sopose.core.config.check import leaf_keys
from sopose.core.config.describe import WITHOUT_EFFECT as WITHOUT_EFFECT_SAID
from sopose.core.config.describe import describe
from sopose.core.utils.errors import UserError
from sopose.settings import SCHEMA
from sopose.settings.load import keys_without_effect, schema
from sopose.settings.rules import RULES
from tools.document_config import OUTPUT, main, make_page


def test_the_committed_page_is_up_to_date():
    assert OUTPUT.read_text(encoding="utf-8") == make_page(), "run python tools/document_config.py"


def test_every_key_and_every_group_has_a_meaning():
    description = describe(SCHEMA)
    bare = ("", WITHOUT_EFFECT_SAID)  # a key without effect says why
    assert [entry.key for entry in description.entries if entry.meaning in bare] == []
    assert [group for group, meaning in description.meanings.items() if not meaning] == []


def test_the_described_keys_are_those_of_the_configuration():
    assert sorted(entry.key for entry in describe(SCHEMA).entries) == sorted(name for name, _ in leaf_keys(schema()))


def test_comments_and_code_agree_on_what_has_no_effect():
    said = {entry.key for entry in describe(SCHEMA).entries if not entry.has_effect}
    assert said == set(keys_without_effect())


def test_every_key_and_retired_name_is_on_the_page():
    page = make_page()
    for entry in describe(SCHEMA).entries:
        assert f"`{entry.key.rpartition('.')[2]}`" in page or f".{entry.key.rpartition('.')[2]}`" in page, entry.key
    for name in (*RULES.retired, *RULES.retired_words):
        assert f"`{name}`" in page
    assert "<folder>" not in page  # would be a tag


def test_check_reports_a_stale_page_and_writes_nothing(tmp_path):
    page = tmp_path / "page.md"
    with pytest.raises(UserError, match=r"run python tools/document_config\.py"):
        main(["--check", "--output", str(page)])
    assert not page.exists()
    main(["--output", str(page)])
    main(["--check", "--output", str(page)])
    page.write_text(page.read_text() + "x")
    with pytest.raises(UserError):
        main(["--check", "--output", str(page)])
