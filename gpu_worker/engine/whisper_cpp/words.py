"""Tokens become words. Pure."""

import codecs

import msgspec

UNSPACED = frozenset({"zh", "ja", "yue", "th", "lo", "my", "km"})
"""Languages without spaces between words. There a word is as many tokens as make complete characters, as in OpenAI's own code."""


class Token(msgspec.Struct, frozen=True):
    """One text token of a segment. Times are seconds from the start of the joined pieces."""

    id: int
    piece: bytes
    """Its bytes, which may be a part of a character."""
    start: float
    end: float
    probability: float
    logprob: float


class Grouped(msgspec.Struct):
    """Tokens that are one word, and the text of each."""

    tokens: list[Token]
    pieces: list[str]

    @property
    def text(self) -> str:
        """The word."""
        return "".join(self.pieces)


class Speller:
    """Decodes the tokens of one call in order.

    whisper may split a character of several bytes over two segments; it then belongs to the second one.
    """

    def __init__(self, language: str) -> None:
        self._is_spaced = language not in UNSPACED
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def words(self, tokens: list[Token]) -> list[Grouped]:
        """Return the words of a segment. Joined they are its text; none is without a character to see, unless all of it is."""
        words: list[Grouped] = []
        is_whole = True
        for token in tokens:
            begins = token.piece.startswith(b" ") if self._is_spaced else is_whole
            text = self._decoder.decode(token.piece)
            if not words or (begins and words[-1].text.strip()):
                words.append(Grouped([], []))
            words[-1].tokens.append(token)
            words[-1].pieces.append(text)
            is_whole = not self._decoder.getstate()[0]
        if len(words) > 1 and not words[-1].text.strip():
            last = words.pop()
            words[-1].tokens += last.tokens
            words[-1].pieces += last.pieces
        return words
