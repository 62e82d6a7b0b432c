"""The language of rules: text to a typed tree."""
