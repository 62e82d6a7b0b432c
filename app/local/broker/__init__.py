"""A small Kafka broker in one process, without replication, whose topics are lost when it stops: `screener up` runs it
when it is given no Kafka.

It speaks the protocol versions that aiokafka (hence Faust) uses, with Apache Kafka's semantics for records,
offsets, consumer groups and retention; the tests run one contract on both. It has no transactions and no
idempotent producers, and knows one user, whose password comes unencrypted: production belongs on Apache Kafka.
"""
