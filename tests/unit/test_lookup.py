"""Names are looked up beside each other: one that gets no answer holds up no other."""

import asyncio
import threading

import pytest

from gateway.outbound import lookup
from gateway.outbound.guard import Guard
from gateway.outbound.lookup import AT_ONCE, Lookup
from schemas.errors import ErrorCode, RequestError


class Resolver:
    """As a name server that says nothing about `slow...` until it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer = threading.Event()

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        if host.startswith("slow"):
            self.answer.wait(30)
        if host == "bad":
            raise UnicodeError("label empty or too long")
        return ["192.0.2.1"]


@pytest.fixture
def resolver() -> Resolver:
    return Resolver()


async def test_many_slow_names_hold_up_no_other(resolver: Resolver) -> None:
    names = Lookup(resolver)
    slow = [asyncio.ensure_future(names.addresses(f"slow{n}", 80)) for n in range(AT_ONCE - 1)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await names.addresses("fast", 80) == ["192.0.2.1"]
    assert not any(task.done() for task in slow)
    resolver.answer.set()
    await asyncio.gather(*slow)


async def test_a_name_is_looked_up_once_for_all_that_ask(resolver: Resolver) -> None:
    names = Lookup(resolver)
    asking = [asyncio.ensure_future(names.addresses("slow", 80)) for _ in range(5)]
    await asyncio.sleep(0)
    asking[0].cancel()
    resolver.answer.set()
    assert await asyncio.gather(*asking[1:]) == [["192.0.2.1"]] * 4
    assert resolver.asked == ["slow"]
    assert asking[0].cancelled()


async def test_the_number_of_threads_has_a_limit(resolver: Resolver) -> None:
    names = Lookup(resolver)
    slow = [asyncio.ensure_future(names.addresses(f"slow{n}", 80)) for n in range(AT_ONCE)]
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="other names"):
        await names.addresses("one more", 80)
    resolver.answer.set()
    await asyncio.gather(*slow)
    assert await names.addresses("one more", 80)


async def test_what_is_no_name_is_an_error_of_the_network(resolver: Resolver) -> None:
    with pytest.raises(OSError, match="label empty"):
        await Lookup(resolver).addresses("bad", 80)
    with pytest.raises(OSError, match=r"."):
        await Lookup(lookup.system_resolver).addresses("a..b", 80)
    with pytest.raises(OSError, match=r"."):
        await Lookup(lookup.system_resolver).addresses("a\0b", 80)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "2130706433", "0x7f.1", "127.1", "[::ffff:10.0.0.1]"])
async def test_an_address_is_refused_without_a_lookup(host: str, resolver: Resolver) -> None:
    with pytest.raises(RequestError) as refused:
        Guard([], Lookup(resolver)).check_address(f"http://{host}:80/")
    assert refused.value.code is ErrorCode.WEBHOOK_REFUSED
    assert resolver.asked == []


async def test_a_name_is_not_looked_up_for_its_registration(resolver: Resolver) -> None:
    Guard([], Lookup(resolver)).check_address("http://slow.example/")
    assert resolver.asked == []
