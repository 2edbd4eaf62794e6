import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4keras.data.files import open as open_text

pytestmark = pytest.mark.pure


@given(st.lists(st.text(alphabet="a中\r é", max_size=5)), st.booleans())
def test_lines_by_number(tmp_path_factory, lines, ends):
    text = "\n".join(lines) + "\n" * ends
    path = tmp_path_factory.mktemp("files") / "text.txt"
    path.write_bytes(text.encode("gb18030"))
    with open(path, encoding="gb18030", newline="\n") as file:
        expected = [line.replace("\r\n", "\n") for line in file]
    with open_text(path, encoding="gb18030", indexable=True) as indexed:
        assert len(indexed) == len(expected)
        assert list(indexed) == expected
        assert [indexed[i] for i in reversed(range(len(indexed)))] == expected[::-1]
        if expected:
            assert indexed[-1] == expected[-1]
        with pytest.raises(IndexError, match=f"of {len(expected)} lines"):
            indexed[len(expected)]


def test_like_python_otherwise(tmp_path):
    path = tmp_path / "text.txt"
    with open_text(path, "w", encoding="utf-8") as file:
        file.write("中文\n")
    with open_text(path, encoding="utf-8") as file:
        assert file.read() == "中文\n"
    with open_text(path, "rb") as file:
        assert file.read().decode() == "中文\n"


def test_an_index_is_for_reading(tmp_path):
    path = tmp_path / "text.txt"
    with pytest.raises(ValueError, match="mode is 'w'"):
        open_text(path, "w", indexable=True)
    assert not path.exists()
