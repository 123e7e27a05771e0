"""Sends events with the CloudEvents SDK for Python and holds what was stored against them, by the SDK's own reader.

    python cloud_events.py URL STREAM

Each event goes in structured and in binary mode, and all of them go as one batch. Messages are stored as the Kafka
protocol binding has them, so that the SDK's reader for Kafka makes events of them again. Prints how many were compared.
"""

import base64
import datetime
import json
import sys

import requests
from cloudevents.core.bindings import http, kafka
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

TIME = datetime.datetime(2026, 1, 31, 12, 0, 0, 250000, tzinfo=datetime.timezone.utc)

EVENTS = [
    CloudEvent(
        {"type": "org.example.order", "source": "https://example.org/shop", "subject": "Euro € 😀 \"100%\"",
         "time": TIME, "datacontenttype": "application/json", "dataschema": "https://example.org/schema#1",
         "partitionkey": "customer ä 7", "attempt": "3"},
        {"total": 1.5, "lines": [1, 2, {"ä": None}]},
    ),
    CloudEvent({"type": "t", "source": "/a", "datacontenttype": "text/plain"}, "a text, 100% of it: ä 😀"),
    CloudEvent({"type": "t", "source": "urn:x:y", "datacontenttype": "image/png"}, b"\x89PNG\x00\xff"),
    CloudEvent({"type": "t", "source": "../relative?q=1#f", "datacontenttype": "application/xml"}, "<a b='c'/>"),
    CloudEvent({"type": "t", "source": "/nothing"}),
]


def send(url, headers, body):
    answer = requests.post(url, headers=headers, data=body, timeout=60)
    assert answer.status_code == 200, (answer.status_code, answer.text)
    return answer.json()["first_offset"]


def read(url, offset):
    """The message at an offset, as the SDK makes an event of it."""
    answer = requests.get(url, params={"from": offset, "limit": 1, "consistency": "strong"}, timeout=60)
    answer.raise_for_status()
    message = answer.json()["messages"][0]
    value = message["value"].encode() if "value" in message else base64.b64decode(message["value_base64"])
    headers = {name: text.encode() for name, text in message["headers"].items()}
    return kafka.from_binary(kafka.KafkaMessage(headers, message.get("key"), value), JSONFormat())


def check(stored, sent):
    assert stored.get_attributes() == sent.get_attributes(), (stored.get_attributes(), sent.get_attributes())
    assert stored.get_data() == sent.get_data(), (stored.get_data(), sent.get_data())


def main(base, stream):
    url = f"{base}/streams/{stream}/messages"
    compared = 0
    for event in EVENTS:
        for message in (http.to_structured_event(event), http.to_binary_event(event)):
            check(read(url, send(url, message.headers, message.body)), event)
            compared += 1
    # The SDK knows no batches: they are its events in a list.
    batch = b"[" + b",".join(JSONFormat().write(event) for event in EVENTS) + b"]"
    first = send(url, {"content-type": "application/cloudevents-batch+json; charset=utf-8"}, batch)
    for index, event in enumerate(EVENTS):
        check(read(url, first + index), event)
        compared += 1
    print(json.dumps({"compared": compared}))


main(*sys.argv[1:])
