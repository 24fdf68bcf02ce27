"""Digests depend on content alone."""

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.files import combined_digest, content_digest, file_digest

names = st.text("abc./_é", min_size=1, max_size=6).filter(lambda name: name.strip("./"))


def write(folder: Path, files: list[tuple[str, bytes]]) -> Path:
    for name, data in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


@given(
    st.dictionaries(names, st.text(max_size=5), min_size=2).flatmap(
        lambda files: st.tuples(st.just(files), st.permutations(list(files)))
    )
)
def test_the_order_of_files_does_not_matter(case) -> None:
    files, order = case
    assert combined_digest(files) == combined_digest({name: files[name] for name in order})


def test_the_order_of_writing_does_not_matter(tmp_path) -> None:
    files = [("b/x", b"1"), ("a", b"2"), ("b/c/d", b"3")]
    first = write(tmp_path / "first", files)
    assert content_digest(first) == content_digest(write(tmp_path / "second", files[::-1]))


@given(st.binary(max_size=50))
def test_one_file_has_what_sha256sum_prints(data: bytes) -> None:
    with TemporaryDirectory() as folder:
        root = write(Path(folder), [("sub/file", data)])
        expected = hashlib.sha256(data).hexdigest()
        assert file_digest(root / "sub" / "file") == expected
        assert content_digest(root / "sub" / "file") == expected
        assert content_digest(root) == expected


def test_bytes_and_names_matter(tmp_path) -> None:
    variants = [
        [("a", b"1"), ("b", b"2")],
        [("a", b"2"), ("b", b"1")],
        [("a", b"1"), ("c", b"2")],
        [("a", b"1"), ("d/b", b"2")],
        [("a", b"1"), ("b", b"2"), ("c", b"")],
    ]
    roots = [write(tmp_path / str(number), files) for number, files in enumerate(variants)]
    assert len({content_digest(root) for root in roots}) == len(variants)
