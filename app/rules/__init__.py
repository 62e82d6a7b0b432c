"""Rules: their language (LANGUAGE.md), their evaluation, and when a match becomes an alert.

    book = RuleBook.compile(shipped_rules(), default_mode="live")
    evaluator = Evaluator(book)                         # one per shard; remembers the minute before
    matches = evaluator.evaluate(batch)                 # every true condition, as (row, rule)
    decided = decide(matches, batch, book, last_fired)  # cooldowns; last_fired by `matches.keys(batch)`
    alerts = build_alerts(decided.fires, batch, evaluate_ts_ms=now_ms)

Text becomes a tree (`lexer`, `parser`, `tree`), the trees of a book become one NumPy program (`program`,
`bounds`, `rulebook`), the `evaluator` runs it, and the same tree explains a verdict (`explain`) and answers a query
(`screen`). Pure: no I/O, no clock.
"""
