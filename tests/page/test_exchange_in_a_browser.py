"""A page of another origin is a client of the simulated exchange, as it would be of the real one."""

from __future__ import annotations

import pytest
from aiohttp import web
from playwright.async_api import Browser

from tests.support.sim_exchange import sim_exchange

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLIENT = """async base => {
    const get = async path => {
        const answer = await fetch(base + path, {headers: {'X-Client': 'page'}});
        return [answer.status, answer.headers.get('X-MBX-USED-WEIGHT-1M') !== null, await answer.json()];
    };
    const info = await get('/fapi/v1/exchangeInfo');
    const tickers = await get('/fapi/v1/ticker/24hr');
    const klines = await get('/fapi/v1/klines?symbol=BTCUSDT&interval=15m&limit=672');
    const refused = await get('/fapi/v1/klines?symbol=BTCUSDT&interval=7m');
    const commands = await fetch(base + '/sim/state').then(() => 'read', () => 'blocked');
    const socket = new WebSocket(base.replace('http', 'ws') + '/stream');
    await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = reject; });
    const answered = new Promise(resolve => { socket.onmessage = event => resolve(JSON.parse(event.data)); });
    socket.send(JSON.stringify({method: 'SUBSCRIBE', params: ['btcusdt@kline_1m', '!ticker@arr'], id: 1}));
    return {
        symbols: [info[0], info[1], info[2].symbols.length > 0],
        tickers: [tickers[0], tickers[1], tickers[2].length > 0],
        klines: [klines[0], klines[1], klines[2].length],
        refused: [refused[0], refused[1], refused[2].code],
        commands,
        subscribed: (await answered).id,
    };
}"""


async def test_a_page_of_another_origin_reads_rest_and_subscribes(browser: Browser) -> None:
    async def empty(_: web.Request) -> web.Response:
        return web.Response(text="<title>client</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", empty)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        async with sim_exchange(history_days=8) as exchange:
            page = await browser.new_page()
            await page.goto(f"http://127.0.0.1:{port}/")
            found = await page.evaluate(CLIENT, exchange.url)
            await page.close()
    finally:
        await runner.cleanup()
    assert found == {
        "symbols": [200, True, True],
        "tickers": [200, True, True],
        "klines": [200, True, 672],
        "refused": [400, True, -1120],
        "commands": "blocked",
        "subscribed": 1,
    }
