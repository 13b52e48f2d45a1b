"""Sentences for people about files that cannot be read, from the first bytes of the file. Pure.

FFmpeg's own messages name paths and functions, and often the first of several errors and not the one that matters.
"""

import re

PLAYLISTS = {
    rb"\A(?:\xef\xbb\xbf)?\s*#EXTM3U": "an HLS playlist (m3u8)",
    rb"\A(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<MPD": "a DASH manifest (mpd)",
    rb"\A(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<SmoothStreamingMedia": "a Smooth Streaming manifest",
    rb"\A(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:smil|playlist|asx)\b": "a playlist",
    rb"\Affconcat version": "a list of files for FFmpeg (ffconcat)",
    rb"\A\[playlist\]": "a playlist (pls)",
    rb"\Av=0\r?\no=": "a session description (sdp)",
    rb"\A;FFMETADATA": "a file of tags (ffmetadata)",
}
"""Files that only name others."""
OTHERS = {
    rb"\A\xff\xd8\xff": "a JPEG picture",
    rb"\A\x89PNG\r\n": "a PNG picture",
    rb"\AGIF8[79]a": "a GIF picture",
    rb"\ARIFF....WEBP": "a WebP picture",
    rb"\A(?:II\*\0|MM\0\*)": "a TIFF picture",
    rb"\ABM.{4}\0\0\0\0": "a BMP picture",
    rb"\A....ftyp(?:heic|heix|mif1|avif)": "a HEIF picture",
    rb"\A(?:\xef\xbb\xbf)?\s*(?:<!DOCTYPE html|<html)": "a web page (HTML)",
    rb"\A%PDF-": "a PDF document",
    rb"\APK\x03\x04": "a ZIP archive or an office document",
    rb"\ARar!": "a RAR archive",
    rb"\A7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    rb"\A\x1f\x8b": "compressed with gzip",
    rb"\A\xfd7zXZ\0": "compressed with xz",
    rb"\A(?:\xef\xbb\xbf)?\s*[\[{]": "JSON",
    rb"\AMThd": "MIDI, which has notes and no sound",
    rb"\A\x7fELF|\AMZ": "a program",
}
"""Files that people send by mistake."""
SAMPLES = frozenset(
    {"raw", "pcm", "s8", "s16", "s16le", "s24", "s32", "f32", "sw", "sb", "ul", "al", "ulaw", "alaw", "vox"}
)
"""What names of files with samples alone end with."""
MP4 = rb"\A....(?:ftyp|mdat|free|skip|wide)"


def refused_kind(head: bytes) -> str | None:
    """Return what a file is that names other files, with its article; None for every other one."""
    return _first(PLAYLISTS, head)


def cannot_be_read(head: bytes, ending: str) -> str:
    """Return why a file that begins like this, and whose name ends like this, cannot be opened."""
    kind = _first(OTHERS, head)
    if kind is not None:
        return f"The file is {kind}, not a recording."
    if re.match(MP4, head, re.DOTALL) and b"moov" not in head:
        return "The file is an MP4 or MOV that has no readable index (moov): it was not finished, or cut off."
    if not head.strip(b"\0"):
        return "The file has only zeros where a recording begins."
    if ending in SAMPLES:
        return "The file has no header. Samples without one need the options `format`, `sample_rate` and `channel_count`."
    return "The file is in no format that is known here, or so damaged that its beginning cannot be read."


def no_audio(head: bytes, container: str, others: list[str]) -> str:
    """Return what is said of a container without an audio track. `others` are the kinds of tracks that it has."""
    if (kind := _first(OTHERS, head)) is not None:
        return f"The file is {kind}, not a recording."
    has = f"; it has only {' and '.join(others)}" if others else ""
    return f"The file has no audio track{has} (format {container})."


def _first(table: dict[bytes, str], head: bytes) -> str | None:
    return next(
        (kind for mark, kind in table.items() if re.match(mark, head, re.DOTALL | re.IGNORECASE)), None
    )
