"""Files → documents: what is read, and what is said of files that cannot be."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurolens import NeurolensError
from neurolens.documents import Document, join, look_up, number_documents
from neurolens.documents import read_documents as read_sources
from neurolens.sources import FileSource, find_sources

settings.register_profile("laws", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("laws")

BOM = b"\xef\xbb\xbf"


@pytest.fixture
def write(tmp_path):
    def write(name: str, data: bytes | str) -> Path:
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return write


def read_documents(paths: Iterable[str | Path], **keys) -> Iterator[Document]:
    return read_sources(find_sources(paths), **keys)


def texts(path: Path, **keys) -> list[str]:
    return [document.text for document in read_documents([path], **keys)]


def labels(path: Path, **keys) -> list[str]:
    return [document.label for document in read_documents([path], **keys)]


def complaint(*paths: Path, error: type[NeurolensError] = NeurolensError, **keys) -> str:
    """What is said of bad input: one line that begins with the file it is about, when there is one."""
    with pytest.raises(error) as caught:
        list(read_documents(paths, **keys))
    assert type(caught.value) is error
    message = str(caught.value)
    assert message.isprintable(), message  # no line ends either
    return message


# what is read


def test_a_line_of_jsonl_is_a_document_and_a_txt_file_is_one(write):
    a = write("wiki.jsonl", '{"text": "one\\ntwo"}\n{"text": ""}\n{"text": "three"}\n')
    b = write("novel.part.txt", "a\r\n\nb\n")
    assert list(read_documents([a, str(b), a])) == [
        Document("one\ntwo", "wiki", 0, 0),
        Document("", "wiki", 0, 1),
        Document("three", "wiki", 0, 2),
        Document("a\r\n\nb\n", "novel.part", 1, 0),
        Document("one\ntwo", "wiki", 2, 0),
        Document("", "wiki", 2, 1),
        Document("three", "wiki", 2, 2),
    ]


def test_documents_are_read_as_they_are_asked_for(write):
    path = write("a.jsonl", '{"text": "good"}\nnot JSON\n')
    assert next(read_documents([path])).text == "good"


def test_blank_lines_carriage_returns_and_a_missing_last_line_end(write):
    path = write("a.jsonl", b'\n{"text": "x"}\r\n\r\n  \t\n{"text": "y"}')
    assert [(document.text, document.record) for document in read_documents([path])] == [("x", 0), ("y", 1)]


def test_line_ends_of_other_alphabets_do_not_end_a_line(write):
    text = "a\u2028b\u2029c\x85d"
    path = write("a.jsonl", json.dumps({"text": text}, ensure_ascii=False) + "\n")
    assert texts(path) == [text]


@pytest.mark.parametrize("data", [b"", b"\n\n", BOM, BOM + b"\r\n"])
def test_a_file_without_records_has_no_documents(write, data):
    assert texts(write("a.jsonl", data)) == []
    assert texts(write("a.jsonl", data), label_key="set") == []


def test_a_byte_order_mark_is_no_text(write):
    assert texts(write("a.jsonl", BOM + b'{"text": "x"}\n{"text": "y"}\n')) == ["x", "y"]
    assert texts(write("b.jsonl", BOM + b'\n{"text": "x"}\n')) == ["x"]
    assert texts(write("a.txt", BOM + b"x")) == ["x"]
    assert texts(write("c.jsonl", '{"text": "\\ufeffx"}')) == ["\ufeffx"]  # escaped, it is a character of the text


@given(st.lists(st.text(max_size=20), max_size=5), st.booleans())
def test_any_text_comes_back(tmp_path_factory, documents, ascii_only):
    path = tmp_path_factory.mktemp("texts") / "a.jsonl"
    lines = [json.dumps({"text": text}, ensure_ascii=ascii_only) + "\n" for text in documents]
    path.write_text("".join(lines), encoding="utf-8", newline="")
    assert texts(path) == documents
    for i, text in enumerate(documents):
        plain = path.with_name(f"{i}.txt")
        plain.write_text(text, encoding="utf-8", newline="")
        assert texts(plain) == [text.removeprefix("\ufeff")]


def whole(codes: list[int]) -> str:
    """UTF-16 units as text, by the definition of pairs; U+FFFD for each unit that has no partner."""
    out, i = "", 0
    while i < len(codes):
        low = codes[i + 1] if i + 1 < len(codes) else 0
        if 0xD800 <= codes[i] < 0xDC00 and 0xDC00 <= low < 0xE000:
            out += chr(0x10000 + (codes[i] - 0xD800) * 0x400 + low - 0xDC00)
            i += 1
        else:
            out += "\ufffd" if 0xD800 <= codes[i] < 0xE000 else chr(codes[i])
        i += 1
    return out


@given(st.lists(st.one_of(st.integers(0xD7FE, 0xE001), st.sampled_from([0xD800, 0xDC00, 0x41, 0xFEFF])), max_size=8))
def test_half_a_surrogate_pair_is_replaced_in_text_and_label(tmp_path_factory, codes):
    path = tmp_path_factory.mktemp("halves") / "a.jsonl"
    escaped = "".join(f"\\u{code:04x}" for code in codes)
    path.write_text(f'{{"text": "{escaped}", "set": "{escaped}"}}', encoding="ascii")
    (document,) = read_documents([path], label_key="set")
    assert document.text == document.label == whole(codes)
    document.text.encode()


# keys


def test_keys_with_dots_reach_into_objects(write):
    path = write("a.jsonl", '{"body": {"raw": {"text": "x"}}, "meta": {"from": {"set": "wiki"}}}\n')
    (document,) = read_documents([path], text_key="body.raw.text", label_key="meta.from.set")
    assert (document.text, document.label) == ("x", "wiki")


def test_a_literal_key_with_dots_goes_first():
    assert look_up({"a.b": 1, "a": {"b": 2}}, "a.b") == 1
    assert look_up({"a.b": None, "a": {"b": 2}}, "a.b") is None
    assert look_up({"a": {"b": 2}}, "a.b") == 2


@pytest.mark.parametrize("record", [{}, {"a": 1}, {"a": {"c": 1}}, {"a": [{"b": 2}]}, {"a": "b"}, {"a": None}, 5, []])
def test_a_key_that_is_not_there(record):
    assert look_up(record, "a.b") is None


def test_the_label_of_the_pile_is_found_without_asking(write):
    path = write("a.jsonl", '{"text": "x", "meta": {"pile_set_name": "HackerNews"}}\n{"text": "y"}\n')
    assert labels(path) == ["HackerNews", "a"]
    assert labels(path, label_key="meta.pile_set_name") == ["HackerNews", "a"]


@pytest.mark.parametrize(
    ("written", "label"), [('"wiki"', "wiki"), ("7", "7"), ("-3", "-3"), ('""', ""), ('"sehr gut"', "sehr gut")]
)
def test_texts_and_integers_are_labels(write, written, label):
    assert labels(write("a.jsonl", f'{{"text": "x", "set": {written}}}'), label_key="set") == [label]


@pytest.mark.parametrize("written", ["null", "[1]", '{"b": 1}', "1.5"])
def test_anything_else_is_no_label(write, written):
    path = write("a.jsonl", f'{{"text": "x", "set": "wiki"}}\n{{"text": "y", "set": {written}}}')
    assert labels(path, label_key="set") == ["wiki", "a"]
    path = write("b.jsonl", f'{{"text": "y", "meta": {{"pile_set_name": {written}}}}}')
    assert labels(path) == ["b"]
    message = complaint(path, label_key="meta.pile_set_name")
    assert message.startswith(f"{path}: none of its 1 records") and "--label-key" in message


def test_a_label_key_that_no_record_has_is_a_mistake(write):
    good = write("good.jsonl", '{"text": "x", "set": "wiki"}')
    bad = write("bad.jsonl", '{"text": "x"}\n\n{"text": "y", "sett": "wiki"}')
    message = complaint(good, bad, label_key="set")
    assert message.startswith(f"{bad}: none of its 2 records") and "'set'" in message and "--label-key" in message
    assert labels(bad) == ["bad", "bad"]  # not asked for, none is needed
    assert labels(write("c.txt", "x"), label_key="set") == ["c"]


# bad input


def test_files_that_are_gone_when_they_are_read(write):
    for name in ("a.jsonl", "a.txt", "a.jsonl.gz", "a.txt.zst", "a.jsonl.xz", "a.parquet"):
        (source,) = find_sources([write(name, "x")])
        assert isinstance(source, FileSource)
        source.path.unlink()
        with pytest.raises(NeurolensError, match=r"cannot read .*: No such file") as caught:
            list(read_sources([source]))
        assert str(source) in str(caught.value) and str(caught.value).isprintable()


@pytest.mark.parametrize("mark", [b"", BOM])
def test_text_that_is_not_utf8(write, mark):
    path = write("a.txt", mark + b"na\xefve")
    message = complaint(path)
    assert message.startswith(f"{path}: the file is not UTF-8") and f"0xef at offset {len(mark) + 2}" in message
    path = write("a.jsonl", mark + b'{"text": "\xfe"}\n')
    message = complaint(path)
    assert message.startswith(f"{path}: line 1 is not UTF-8") and f"0xfe at offset {len(mark) + 10}" in message


def test_the_line_is_named_counting_blank_ones(write):
    path = write("a.jsonl", b'{"text": "x"}\n\n\n{"text": "\xff"}\n')
    assert complaint(path).startswith(f"{path}: line 4 is not UTF-8")
    path = write("a.jsonl", b'{"text": "x"}\n\n\n{"text": "x"\n')
    assert complaint(path).startswith(f"{path}: line 4 is not JSON")
    path = write("a.jsonl", b'{"text": "x"}\n\n\n{"txt": "x"}\n')
    assert complaint(path).startswith(f"{path}: line 4 has no 'text'")


def test_surrogates_in_bytes_are_not_utf8(write):
    assert "line 1 is not UTF-8" in complaint(write("a.jsonl", b'{"text": "\xed\xa0\x80"}'))


@pytest.mark.parametrize(
    "line", ["words", '{"text": "x"', "{'text': 'x'}", '{"text": "x"} {"text": "y"}', '{"text": "a\tb"}', "{", "\0"]
)
def test_a_line_that_is_not_json(write, line):
    path = write("a.jsonl", '{"text": "fine"}\n' + line + "\n")
    message = complaint(path)
    assert message.startswith(f"{path}: line 2 is not JSON (") and message.endswith("expected one object a line")


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000])
def test_json_that_is_nested_too_deeply(write, text):
    path = write("a.jsonl", f'{{"text": {text}}}')
    message = complaint(path)
    assert message.startswith(f"{path}: line 1 is not JSON (") and len(message) < len(str(path)) + 200


def test_an_integer_that_python_refuses_to_read(write):
    path = write("a.jsonl", '{"text": "x", "n": ' + "9" * 5000 + "}")
    assert complaint(path).startswith(f"{path}: line 1 is not JSON (")


@pytest.mark.parametrize(("line", "kind"), [('["x"]', "list"), ('"x"', "str"), ("5", "int"), ("null", "NoneType")])
def test_a_line_that_is_no_object(write, line, kind):
    path = write("a.jsonl", line)
    message = complaint(path)
    assert message.startswith(f"{path}: line 1 is a JSON {kind}; expected an object")


@pytest.mark.parametrize(("record", "keys"), [({}, "no keys"), ({"body": "x", "id": 1}, "'body', 'id'")])
def test_a_missing_text_key_names_the_keys_there_are(write, record, keys):
    path = write("a.jsonl", json.dumps(record))
    message = complaint(path)
    assert message.startswith(f"{path}: line 1 has no 'text'") and f"(it has: {keys})" in message
    assert "--text-key" in message
    assert "has no 'a.b'" in complaint(path, text_key="a.b")


def test_keys_of_any_length_and_content_fit_into_the_line(write):
    path = write("a.jsonl", json.dumps({f"{i}\n\ud800" + "k" * 1000: 1 for i in range(100)}))
    assert len(complaint(path)) < len(str(path)) + 500


@pytest.mark.parametrize("value", [5, 1.5, True, {"a": "x"}, {"content": "x"}])
def test_a_text_that_is_no_text(write, value):
    path = write("a.jsonl", json.dumps({"text": value}))
    message = complaint(path)
    assert f"{path}: line 1 has a {type(value).__name__} under 'text'" in message and "--text-key" in message


def test_no_text_at_all_under_the_key(write):
    path = write("a.jsonl", '{"text": null}')
    assert complaint(path).startswith(f"{path}: line 1 has no 'text'")


# texts in parts


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", "x"),
        ("", ""),
        ([], ""),
        (["x", "", "y\n"], "x\n\ny\n"),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "a\nb"),
        ([{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "a\nb"),
        ([{"content": None, "value": "a"}, "b", {"content": "c", "value": "d"}], "a\nb\nc"),
        (None, None),
        (5, None),
        ({"content": "x"}, None),
        ([5], None),
        (["x", None], None),
        ([["x"]], None),
        ([{"content": ["x"]}], None),
        ([{"content": None}], None),
        ([{}], None),
    ],
)
def test_a_text_is_a_string_or_parts_of_one(write, value, text):
    assert join(value) == text
    path = write("a.jsonl", json.dumps({"messages": value}))
    if text is None:
        assert f"{path}: line 1 has " in (said := complaint(path, text_key="messages")) and "--text-key" in said
    else:
        assert texts(path, text_key="messages") == [text]


def test_a_list_that_is_no_text_says_which_part(write):
    path = write("a.jsonl", json.dumps({"text": ["x", 5, "y"]}))
    assert "line 1 has a list whose part 2 is a int under 'text'" in complaint(path)
    path = write("b.jsonl", json.dumps({"text": [{"content": "x"}, {"role": "y"}]}))
    assert "part 2 is an object without text under content or value under 'text'" in complaint(path)


# iterables


def test_pairs_become_documents_and_documents_stay():
    given = Document("c", "z", 7, 9)
    pairs = iter([("a", "x"), ("", 5), given, ["b\ud800", "\udfff"]])
    assert list(number_documents(pairs)) == [
        Document("a", "x", 0, 0),
        Document("", "5", 0, 1),
        given,
        Document("b\ufffd", "\ufffd", 0, 3),
    ]
    assert list(number_documents([])) == []


@pytest.mark.parametrize(
    ("item", "shown"),
    [
        ("text", "a str;"),
        (("text",), "a tuple of str;"),
        (("text", None), "a tuple of str, NoneType;"),
        ((5, "x"), "a tuple of int, str;"),
        (("a", "b", "c"), "a tuple of str, str, str;"),
        ({"text": "a"}, "a dict;"),
        (None, "a NoneType;"),
    ],
)
def test_anything_else_is_no_document(item, shown):
    documents = number_documents(iter([("a", "x"), item]))
    assert next(documents) == Document("a", "x")
    with pytest.raises(NeurolensError, match=r"document 2 is .*expected .text, label") as caught:
        next(documents)
    assert shown in str(caught.value)


def test_a_source_is_left_where_it_is_asked_for(write):
    a, b = write("a.jsonl", '{"text": "1"}\n{"text": "2"}\nbad'), write("b.jsonl", '{"text": "3"}')
    left: set[int] = set()
    read = []
    for document in read_sources(find_sources([a, b]), left=left):
        read.append(document.text)
        if document.text == "2":
            left.add(0)
    assert read == ["1", "2", "3"]
