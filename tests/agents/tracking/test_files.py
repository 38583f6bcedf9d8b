"""Files that are whole or not there."""

from __future__ import annotations

import pytest

from agents.tracking.files import replacing, write_text


def test_a_file_has_its_old_content_or_all_of_the_new(tmp_path):
    file = tmp_path / "new" / "file.json"
    write_text(file, "first\n")
    with pytest.raises(UnicodeEncodeError), replacing(file) as fresh:
        fresh.write_text("sec\ud800", encoding="utf-8")
    assert file.read_text() == "first\n"
    (tmp_path / "new" / "file.json.new").write_text("what a killed process has left")
    write_text(file, "sécond\n")
    assert file.read_text("utf-8") == "sécond\n"
    assert [path.name for path in file.parent.iterdir()] == ["file.json"]


def test_a_folder_in_the_place_of_a_file_stays(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="file"):
        write_text(tmp_path / "file", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
