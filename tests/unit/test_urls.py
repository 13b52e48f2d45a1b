"""Which webhook URLs are taken, and what of them is shown."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from process.listening import place
from schemas.urls import (
    UNREADABLE,
    basic_credentials,
    host_and_port,
    host_header,
    is_http_url,
    shown,
    without_credentials,
)

GOOD = [
    "http://example.com", "https://example.com./hook", "http://a_b-c.example:1/", "http://localhost:65535/x?y=z",
    "http://127.0.0.1/", "http://2130706433/", "http://[::1]:8080/", "http://[::ffff:10.0.0.1]/", "http://xn--bcher-kva.example/",
    "HTTP://EXAMPLE.com/", f"http://{'a' * 63}.example/", "http://u:p@example.com/", "http://example.com:/",
]  # fmt: skip
BAD = [
    "", "http://", "http:///x", "ftp://example.com/", "example.com", "//example.com/", "javascript:alert(1)",
    "http://a..b/", "http://.example.com/", "http://./", f"http://{'a' * 64}/", f"http://{'a.' * 127}b/",
    "http://-a.example/", "http://a-.example/", "http://exa mple/", "http://a\x00b/", "http://a/\n", "http://b\u00fccher.example/",
    "http://a:0/", "http://a:65536/", "http://a:-1/", "http://a:x/", "http://a:\u0661/", "http://[zz]/", "http://[::1/",
    "http://[v1.x]/", "http://[fe80::1%25eth0]/", "http://a%00b/", "http://*/", "http://a$b/", "http://?/", "http://@/",
]  # fmt: skip


@pytest.mark.parametrize("url", GOOD)
def test_taken(url: str) -> None:
    assert is_http_url(url)
    assert host_and_port(url)


@pytest.mark.parametrize("url", BAD)
def test_refused(url: str) -> None:
    assert not is_http_url(url)
    assert (host_and_port(url), shown(url)) == ("", UNREADABLE)


@given(st.text(st.characters(codec="ascii"), max_size=80))
def test_what_is_taken_can_be_encoded_for_the_resolver(host: str) -> None:
    """Python's resolver raises UnicodeError, which is no OSError, for what is no name."""
    if is_http_url(f"http://{host}/"):
        name = host_and_port(f"http://{host}/").rpartition(":")[0] or host_and_port(f"http://{host}/")
        name.strip("[]").encode("idna")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "https://user:secret@Example.com:8443/hook/a?token=secret#secret",
            "https://example.com:8443/hook/a",
        ),
        ("http://secret@[::1]:1/", "http://[::1]:1/"),
        ("http://a@secret@b/x", "http://b/x"),
        ("http://example.com?secret", "http://example.com"),
    ],
)
def test_secrets_are_not_shown(url: str, expected: str) -> None:
    assert shown(url) == expected


def test_what_this_is_about() -> None:
    with pytest.raises(UnicodeError):
        socket.getaddrinfo("a..b", 80)


@pytest.mark.parametrize(
    ("url", "host", "pair", "without"),
    [
        ("http://[::1]:9000/a?b#c", "[::1]:9000", None, "http://[::1]:9000/a?b#c"),
        ("http://u:p@[::1]:80/", "[::1]", b"u:p", "http://[::1]:80/"),
        ("https://U:p%40%ff@Ex.com:443/x?y", "ex.com", b"U:p@\xff", "https://Ex.com:443/x?y"),
        ("http://u@h:443", "h:443", b"u:", "http://h:443"),
        ("http://:p@h:8080", "h:8080", b":p", "http://h:8080"),
        ("http://a:b:c@d@h:80/", "h", b"a:b:c@d", "http://h:80/"),
        ("http://h/a@b?c@d", "h", None, "http://h/a@b?c@d"),
    ],
)
def test_what_a_request_has_of_its_url(url: str, host: str, pair: bytes | None, without: str) -> None:
    assert is_http_url(url)
    assert (host_header(url), basic_credentials(url), without_credentials(url)) == (host, pair, without)


def test_places_are_written_as_in_urls() -> None:
    assert place("127.0.0.1", 1) == "127.0.0.1:1"
    assert place("::1", 1) == place("[::1]", 1) == "[::1]:1"
    assert place("localhost", 1) == "localhost:1"
