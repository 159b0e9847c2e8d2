"""OGG files that hold several streams one behind the other: libsndfile reads the first and says nothing (RFC 3533)."""

import mmap
from pathlib import Path

from a2v_data.headers import LengthFound

PAGE = b"OggS"
HEAD_BYTES = 27
FIRST_PAGE, LAST_PAGE = 2, 4
MOST_PAGES = 3_000_000  # are walked in a few seconds; usual ones would be 12 GB


def ogg_length(path: Path) -> LengthFound:
    """Whether an OGG is one stream, whole. Raises `OSError`."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        position = end = first = 0
        begun, flags, streams, pages = False, 0, 1, 0
        while (position := data.find(PAGE, position)) >= 0 and position + HEAD_BYTES <= len(data):
            pages += 1
            if pages > MOST_PAGES:
                return LengthFound(f"has more than {MOST_PAGES} pages; convert it: ffmpeg -i IN OUT.wav")
            flags, lacing = data[position + 5], data[position + 26]
            if flags & FIRST_PAGE and begun:
                streams, first = streams + 1, position if streams == 1 else first
                begun = False
            begun = begun or not flags & FIRST_PAGE
            table = data[position + HEAD_BYTES : position + HEAD_BYTES + lacing]
            position += HEAD_BYTES + lacing + sum(table)
            end = position
        if streams > 1:
            return LengthFound(
                f"holds {streams} recordings one behind the other, of which only the first {first} of {len(data)} "
                "bytes would be read; make one of them: ffmpeg -i IN OUT.wav"
            )
        if end > len(data) or not flags & LAST_PAGE:
            return LengthFound(None, "has no end (it was cut, or its recorder stopped): what is there is read")
    return LengthFound()
