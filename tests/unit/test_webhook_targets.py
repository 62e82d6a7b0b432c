"""Which URLs may be webhook targets: one case per range of addresses and per way to spell one."""

from __future__ import annotations

import pytest

from app.errors import BadWebhookTarget, SettingsError
from app.settings import Settings
from app.webhooks.targets.urls import AllowedHosts, check_webhook_url, webhook_url


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com:443/hook?key=1",
        "https://hooks.example.com:8443/a/b",
        "https://EXAMPLE.com./hook",
        "https://xn--bcher-kva.example/hook",
        "https://bücher.example/hook",
        "https://93.184.216.34/hook",
        "https://[2606:2800:220:1:248:1893:25c8:1946]/hook",
        "https://[64:ff9b::5db8:d822]/hook",
        "https://1e100.net/hook",
        "https://discord.com/api/webhooks/1/abc",
    ],
)
def test_a_public_https_url_is_accepted(url: str) -> None:
    check_webhook_url(url)


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("0.0.0.0", "this network"),
        ("0.1.2.3", "this network"),
        ("10.0.0.1", "private"),
        ("100.64.0.1", "carrier-grade NAT"),
        ("100.100.100.200", "carrier-grade NAT"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("168.63.129.16", "metadata"),
        ("169.254.169.254", "link-local"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.0.0.192", "protocol"),
        ("192.168.1.1", "private"),
        ("198.18.0.1", "benchmarking"),
        ("203.0.113.7", "documentation"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.250", "multicast"),
        ("255.255.255.255", "reserved"),
        ("[::]", "unspecified"),
        ("[::1]", "loopback"),
        ("[::ffff:127.0.0.1]", "IPv4-mapped"),
        ("[::ffff:93.184.216.34]", "IPv4-mapped"),
        ("[::127.0.0.1]", "not assigned"),
        ("[64:ff9b::127.0.0.1]", "NAT64 of loopback"),
        ("[64:ff9b::a9fe:a9fe]", "NAT64 of link-local"),
        ("[64:ff9b:1::7f00:1]", "local NAT64"),
        ("[2001::1]", "protocol"),
        ("[2001:db8::1]", "documentation"),
        ("[2002:7f00:1::]", "6to4"),
        ("[fc00::1]", "unique local"),
        ("[fd00:ec2::254]", "unique local"),
        ("[fe80::1]", "link-local"),
        ("[fec0::1]", "site-local"),
        ("[ff02::1]", "multicast"),
        ("[4000::1]", "not assigned"),
    ],
)
def test_an_address_that_is_not_public_is_refused_with_its_kind(address: str, what: str) -> None:
    with pytest.raises(BadWebhookTarget, match=what):
        check_webhook_url(f"https://{address}/hook")


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0X7F.0.0.1",
        "017700000001",
        "0177.0.0.1",
        "127.1",
        "127.0.0.0x1",
        "127.0.0.01",
        "127.0.0.1.",
        "127.0.0.1.1",
        "①②⑦.⓪.⓪.①",
        "１２７.0.0.1",
        "127。0。0。1",
        "%31%32%37.0.0.1",
        "[fe80::1%25eth0]",
        "[::ffff:7f00:1]",
    ],
)
def test_an_address_spelled_in_an_odd_way_is_refused(host: str) -> None:
    with pytest.raises(BadWebhookTarget):
        check_webhook_url(f"https://{host}/hook")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/hook",
        "//example.com/hook",
        "https:///hook",
        "https://",
        "http://example.com/hook",
        "ftp://example.com/hook",
        "file:///etc/passwd",
        "gopher://example.com:443/",
        "https://example.com:80/hook",
        "https://example.com:22/hook",
        "https://example.com:99999/hook",
        "https://example.com:x/hook",
        "https://user@example.com/hook",
        "https://user:password@example.com/hook",
        "https://:password@example.com/hook",
        "https://example.com@127.0.0.1/hook",
        "https://example.com\\@127.0.0.1/hook",
        "https://example.com/ hook",
        "https://example.com/\r\nHost: other",
        "https://exa\tmple.com/",
        " https://example.com/",
        "https://[::1/hook",
        "https://[127.0.0.1]/hook",
        "https://localhost/hook",
        "https://LOCALHOST./hook",
        "https://api.localhost/hook",
        "https://printer.local/hook",
        "https://metadata.google.internal/hook",
        "https://router.home.arpa/hook",
        "https://redis/hook",
        "https://exa$mple.com/hook",
        "https://-example.com/hook",
        f"https://{'a' * 64}.com/hook",
        f"https://example.com/{'a' * 2048}",
    ],
)
def test_a_url_of_another_form_scheme_port_or_host_is_refused(url: str) -> None:
    with pytest.raises(BadWebhookTarget):
        check_webhook_url(url)


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("https://example.com/hush#part", "fragment"),
        ("https://example.com/hush#", "fragment"),
        ("https://ann:hush@example.com/hook", "user name"),
        ("https://@example.com/hook", "user name"),
        ("https://example.com:9443/hush", "port"),
        ("http://example.com/hush", "https"),
    ],
)
def test_what_cannot_be_passed_on_is_refused_by_its_name(url: str, named: str) -> None:
    with pytest.raises(BadWebhookTarget, match=named) as caught:
        check_webhook_url(url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a/../b//c/%7e%2F?x=%2f&empty=&=&y=a+b&z=%20&q",
        "https://example.com/a;b=1,(c)!$'*@:",
    ],
)
def test_a_url_is_passed_on_byte_for_byte(url: str) -> None:
    check_webhook_url(url)
    assert str(webhook_url(url)) == url


def test_what_is_no_character_of_urls_is_passed_on_encoded() -> None:
    given = "https://bücher.example/grüße?wer={alle}"
    check_webhook_url(given)
    assert str(webhook_url(given)) == "https://xn--bcher-kva.example/gr%C3%BC%C3%9Fe?wer=%7Balle%7D"


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1/hush", "http://example.com/hush", "https://example.com:1/hush", "https://[::1/hush"],
)
def test_the_refusal_does_not_repeat_the_url(url: str) -> None:
    with pytest.raises(BadWebhookTarget) as caught:
        check_webhook_url(url)
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None


def allowing(hosts: str) -> AllowedHosts:
    return AllowedHosts.of(Settings.load({"SCREENER_WEBHOOK_ALLOWED_HOSTS": hosts}).webhook_allowed_hosts)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.internal:9000/a",
        "https://HOOKS.internal./a",
        "http://10.1.2.3/a",
        "http://127.0.0.1:12345/",
        "http://[fd00::7]/a",
    ],
)
def test_what_operators_allow_may_be_private_and_plain_and_at_any_port(url: str) -> None:
    check_webhook_url(url, allowing("hooks.internal, 10.1.0.0/16, 127.0.0.1, fd00::/8"))


@pytest.mark.parametrize(
    "url",
    [
        "http://sub.hooks.internal/a",
        "https://hooks.internal.evil.internal/a",
        "http://10.2.0.1/a",
        "http://example.com/a",
        "https://example.com:9000/a",
        "ftp://hooks.internal/a",
        "http://user:password@hooks.internal/a",
    ],
)
def test_allowing_some_hosts_opens_no_others(url: str) -> None:
    with pytest.raises(BadWebhookTarget):
        check_webhook_url(url, allowing("hooks.internal, 10.1.0.0/16"))


@pytest.mark.parametrize(
    "entry", ["*", "10.1.2.3/16", "https://hooks.internal", "Hooks.internal", "10.0.0.256", "a b"]
)
def test_a_bad_entry_of_the_allowed_hosts_is_refused(entry: str) -> None:
    with pytest.raises(SettingsError, match="SCREENER_WEBHOOK_ALLOWED_HOSTS"):
        Settings.load({"SCREENER_WEBHOOK_ALLOWED_HOSTS": entry})
