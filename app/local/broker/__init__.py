"""A small Kafka broker whose topics end with it, one process, no replication: `screener up` runs it when it is given
none.

It speaks the protocol versions that aiokafka (hence Faust) uses, with Apache Kafka's semantics for records,
offsets, consumer groups and retention; the tests run one contract on both. It has no transactions and no
idempotent producers, and knows one user, whose password comes unencrypted: production belongs on Apache Kafka.
"""
