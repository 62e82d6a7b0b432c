"""A small Kafka broker in memory, one process, no replication: what `screener up` runs when it is given none.

It speaks the protocol versions that aiokafka (hence Faust) uses, with Apache Kafka's semantics for records,
offsets, consumer groups and retention; the tests run one contract on both. It has no transactions, no
idempotent producers, no compaction and no security: production belongs on Apache Kafka.
"""
