"""What a candle is: batches of them as columns, when one is valid, which minutes are known."""
