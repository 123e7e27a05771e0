#!/usr/bin/env python3
"""Carries a stream of Message Vault into a topic of Apache Kafka: each message once, in order. See docs/kafka.md.

    carry.py --topic orders --create
    mvctl read orders --from "$(carry.py --topic orders --next-offset)" --follow --parts --json | carry.py --topic orders

Reads messages as lines of JSON, as a server answers them to `Accept: application/x-ndjson`. Keys, values, headers and
timestamps are kept. Each record has the headers `message-vault-offset`, `message-vault-id` and, where a message has
attributes, `message-vault-attributes`. How far the stream is carried stands in the topic itself, in the last of them.

Ends with 0 at the end of the input and after SIGTERM or SIGINT, with everything stored that it took; 1: something
failed, start it again; 2: wrong arguments; 3: the input or the topic is not what it must be, and somebody has to look
at it; 4: another carrier has taken over the topic.
"""

import argparse
import base64
import binascii
import contextlib
import json
import os
import select
import signal
import sys
import time

try:
    from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType
except ImportError:
    sys.exit("carry.py: the package confluent-kafka is missing: 'pip install confluent-kafka'")

OFFSET = "message-vault-offset"
ID = "message-vault-id"
ATTRIBUTES = "message-vault-attributes"

FAILED, REFUSED, TAKEN_OVER = 1, 3, 4
# A value of 2 MiB, a key and headers.
RECORD_BYTES = 3 << 20
# The same where each byte is written as \u0000.
LINE_BYTES = 6 * RECORD_BYTES
READ_BYTES = 1 << 18
# How long Kafka may take for an answer, in seconds.
PATIENCE = 30
FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}
# What Kafka refuses for what the message is. It would do so again.
LASTING = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.INVALID_RECORD,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}


class Trouble(Exception):
    """What ends the carrier, and its exit code."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


def trouble_of(error, doing):
    """The trouble that an error of Kafka is."""
    error = error.args[0] if isinstance(error, KafkaException) else error
    if error.code() in FENCED:
        return Trouble(TAKEN_OVER, "another carrier has taken over the topic")
    return Trouble(REFUSED if error.code() in LASTING else FAILED, f"{doing}: {error.str()}")


def log(text):
    print(f"carry.py: {text}", file=sys.stderr, flush=True)


# --- messages


class Message:
    """A message, as it becomes a record."""

    def __init__(self, line):
        fields = json.loads(line)
        if not isinstance(fields, dict):
            raise ValueError("this is no object")
        self.offset = number(fields, "offset")
        self.timestamp = number(fields, "timestamp")
        if self.timestamp == 0:
            raise ValueError("a timestamp of 0 would become the present time")
        self.id = fields.get("id")
        self.key = data(fields, "key")
        self.value = data(fields, "value")
        if self.value is None:
            raise ValueError("there is no value")
        headers = fields.get("headers", {})
        if not isinstance(headers, dict):
            raise ValueError("headers are an object")
        # Ours are the last ones, which count where a message has headers of these names.
        self.headers = [(name, value.encode()) for name, value in headers.items()]
        self.headers.append((OFFSET, str(self.offset).encode()))
        if self.id is not None:
            self.headers.append((ID, self.id.encode()))
        if "attributes" in fields:
            self.headers.append((ATTRIBUTES, str(number(fields, "attributes")).encode()))
        self.bytes = len(self.value) + len(self.key or b"") + sum(len(n) + len(v) for n, v in self.headers)


def number(fields, name):
    value = fields.get(name)
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError(f"{name} is no number of 63 bits")
    return value


def data(fields, name):
    """Text or base64 as bytes, or None."""
    if name in fields:
        return fields[name].encode()
    encoded = fields.get(f"{name}_base64")
    return None if encoded is None else base64.b64decode(encoded, validate=True)


class Lines:
    """Whole lines of the standard input, no more than a few in memory, and waits for them that have an end."""

    def __init__(self, wake):
        self.wake = wake
        self.rest = bytearray()
        self.searched = 0
        self.ended = False

    def next(self, until):
        """A line; None where there is none before `until` (None: for ever), or none any more, or a signal came."""
        while True:
            end = self.rest.find(b"\n", self.searched)
            if end >= 0:
                line = bytes(self.rest[:end])
                del self.rest[: end + 1]
                self.searched = 0
                return line
            self.searched = len(self.rest)
            if self.searched > LINE_BYTES:
                raise Trouble(REFUSED, "a line is longer than any message: this is not a stream of Message Vault")
            wait = None if until is None else max(0, until - time.monotonic())
            ready, _, _ = select.select([0, self.wake], [], [], wait)
            if 0 not in ready or self.wake in ready:
                return None
            chunk = os.read(0, READ_BYTES)
            if not chunk:
                self.ended = True
                return None
            self.rest += chunk


# --- the topic


class Topic:
    """A topic that is there: its partitions, and how far it holds the stream."""

    def __init__(self, options):
        self.name = options.topic
        self.start_at = options.start_at
        self.consumer = Consumer(
            {
                # No group is joined and nothing is committed, but the library wants a name.
                "group.id": f"message-vault-{options.topic}",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "allow.auto.create.topics": False,
                # The end is to be found, and nothing to be waited for.
                "fetch.wait.max.ms": 10,
                "queued.max.messages.kbytes": 16 << 10,
                **common(options),
            }
        )
        found = self.consumer.list_topics(self.name, timeout=PATIENCE).topics[self.name]
        if found.error is not None:
            if found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                how = f"carry.py --topic {self.name} --create"
                raise Trouble(REFUSED, f"there is no topic {self.name}: make it with '{how}'")
            raise trouble_of(found.error, f"looking for the topic {self.name}")
        self.partitions = sorted(found.partitions)

    def close(self):
        self.consumer.close()

    def last(self):
        """The last message carried: its offset and id. None where nothing was carried yet."""
        newest, emptied = None, False
        for partition in self.partitions:
            where = TopicPartition(self.name, partition)
            # With read_committed this is the end of what is committed.
            low, high = self.consumer.get_watermark_offsets(where, timeout=PATIENCE)
            record, back = None, 2
            while record is None and low < high:
                start = max(low, high - back)
                record = self.last_record_from(partition, start)
                if start == low:
                    break
                # Marks of transactions and records of transactions that were given up are all that is there.
                back *= 8
            if record is None:
                # Transactions that were given up leave the first offset at 0.
                emptied = emptied or low > 0
                continue
            place = place_of(record)
            if newest is None or place[0] > newest[0]:
                newest = place
        if newest is None and emptied and self.start_at is None:
            raise Trouble(
                REFUSED,
                f"the topic {self.name} had records and holds none any more, so that nobody knows how far it was "
                "carried: tell it with --start-at OFFSET, the first offset that is not carried yet",
            )
        return newest

    def expected(self, last):
        """The offset that comes next."""
        return (self.start_at or 0) if last is None else last[0] + 1

    def last_record_from(self, partition, start):
        self.consumer.assign([TopicPartition(self.name, partition, start)])
        last = None
        until = time.monotonic() + PATIENCE
        while True:
            record = self.consumer.poll(max(0, until - time.monotonic()))
            if record is None:
                raise Trouble(FAILED, f"Kafka did not answer for {PATIENCE} s")
            if record.error() is None:
                last = record
                until = time.monotonic() + PATIENCE
            elif record.error().code() == KafkaError._PARTITION_EOF:
                self.consumer.unassign()
                return last
            elif not record.error().retriable():
                raise trouble_of(record.error(), "reading what was carried")


def place_of(record):
    headers = dict(record.headers() or [])
    try:
        offset = int(headers[OFFSET])
    except (KeyError, ValueError):
        raise Trouble(
            REFUSED,
            f"the last record of partition {record.partition()} has no header {OFFSET}: "
            "somebody else writes to the topic",
        ) from None
    identity = headers.get(ID)
    return offset, None if identity is None else identity.decode(errors="replace")


def common(options):
    given = dict(pair.split("=", 1) for pair in options.set)
    return {
        "bootstrap.servers": options.brokers,
        "client.id": "message-vault-carry",
        "reconnect.backoff.ms": 1000,
        # Errors.
        "log_level": 3,
        "error_cb": lambda error: log(error.str()),
        **given,
    }


def create(options):
    admin = AdminClient(common(options))
    settings = {
        "message.timestamp.type": "CreateTime",
        "max.message.bytes": str(RECORD_BYTES + (1 << 20)),
        # How far the stream is carried stands in the last record. Whoever shortens this must leave that one.
        "retention.ms": "-1",
    }
    wanted = NewTopic(options.topic, options.partitions, options.replicas, config=settings)
    try:
        admin.create_topics([wanted], request_timeout=PATIENCE)[options.topic].result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
        log(f"the topic {options.topic} is there already, and stays as it is")


def check_timestamps(options):
    """Refuses a topic that would stamp records with its own clock."""
    resource = ConfigResource(ResourceType.TOPIC, options.topic)
    # It must live until there is an answer.
    admin = AdminClient(common(options))
    answer = admin.describe_configs([resource], request_timeout=PATIENCE)
    if answer[resource].result()["message.timestamp.type"].value != "CreateTime":
        wanted = "message.timestamp.type=CreateTime"
        raise Trouble(REFUSED, f"the topic {options.topic} has not {wanted}: timestamps would be lost")


# --- carrying


class Carrier:
    """Writes messages in transactions. What is not committed is never seen by who reads what is committed."""

    def __init__(self, options):
        self.options = options
        self.refused = None
        self.producer = Producer(
            {
                # Whoever starts with the same name fences off those before, and ends their transaction.
                "transactional.id": f"message-vault-{options.topic}",
                "transaction.timeout.ms": 60_000,
                "message.max.bytes": RECORD_BYTES + (1 << 20),
                # As Java's producers place keys. Without a key all go into one partition, so that they stay in order.
                "partitioner": "murmur2",
                **common(options),
            }
        )
        self.messages = 0
        self.bytes = 0
        self.until = None
        self.newest = None

    def delivered(self, error, offset):
        # What was in line behind a message that was not taken is not sent either.
        if error is not None and self.refused is None and error.code() != KafkaError._PURGE_QUEUE:
            self.refused = (error, f"Kafka did not take the message with offset {offset}")

    def begin_alone(self):
        self.insist(self.producer.init_transactions, "taking over the topic")

    def insist(self, call, doing):
        """Calls again while Kafka says that this may help, for a bounded time."""
        until = time.monotonic() + 2 * PATIENCE
        while True:
            try:
                return call(PATIENCE)
            except KafkaException as error:
                if error.args[0].code() in FENCED or not error.args[0].retriable() or time.monotonic() > until:
                    if self.refused is not None:
                        raise trouble_of(*self.refused) from error
                    raise trouble_of(error, doing) from error

    def put(self, message):
        if self.messages == 0:
            try:
                self.producer.begin_transaction()
            except KafkaException as error:
                raise trouble_of(error, "beginning a transaction") from error
            self.until = time.monotonic() + self.options.transaction_ms / 1000
        while True:
            try:
                self.producer.produce(
                    self.options.topic,
                    key=message.key,
                    value=message.value,
                    headers=message.headers,
                    timestamp=message.timestamp,
                    on_delivery=lambda error, _, offset=message.offset: self.delivered(error, offset),
                )
                break
            except BufferError:
                self.producer.poll(1)
            except KafkaException as error:
                if self.refused is not None:
                    raise trouble_of(*self.refused) from error
                raise trouble_of(error, f"Kafka did not take the message with offset {message.offset}") from error
        self.producer.poll(0)
        self.messages += 1
        self.bytes += message.bytes
        self.newest = message.offset
        if self.messages >= self.options.transaction_messages or self.bytes >= self.options.transaction_bytes:
            self.commit()

    def commit_if_due(self):
        if self.messages > 0 and time.monotonic() >= self.until:
            self.commit()

    def commit(self):
        if self.messages > 0:
            # All are flushed first, and one that was not taken fails it.
            self.insist(self.producer.commit_transaction, "storing messages")
            self.messages, self.bytes, self.until = 0, 0, None
            if self.options.progress:
                log(f"carried to {self.newest + 1}")

    def give_up(self):
        """Leaves nothing open, as far as that is still possible: who reads would wait for its end."""
        if self.messages > 0:
            # Else the next carrier, or the transaction's timeout, does it.
            with contextlib.suppress(KafkaException):
                self.producer.abort_transaction(PATIENCE)


def carry(options):
    wake, wakes = os.pipe()
    for end in wake, wakes:
        os.set_blocking(end, False)
    asked = []
    for number_of in signal.SIGTERM, signal.SIGINT:
        signal.signal(number_of, lambda *_: (asked.append(True), os.write(wakes, b"!")))

    topic = Topic(options)
    check_timestamps(options)
    carrier = Carrier(options)
    # First nobody else may write, then what is there is looked at.
    carrier.begin_alone()
    last = topic.last()
    expected = topic.expected(last)
    topic.close()
    if options.progress:
        log(f"carried to {expected}")

    lines = Lines(wake)
    try:
        while not asked:
            line = lines.next(carrier.until)
            if line is None and lines.ended:
                break
            if line:
                message = parse(line, expected)
                check(message, expected, last)
                if message.offset == expected:
                    carrier.put(message)
                    expected += 1
            carrier.commit_if_due()
        carrier.commit()
    except BaseException:
        carrier.give_up()
        raise
    if lines.ended and lines.rest:
        raise Trouble(FAILED, f"the input broke off within a line; what came before is carried, to {expected}")


def check(message, expected, last):
    """Refuses a message that would leave a gap, or that is another than the one carried last, which has its offset."""
    if message.offset > expected:
        raise Trouble(REFUSED, f"the next message has the offset {message.offset}, not {expected}: some are missing")
    if last is not None and message.offset == last[0] and None not in (message.id, last[1]) and message.id != last[1]:
        raise Trouble(
            REFUSED,
            f"the message with offset {message.offset} is another than the one in the topic: this is another stream",
        )


def parse(line, expected):
    try:
        return Message(line)
    except (ValueError, AttributeError, TypeError, binascii.Error, RecursionError) as error:
        text = f"a line is no message ({error}), where offset {expected} comes next: {line[:100]!r}"
        raise Trouble(REFUSED, text) from error


def next_offset(options):
    topic = Topic(options)
    try:
        return topic.expected(topic.last())
    finally:
        topic.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--topic", required=True)
    add("--brokers", default="localhost:9092", metavar="HOST:PORT,...", help="where Kafka is (default: %(default)s)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of librdkafka; several times too")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--next-offset", action="store_true", help="print the offset to go on with, and end")
    action.add_argument("--create", action="store_true", help="make the topic, and end")
    add("--partitions", type=at_least(1), default=1, metavar="N", help="of a topic that is made (default: 1)")
    add("--replicas", type=at_least(1), default=-1, metavar="N", help="of a topic that is made (default: the brokers')")
    add("--start-at", type=at_least(0), metavar="OFFSET", help="where to begin while the topic is empty (default: 0)")
    limit = {"type": at_least(1), "metavar": "N"}
    add("--transaction-messages", **limit, default=1000, help="in a transaction at most (default: %(default)s)")
    add("--transaction-bytes", **limit, default=4 << 20, help="in a transaction, about (default: %(default)s)")
    add("--transaction-ms", **limit, default=200, help="that a transaction is kept open (default: %(default)s)")
    add("--progress", action="store_true", help="say how far it is, at the start and after each transaction")
    options = parser.parse_args()
    if bad := [pair for pair in options.set if "=" not in pair]:
        parser.error(f"--set {bad[0]}: this is not NAME=VALUE")
    try:
        if options.create:
            create(options)
        elif options.next_offset:
            print(next_offset(options))
        else:
            carry(options)
    except Trouble as trouble:
        log(trouble)
        return trouble.code
    except KafkaException as error:
        trouble = trouble_of(error, "Kafka")
        log(trouble)
        return trouble.code
    return 0


def at_least(least):
    def convert(text):
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"at least {least}")
        return value

    return convert


if __name__ == "__main__":
    sys.exit(main())
