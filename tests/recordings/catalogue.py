"""All recordings that are tried."""

import struct
from functools import partial

from schemas.errors import ErrorCode
from schemas.recordings import WarningCode
from tests.recordings.bench import Bench, Made, cut, damaged, on_channel, two_speakers, wav, without
from tests.recordings.piped import CUT_BYTES, ENDS, PIPED
from tests.recordings.recording import LOSSY, Recording, encoded

W, E = WarningCode, ErrorCode

FORMATS = [
    encoded("16 bits.wav"),
    encoded(
        "8 bits.wav",
        "-af",
        "volume=6dB,aresample=osf=u8:dither_method=triangular",
        "-c:a",
        "pcm_u8",
        accuracy=0.0,
        rare=True,
    ),
    encoded("24 bits.wav", "-c:a", "pcm_s24le", "-ar", "96000"),
    encoded("32 bits.wav", "-c:a", "pcm_s32le", rare=True),
    encoded("floats.wav", "-c:a", "pcm_f32le", rare=True),
    encoded("doubles.wav", "-c:a", "pcm_f64le", rare=True),
    encoded("A-law.wav", "-c:a", "pcm_alaw", rare=True),
    encoded("mu-law.wav", "-c:a", "pcm_mulaw"),
    encoded("IMA ADPCM.wav", "-c:a", "adpcm_ima_wav", accuracy=LOSSY, rare=True),
    encoded("MS ADPCM.wav", "-c:a", "adpcm_ms", accuracy=LOSSY, rare=True),
    encoded("RF64.wav", "-rf64", "always", rare=True),
    encoded("Wave64.w64", rare=True),
    encoded("AIFF.aiff"),
    encoded("Sun.au", rare=True),
    encoded("Core Audio.caf", rare=True),
    encoded("Apple lossless.caf", "-c:a", "alac", rare=True),
    encoded("FLAC.flac"),
    encoded("FLAC in Ogg.ogg", "-c:a", "flac", rare=True),
    encoded("Vorbis.ogg", "-c:a", "libvorbis", "-ar", "48000"),
    encoded("Opus.opus", "-c:a", "libopus", "-b:a", "32k"),
    encoded("Speex.spx", "-c:a", "libspeex", optional=True, accuracy=LOSSY, rare=True),
    encoded("MP3.mp3", "-b:a", "64k"),
    encoded("MP3 of variable rate without a table.mp3", "-q:a", "4", "-write_xing", "0"),
    encoded("MP2.mp2", "-b:a", "64k", accuracy=LOSSY, rare=True),
    encoded("AAC.m4a", "-b:a", "64k"),
    encoded("AAC with its index first.m4a", "-b:a", "64k", "-movflags", "+faststart", rare=True),
    encoded("AAC in pieces.mp4", "-b:a", "64k", "-movflags", "frag_keyframe+empty_moov"),
    encoded("Apple lossless.m4a", "-c:a", "alac", rare=True),
    encoded("ADTS.aac", "-b:a", "64k"),
    encoded("voice memo.mov", "-c:a", "pcm_s16be", rare=True),
    encoded("Opus in Matroska.mka", "-c:a", "libopus", rare=True),
    encoded("Opus in WebM.webm", "-c:a", "libopus"),
    encoded("Vorbis in WebM.webm", "-c:a", "libvorbis", "-ar", "48000", rare=True),
    encoded("Windows Media 2.wma", "-c:a", "wmav2", "-b:a", "64k"),
    encoded("Windows Media 1.asf", "-c:a", "wmav1", "-b:a", "64k", rare=True),
    encoded("MP3 in AVI.avi", "-c:a", "libmp3lame", accuracy=LOSSY, rare=True),
    encoded("MP3 in Flash.flv", "-ar", "44100", "-c:a", "libmp3lame", rare=True),
    encoded("AAC in a transport stream.ts", "-c:a", "aac", "-b:a", "64k"),
    encoded("MP2 in a program stream.mpg", "-ar", "48000", "-c:a", "mp2", accuracy=LOSSY, rare=True),
    encoded("AC-3.ac3", "-ar", "48000", "-b:a", "128k", rare=True),
    encoded("Enhanced AC-3.eac3", "-ar", "48000", "-b:a", "128k", rare=True),
    encoded("DTS.dts", "-ar", "48000", "-c:a", "dca", "-strict", "-2", "-b:a", "768k", rare=True),
    encoded("WavPack.wv", rare=True),
    encoded("True Audio.tta", rare=True),
    encoded(
        "AMR.amr", "-ar", "8000", "-c:a", "libopencore_amrnb", "-b:a", "12.2k", optional=True, accuracy=LOSSY
    ),
    encoded("GSM.gsm", "-ar", "8000", "-c:a", "libgsm", optional=True, accuracy=LOSSY, rare=True),
    encoded("G.722.g722", accuracy=LOSSY, rare=True),
    encoded("G.726.wav", "-ar", "8000", "-c:a", "g726", "-b:a", "40k", accuracy=LOSSY, rare=True),
    encoded("Creative Voice.voc", rare=True),
    encoded("NUT.nut", rare=True),
    Recording(
        "MXF.mxf",
        lambda bench: bench.film(
            "film.mxf", "-c:v", "mpeg2video", "-r", "25", "-ar", "48000", "-c:a", "pcm_s16le"
        ),
    ),
    encoded("SoX.sox", rare=True),
    encoded("IRCAM.sf", "-f", "ircam", rare=True),
    encoded("Bluetooth SBC.sbc", "-ar", "16000", "-b:a", "128k", accuracy=LOSSY, rare=True),
    encoded("video.mp4", "-b:a", "64k"),
    Recording("NIST sphere.sph", lambda bench: _sphere(bench.samples())),
]


def _sphere(samples: bytes) -> bytes:
    head = (
        f"NIST_1A\n   1024\nsample_count -i {len(samples) // 2}\nsample_rate -i 16000\nchannel_count -i 1\n"
        "sample_n_bytes -i 2\nsample_byte_format -s2 01\nsample_sig_bits -i 16\nsample_coding -s3 pcm\nend_head\n"
    )
    return head.encode().ljust(1024, b" ") + samples


PAUSED = "asetpts=PTS+gt(T\\,1.6)*5/TB"
"""The recorder paused for 5 s before the second phrase."""


def _paused(to: str, *options: str) -> Made:
    return lambda bench: bench.run("-i", str(bench.base), "-af", PAUSED, *options, to=to)


def _late(to: str, *options: str) -> Recording:
    def make(bench: Bench) -> bytes:
        return bench.film(to, *options, late="4")

    return Recording(f"4 s behind the picture.{to.split('.')[-1]}", make, shift=4, seconds=13)


TIMES = [
    _late("late.mp4", "-c:a", "aac"),
    _late("late.mov", "-c:a", "aac"),
    _late("late.mkv", "-c:a", "libopus"),
    Recording(
        "4 s behind the picture.ts", lambda bench: bench.film("late.ts", "-c:a", "aac", late="4"), shift=4
    ),
    Recording(
        "4 s late without a picture.m4a",
        lambda bench: bench.run("-itsoffset", "4", "-i", str(bench.base), "-c:a", "aac", to="alone.m4a"),
        shift=4,
    ),
    Recording("paused.webm", _paused("paused.webm", "-c:a", "libopus"), later={1: 5, 2: 5}),
    Recording("paused.mka", _paused("paused.mka", "-c:a", "flac"), later={1: 5, 2: 5}, rare=True),
    Recording("paused.ts", _paused("paused.ts", "-c:a", "aac"), later={1: 5, 2: 5}),
    Recording(
        "silent packets left out.ogg",
        lambda bench: bench.encode("dtx.ogg", "-c:a", "libopus", "-application", "voip", "-dtx", "1"),
    ),
    Recording(
        "edit list that begins at 1.7 s.m4a",
        lambda bench: bench.run(
            "-ss",
            "1.7",
            "-i",
            str(_file(bench, "edit.m4a", bench.encode("edit.m4a"))),
            "-c",
            "copy",
            to="e.m4a",
        ),
        phrases=(1, 2),
        shift=-1.7,
    ),
    Recording(
        "two pieces.ts",
        lambda bench: (
            bench.encode("piece.ts", "-c:a", "aac", "-b:a", "64k")
            + bench.encode("piece.ts", "-c:a", "aac", "-b:a", "64k")
        ),
        phrases=(0, 1, 2, 0, 1, 2),
        may_warn=(W.AUDIO_DAMAGED, W.AUDIO_TRUNCATED),
        rare=True,
    ),
    Recording(
        "two pieces.ogg",
        lambda bench: bench.encode("piece.ogg", "-c:a", "libopus") + bench.encode("p.ogg", "-c:a", "libopus"),
        phrases=(0, 1, 2, 0, 1, 2),
    ),
    Recording(
        "two pieces.mp3",
        lambda bench: bench.encode("piece.mp3", "-b:a", "64k") + bench.encode("piece.mp3", "-b:a", "64k"),
        phrases=(0, 1, 2, 0, 1, 2),
        may_warn=(W.AUDIO_DAMAGED,),
    ),
    Recording(
        "lost packets.ts",
        lambda bench: without(bench.encode("lost.ts", "-c:a", "aac", "-b:a", "64k"), 0.18, 0.24, 188),
        may_warn=(W.AUDIO_DAMAGED,),
    ),
]


def _file(bench: Bench, name: str, content: bytes) -> object:
    path = bench.folder / f"made {name}"
    path.write_bytes(content)
    return path


def _of_size(size: int) -> Recording:
    """A WAV whose header says that there are so many bytes."""
    made = partial(_told, size=size)
    return Recording(f"size {size:#010x}.wav", made, rare=size > 0x7FFFF000)


def _told(bench: Bench, size: int) -> bytes:
    return wav(bench.samples(), size=size)


SIZES = [_of_size(size) for size in (0, 1000, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)]
TAGS = [
    Recording(
        f"title {title!r}.mp3",
        lambda bench, title=title: bench.encode("t.mp3", "-b:a", "64k", "-metadata", f"title={title}"),  # type: ignore[misc]
    )
    for title in ("How to repair a partial file", "Stream map matches no streams\nDuration: 09:00:00.00")
]

CUT = (W.AUDIO_TRUNCATED,)
DAMAGE = [
    Recording("500 bytes fewer than told.wav", lambda b: wav(b.samples(), size=len(b.samples()) + 500)),
    Recording(
        "sound shorter than the picture.wmv",
        lambda b: b.film("short.wmv", "-c:v", "wmv2", "-c:a", "wmav2"),
        seconds=13,
    ),
    Recording("cut.mp3", lambda b: cut(b.encode("c.mp3", "-b:a", "64k"), 0.6), (0, 1), warnings=CUT),
    Recording("cut.wav", lambda b: cut(wav(b.samples()), 0.6), (0, 1), warnings=CUT),
    Recording("cut.flac", lambda b: cut(b.encode("c.flac"), 0.6), (0, 1), warnings=CUT),
    Recording("cut.ogg", lambda b: cut(b.encode("c.ogg", "-c:a", "libopus"), 0.6), (0, 1), warnings=CUT),
    Recording("cut.mka", lambda b: cut(b.encode("c.mka", "-c:a", "libopus"), 0.58), (0, 1), warnings=CUT),
    Recording(
        "cut.ts",
        lambda b: cut(b.encode("c.ts", "-c:a", "aac", "-b:a", "64k"), 0.605),
        (0, 1),
        may_warn=(*CUT, W.AUDIO_DAMAGED),
    ),
    Recording(
        "cut.wma", lambda b: cut(b.encode("c.wma", "-b:a", "64k"), 0.6), (0, 1), may_warn=CUT, rare=True
    ),
    Recording(
        "cut with its index first.m4a",
        lambda b: cut(b.encode("c.m4a", "-b:a", "64k", "-movflags", "+faststart"), 0.63),
        (0, 1),
        warnings=CUT,
    ),
    Recording("cut film.mkv", lambda b: cut(b.film("c.mkv", "-c:a", "libopus"), 0.44), (0, 1), warnings=CUT),
    Recording(
        "cut.m4a",
        lambda b: cut(b.encode("c2.m4a", "-b:a", "64k"), 0.6),
        (),
        error=E.AUDIO_UNDECODABLE,
        says="no readable index",
    ),
    Recording(
        "cut, strict.mp3",
        lambda b: cut(b.encode("c.mp3", "-b:a", "64k"), 0.6),
        (),
        error=E.AUDIO_TRUNCATED,
        options={"strict": "true"},
    ),
    Recording(
        "damaged between two phrases.mp3",
        lambda b: damaged(b.encode("d.mp3", "-b:a", "64k"), 0.2, 300),
        warnings=(W.AUDIO_DAMAGED,),
    ),
    Recording(
        "damaged between two phrases.flac",
        lambda b: damaged(b.encode("d.flac"), 0.2, 300),
        warnings=(W.AUDIO_DAMAGED,),
    ),
    Recording(
        "damaged, strict.flac",
        lambda b: damaged(b.encode("d.flac"), 0.2, 300),
        (),
        error=E.AUDIO_DAMAGED,
        options={"strict": "true"},
        rare=True,
    ),
    Recording(
        "damaged between two phrases.ogg",
        lambda b: damaged(b.encode("d.ogg", "-c:a", "libopus", "-page_duration", "100000"), 0.22, 100),
        may_warn=(W.AUDIO_DAMAGED,),
    ),
    Recording(
        "rubbish before it.mp3",
        lambda b: b"\x00garbage!" * 500 + b.encode("r.mp3", "-b:a", "64k"),
        may_warn=(W.AUDIO_DAMAGED, W.AUDIO_TRUNCATED),
    ),
    Recording("rubbish behind it.wav", lambda b: wav(b.samples()) + b"LIST\x08\0\0\0garbage!" * 100),
]

CHANNELS = [
    Recording(
        "out of phase.wav",
        lambda b: b.filtered("[0:a]pan=stereo|c0=c0|c1=-1*c0[a]", "p.wav", "-map", "[a]"),
        warnings=(W.CHANNELS_DIFFER,),
    ),
    Recording("right only.wav", lambda b: on_channel(b.samples(), 2, 2)),
    Recording("channel 3 of 3.wav", lambda b: on_channel(b.samples(), 3, 3), rare=True),
    Recording("channel 4 of 6.wav", lambda b: on_channel(b.samples(), 4, 6), rare=True),
    Recording("channel 8 of 8.wav", lambda b: on_channel(b.samples(), 8, 8)),
    Recording(
        "back right of 7.1.m4a",
        lambda b: b.filtered(
            "[0:a]aresample=48000,pan=7.1|BR=c0[a]", "br.m4a", "-map", "[a]", "-b:a", "256k"
        ),
    ),
    Recording("channel 16 of 16.wav", lambda b: on_channel(b.samples(), 16, 16)),
    Recording("channel 32 of 32.wav", lambda b: on_channel(b.samples(), 32, 32), rare=True),
    Recording("channel 1 of 64.wav", lambda b: on_channel(b.samples(), 1, 64), rare=True),
    Recording(
        "low frequency channel of 5.1.flac",
        lambda b: b.filtered("[0:a]pan=5.1|LFE=c0[a]", "lfe.flac", "-map", "[a]"),
    ),
    Recording(
        "centre of 5.1.ac3",
        lambda b: b.filtered(
            "[0:a]aresample=48000,pan=5.1|FC=c0[a]", "fc.ac3", "-map", "[a]", "-b:a", "384k"
        ),
    ),
    Recording("two speakers.wav", lambda b: two_speakers(b.samples()), may_warn=(W.CHANNELS_DIFFER,)),
    Recording(
        "two speakers, split.wav",
        lambda b: two_speakers(b.samples()),
        options={"channels": "split"},
        channels=(1, 2, 1),
    ),
    Recording(
        "two speakers, left.wav",
        lambda b: two_speakers(b.samples()),
        (0, 2),
        options={"channels": "1"},
        rare=True,
    ),
    Recording(
        "two speakers, right.wav", lambda b: two_speakers(b.samples()), (1,), options={"channels": "2"}
    ),
    Recording(
        "one speaker on both, split.flac",
        lambda b: b.encode("both.flac", "-ac", "2"),
        (0, 0, 1, 1, 2, 2),
        options={"channels": "split"},
        channels=(1, 2, 1, 2, 1, 2),
        warnings=(W.CHANNELS_SAME,),
    ),
    Recording(
        "no third channel.wav",
        lambda b: two_speakers(b.samples()),
        (),
        options={"channels": "3"},
        error=E.CHANNEL_MISSING,
        says="no channel 3",
    ),
]


def _tracks(default: str) -> Made:
    """Two tracks in Matroska: a silent one, and the phrases. `default` is the number of the default one, from 0."""
    other = "1" if default == "0" else "0"
    return lambda b: b.filtered(
        "[0:a]asplit[x][y];[x]volume=0[s]",
        "tracks.mkv",
        *("-map", "[s]", "-map", "[y]", "-c:a", "libopus"),
        *(f"-disposition:a:{default}", "default", f"-disposition:a:{other}", "0"),
    )


TRACKS = [
    Recording("silent first track.mkv", _tracks("1"), track=2),
    Recording("silent default track.mkv", _tracks("0"), track=2, warnings=(W.TRACK_SILENT,)),
    Recording(
        "the silent track asked for.mkv", _tracks("1"), (), options={"track": "1"}, warnings=(W.SILENT,)
    ),
    Recording("the second track asked for.mkv", _tracks("0"), options={"track": "2"}, track=2),
    Recording(
        "no third track.mkv",
        _tracks("1"),
        (),
        options={"track": "3"},
        error=E.TRACK_MISSING,
        says="no audio track 3",
    ),
]

LEVEL = [
    Recording("5 % of direct current.wav", lambda b: b.filtered("volume=0.5,dcshift=0.05", "dc.wav")),
    Recording(
        "rumble at 30 Hz.wav",
        lambda b: b.filtered(
            "aevalsrc=0.1*sin(2*PI*30*t):s=16000:d=7.8[r];[0:a]volume=0.5[v];[v][r]amix=normalize=0", "r.wav"
        ),
        accuracy=LOSSY,
    ),
    Recording(
        "quiet by 30 dB.wav",
        lambda b: b.filtered("volume=-30dB", "q.wav", "-c:a", "pcm_s24le"),
        warnings=(W.QUIET,),
        rare=True,
    ),
    Recording(
        "quiet by 40 dB.wav",
        lambda b: b.filtered("volume=-40dB", "q.wav", "-c:a", "pcm_s24le"),
        warnings=(W.QUIET,),
    ),
    Recording(
        "quiet by 50 dB.wav",
        lambda b: b.filtered("volume=-50dB", "q.wav", "-c:a", "pcm_s24le"),
        warnings=(W.QUIET,),
    ),
    Recording(
        "quiet by 48 dB with a click.wav",
        lambda b: b.filtered(
            "aevalsrc='0.9*sin(2*PI*700*t)*between(t,7.3,7.5)':s=16000:d=7.8[c];[0:a]volume=-48dB[v];[v][c]amix=normalize=0",
            "click.wav",
            *("-c:a", "pcm_s24le"),
        ),
        warnings=(W.QUIET,),
        accuracy=LOSSY,
    ),
    Recording(
        "a thousand times too loud.wav", lambda b: b.filtered("volume=60dB", "l.wav", "-c:a", "pcm_f32le")
    ),
    Recording("silence.flac", lambda b: b.filtered("volume=0", "s.flac"), (), warnings=(W.SILENT,)),
    Recording("one sample.wav", lambda b: wav(b"\x10\x20"), ()),
    Recording(
        "one sample, all of it.wav",
        lambda b: wav(b"\x10\x20"),
        (),
        options={"vad": "false"},
        may_warn=(W.QUIET,),
    ),
]

RAW = [
    Recording("16 bits.raw", lambda b: b.samples(), options={"format": "s16le"}),
    Recording(
        "mu-law.raw",
        lambda b: b.encode("m.raw", "-ar", "8000", "-f", "mulaw"),
        options={"format": "mulaw", "sample_rate": "8000"},
        accuracy=LOSSY,
    ),
    Recording(
        "two channels.raw",
        lambda b: b.encode("two.raw", "-ac", "2", "-ar", "48000", "-f", "s16be"),
        options={"format": "s16be", "sample_rate": "48000", "channel_count": "2"},
    ),
]


def _refused(name: str, content: bytes, says: str, error: ErrorCode = E.AUDIO_UNDECODABLE) -> Recording:
    return Recording(name, lambda _: content, (), error=error, says=says)


HOSTILE = [
    _refused("one hertz.wav", wav(bytes(200_000), rate=1), "1 Hz"),
    _refused("65,535 channels.wav", wav(bytes(131_070 * 2), channels=65_535, rate=100), "."),
    _refused("200 channels.wav", wav(bytes(400 * 2000), channels=200), "200 channels"),
    _refused("no samples.wav", wav(b""), "no sound", E.AUDIO_EMPTY),
    _refused("zeros", bytes(50_000), "only zeros"),
    _refused("picture.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(2000), "JPEG", E.AUDIO_NO_STREAM),
    _refused("page.html", b"<!DOCTYPE html><html><body>no</body></html>" * 50, "HTML"),
    _refused("book.pdf", b"%PDF-1.7\n" + bytes(range(256)) * 20, "PDF"),
    _refused("list.m3u8", b"#EXTM3U\n#EXTINF:9.4,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", "HLS playlist"),
    _refused("list.mpd", b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"/>', "DASH"),
    _refused("list.ffconcat", b"ffconcat version 1.0\nfile '/etc/passwd'\n", "list of files"),
    _refused("beginning only.webm", struct.pack(">I", 0x1A45DFA3) + bytes(106), "no format that is known"),
    Recording(
        "film without sound.mp4",
        lambda b: b.run("-f", "lavfi", "-i", "testsrc=s=64x64:r=5:d=1", "-c:v", "mpeg4", to="mute.mp4"),
        (),
        error=E.AUDIO_NO_STREAM,
        says="only video",
    ),
]
CATALOGUE = [
    *FORMATS,
    *TIMES,
    *SIZES,
    *TAGS,
    *PIPED,
    *ENDS,
    *DAMAGE,
    *CUT_BYTES,
    *CHANNELS,
    *TRACKS,
    *LEVEL,
    *RAW,
    *HOSTILE,
]
