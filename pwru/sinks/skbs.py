"""The texts of what repeats from event to event, and which skbs are on their way."""

from collections.abc import Callable

from pwru.record.memo import CACHE_LIMIT, Memo, put_last

SKB_LIMIT = 1 << 18  # the skbs that are known to be on their way, at most: 25 MB


def ignore(skb: int) -> None:
    """Nobody has to forget anything."""


class Skbs(Memo[int, str]):
    """The text of each skb. Counts packets: an address counts again once its skb has come to its end.

    The functions that release an skb still have it after its end. Beyond SKB_LIMIT the skb that was not seen for
    longest is forgotten; it counts again if it is seen after all.
    """

    def __init__(self, make: Callable[[int], str], begin: str = "", forget: Callable[[int], None] = ignore) -> None:
        """`begin` precedes the text at the first event of a packet, where `forget` is called with the address."""
        super().__init__(make)
        self._begin = begin
        self._forget = forget
        self._on_their_way: dict[int, None] = {}
        self._ended: dict[int, None] = {}
        self.count = 0
        self.begun: list[int] = []  # the skbs of the last packets, until somebody clears it

    def __missing__(self, skb: int) -> str:
        text = self._make(skb)
        if len(self) >= CACHE_LIMIT:
            self.clear()
        self[skb] = text
        on_their_way = self._on_their_way
        if skb in on_their_way:
            put_last(on_their_way, skb, SKB_LIMIT)
            return text
        self._ended.pop(skb, None)
        put_last(on_their_way, skb, SKB_LIMIT)
        self.count += 1
        self.begun.append(skb)
        self._forget(skb)
        return self._begin + text

    def released(self, skb: int, *, ends: bool, after: bool) -> str:
        """Return the text in a function that releases the skb: its packet `ends` there, unless `after` its end."""
        if after and skb in self._ended:
            return self._make(skb)
        text = self[skb]
        if ends:
            del self[skb]
            self._on_their_way.pop(skb, None)
            put_last(self._ended, skb, CACHE_LIMIT)
        return text

    def leave(self, skb: int) -> bool:
        """Tell that the packet at this address is not among these any longer; return whether it was."""
        was = skb in self._on_their_way
        for skbs in (self, self._ended, self._on_their_way):
            skbs.pop(skb, None)
        return was

    def end(self, skb: int) -> None:
        """Tell that an skb which is not among these has come to its end."""
        put_last(self._ended, skb, CACHE_LIMIT)
