"""Rules tried on history: the pipeline's own matrix, rules and cooldowns over candles, without servers.

    backtest = Backtest(RuleBook.compile(rules, "close"))
    returns = ForwardReturns()
    for batch in batches:                       # candles in order of time
        returns.take(backtest.feed(batch))
    report = Report.of(backtest, returns, "close")

Pure: no files, no clock, no servers.
"""
