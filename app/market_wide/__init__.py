"""The role `market`: rules that look at all symbols. It seals each closed minute and evaluates them on it."""
