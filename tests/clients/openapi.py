"""Uses a client that openapi-python-client has made of the server's OpenAPI document.

arguments: the folder that it was made in, the server's URL
"""

import base64
import sys

sys.path.insert(0, sys.argv[1])

from message_vault_client import Client, models
from message_vault_client.api.messages import append_messages, read_messages
from message_vault_client.api.server import status
from message_vault_client.api.streams import (
    change_stream,
    create_stream,
    delete_stream,
    describe_stream,
    list_streams,
)

client = Client(base_url=sys.argv[2])

created = create_stream.sync_detailed("made-by-a-generated-client", client=client, body=models.SettingsPatch())
assert created.status_code == 201, created
assert created.parsed.name == "made-by-a-generated-client"
again = create_stream.sync_detailed("made-by-a-generated-client", client=client, body=models.SettingsPatch())
assert again.status_code == 200, again

headers = models.AppendMessageHeaders()
headers["by"] = "card"
messages = [
    models.AppendMessage(key="42", value="paid", headers=headers),
    models.AppendMessage(json={"total": 12.5}),
    models.AppendMessage(value_base64=base64.b64encode(b"\xff").decode()),
]
appended = append_messages.sync(created.parsed.name, client=client, body=models.AppendRequest(messages=messages))
assert isinstance(appended, models.AppendAnswer), appended
assert (appended.first_offset, appended.next_offset) == (0, 3), appended

read = read_messages.sync(created.parsed.name, client=client, limit=2)
assert [message.value for message in read.messages] == ["paid", '{"total":12.5}'], read
assert read.messages[0].headers["by"] == "card", read
assert (read.next_offset, read.end_offset) == (2, 3), read
rest = read_messages.sync(created.parsed.name, client=client, from_=str(read.next_offset))
assert base64.b64decode(rest.messages[0].value_base64) == b"\xff", rest

mismatch = append_messages.sync_detailed(
    created.parsed.name, client=client, body=models.AppendRequest(messages=messages), expected_offset=7
)
assert mismatch.status_code == 412, mismatch
assert isinstance(mismatch.parsed, models.Problem), mismatch
assert str(mismatch.parsed.code) == "offset_mismatch" and mismatch.parsed.next_offset == 3, mismatch

changed = change_stream.sync(created.parsed.name, client=client, body=models.SettingsPatch(segment_bytes=8 << 20))
assert changed.settings.segment_bytes == 8 << 20, changed
described = describe_stream.sync(created.parsed.name, client=client)
assert described.next_offset == 3 and described.settings.segment_bytes == 8 << 20, described
listed = list_streams.sync(client=client, prefix="made").streams
assert [(stream.name, stream.next_offset) for stream in listed] == [(created.parsed.name, 3)], listed
assert str(status.sync(client=client).role) == "leader"

gone = delete_stream.sync_detailed(created.parsed.name, client=client)
assert gone.status_code == 204, gone
missing = describe_stream.sync_detailed(created.parsed.name, client=client)
assert missing.status_code == 404 and str(missing.parsed.code) == "stream_not_found", missing
print("all is as it is described")
