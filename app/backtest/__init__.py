"""Rules tried on history: the pipeline's own matrix, rules and cooldowns over candles, without servers.

    backtest = Backtest(RuleBook.compile(rules, "close"))
    for batch in batches:                       # candles in order of time
        backtest.feed(batch)
    report = measure(backtest.entries, backtest.prices, backtest.awake_ms)

Pure: no files, no clock, no servers.
"""
