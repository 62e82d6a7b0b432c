"""All durable stream state: Faust tables and how they are packed and restored."""
