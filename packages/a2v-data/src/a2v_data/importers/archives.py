"""Files out of archives (tar, zip) and folders, without anything being extracted.

Only files whose bare name is wanted are read, and only that name is passed on, so that no path in an archive, link or
device can reach a file outside. Limits keep a file that unpacks to more than it should from filling the memory.
"""

import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from a2v_data.documents import reason
from a2v_data.storage import check_regular

MAX_BYTES = 100_000_000
MAX_HEADER_BYTES = 1 << 20
LONG_HEADERS = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip
BROKEN = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError,
    NotImplementedError,
)  # fmt: skip


class MemberError(ValueError):
    """One file of an archive cannot be used; one line that names both."""


def wanted_files(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes | MemberError]]:
    """Bare name and content of every file in an archive or folder whose bare name is `wanted`.

    A file that is larger than 100 MB comes as an error. Raises `ValueError` where the archive is missing or damaged.
    """
    if path.is_dir():
        yield from _from_folder(path, wanted)
    elif not path.is_file():
        raise ValueError(f"{path}: no such archive or folder")
    else:
        try:
            if zipfile.is_zipfile(path):
                yield from _from_zip(path, wanted)
            else:
                yield from _from_tar(path, wanted)
        except BROKEN as error:
            told = f"not readable as a tar or zip archive ({reason(error)})"
            raise ValueError(f"{path}: {told}; download it again") from error


class _Member(tarfile.TarInfo):
    """A header. Those that hold a long name or further values are read into memory, so their size has a limit."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        found = super().frombuf(buf, encoding, errors)
        if found.type in LONG_HEADERS and found.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {found.size} bytes")
        return found


def _from_tar(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes | MemberError]]:
    with tarfile.open(path, "r:*", tarinfo=_Member) as archive:
        for member in archive:
            name = PurePosixPath(member.name).name
            if member.isreg() and wanted(name):
                file = archive.extractfile(member)
                assert file is not None
                with file:
                    yield name, _content(file, member.size, f"{path.name}: {member.name}")


def _from_zip(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes | MemberError]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = PurePosixPath(member.filename.replace("\\", "/")).name
            if not member.is_dir() and wanted(name):
                with archive.open(member) as file:
                    yield name, _content(file, member.file_size, f"{path.name}: {member.filename}")


def _from_folder(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes | MemberError]]:
    for parent, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
            if wanted(name):
                file = Path(parent, name)
                try:
                    check_regular(file)
                    with file.open("rb") as content:
                        yield name, _content(content, file.stat().st_size, str(file))
                except OSError as error:
                    yield name, MemberError(f"{file}: cannot be read ({error.strerror})")


def _content(file: IO[bytes], size: int, shown: str) -> bytes | MemberError:
    too_large = MemberError(f"{shown}: is larger than {MAX_BYTES // 1_000_000} MB, no such file was published")
    if size > MAX_BYTES:
        return too_large
    content = file.read(MAX_BYTES + 1)
    return too_large if len(content) > MAX_BYTES else content
