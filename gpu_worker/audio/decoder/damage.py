"""Which damaged packets are damage, and which mean that the file was cut off there. Pure."""

LEFT_IN_PARSER = 1
"""Packets that still come whole behind one that was cut off: FFmpeg had them already."""


class Damage:
    """Counts the packets of one track, in their order."""

    def __init__(self) -> None:
        self._all = self._at_end = self._good_since = 0

    def good(self) -> None:
        """Count a packet that is whole."""
        self._good_since += 1
        if self._good_since > LEFT_IN_PARSER:
            self._at_end = 0

    def undecodable(self) -> None:
        """Count a packet, or a place in the container, that cannot be decoded."""
        self._all, self._at_end, self._good_since = self._all + 1, 1, 0

    def incomplete(self) -> None:
        """Count a packet of which FFmpeg could not read everything. Where a parser takes it apart, several follow each other."""
        at_end = 1 if self._good_since else self._at_end + 1
        self._all, self._at_end, self._good_since = self._all + 1, at_end, 0

    @property
    def any(self) -> bool:
        """Whether any packet is damaged."""
        return self._all > 0

    @property
    def inside(self) -> int:
        """How many damaged packets have whole ones behind them."""
        return self._all - self._at_end

    @property
    def at_end(self) -> bool:
        """Whether the last packet is damaged."""
        return self._at_end > 0
