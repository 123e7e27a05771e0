"""Reads a topic of Apache Kafka from its beginning to its end.

    python kafka_records.py BROKER TOPIC read_committed|read_uncommitted

Prints the records as a JSON list, those of each partition in their order.
"""

import base64
import json
import sys

from confluent_kafka import TIMESTAMP_CREATE_TIME, Consumer, KafkaError, TopicPartition


def encoded(data):
    return None if data is None else base64.b64encode(data).decode()


def main(broker, topic, level):
    consumer = Consumer(
        {
            "bootstrap.servers": broker,
            "group.id": "reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": level,
            "check.crcs": True,
            "fetch.wait.max.ms": 10,
        }
    )
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    records = []
    open_partitions = set(partitions)
    while open_partitions:
        record = consumer.poll(30)
        assert record is not None, "Kafka does not answer"
        if record.error() is not None:
            assert record.error().code() == KafkaError._PARTITION_EOF, record.error()
            open_partitions.discard(record.partition())
            continue
        kind, timestamp = record.timestamp()
        assert kind == TIMESTAMP_CREATE_TIME, kind
        records.append(
            {
                "partition": record.partition(),
                "timestamp": timestamp,
                "key": encoded(record.key()),
                "value": encoded(record.value()),
                "headers": [[name, encoded(value)] for name, value in record.headers() or []],
            }
        )
    consumer.close()
    json.dump(records, sys.stdout)


main(*sys.argv[1:])
