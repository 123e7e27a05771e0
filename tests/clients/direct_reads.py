"""Reads a whole stream with azure-storage-blob, by the plan that the server gives.

    python direct_reads.py URL STREAM OTHER_STREAM DIRECTORY [CA]

Leaves the segments in DIRECTORY, as the file backend has them, and tries what the signature must not allow: to write,
to delete, to list, to read the container of OTHER_STREAM. CA is the file of the authority that signed the storage's
certificate. Prints what was found as JSON.
"""

import json
import os
import sys

import requests
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.storage.blob import BlobClient, ContainerClient

BLOCK = 4 << 20


def plan(base, stream, **parameters):
    answer = requests.get(f"{base}/streams/{stream}/access", params=parameters, timeout=60)
    answer.raise_for_status()
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


def pages(base, stream, live):
    """The plan, a few segments at a time."""
    page = plan(base, stream, live=live, limit=2)
    while page["segments"]:
        yield page
        page = plan(base, stream, live=live, limit=2, **{"from": page["next_offset"]})


def refused(action):
    try:
        action()
    except (ClientAuthenticationError, HttpResponseError) as error:
        return error.status_code == 403
    return False


def main(base, stream, other, directory, ca=None):
    # The SDK is newer than Azurite.
    options = {"api_version": "2022-11-02", **({"connection_verify": ca} if ca else {})}

    def blob(url, sas):
        return BlobClient.from_blob_url(f"{url}?{sas}", **options)

    found = []
    for page in pages(base, stream, "true"):
        assert len(page["segments"]) <= 2
        for segment in page["segments"]:
            client = blob(segment["url"], page["sas"])
            length = segment["end"] - segment["start"]
            bytes_read = client.download_blob(offset=segment["start"], length=length).readall()
            assert len(bytes_read) == length, (len(bytes_read), length)
            path = os.path.join(directory, segment["blob"])
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(bytes_read)
                # What is beyond the tail reads as zeros.
                file.truncate((length + BLOCK - 1) // BLOCK * BLOCK)
            found.append({key: segment[key] for key in ("first_offset", "next_offset", "end", "sealed")})

    last = plan(base, stream, live="true")
    url, sas = last["segments"][0]["url"], last["sas"]
    container = f"{last['container_url']}?{sas}"
    elsewhere = plan(base, other, live="true")["segments"][0]["url"]
    whole = plan(base, stream)
    print(json.dumps({
        "segments": found,
        "end_offset": last["end_offset"],
        "next_offset": last["next_offset"],
        "sealed_alone": [segment["sealed"] for segment in whole["segments"]],
        "sealed_until": whole["next_offset"],
        "expires": last["expires"],
        "sas": sas,
        "refused": {
            "write": refused(lambda: blob(url, sas).upload_page(b"x" * 512, offset=0, length=512)),
            "create": refused(lambda: blob(url + ".new", sas).upload_blob(b"x")),
            "delete": refused(lambda: blob(url, sas).delete_blob()),
            "metadata": refused(lambda: blob(url, sas).set_blob_metadata({"a": "b"})),
            "list": refused(lambda: list(ContainerClient.from_container_url(container, **options).list_blobs())),
            "other": refused(lambda: blob(elsewhere, sas).download_blob(offset=0, length=512).readall()),
            "nobody": refused(lambda: blob(url, "x=y").download_blob(offset=0, length=512).readall()),
        },
    }))


main(*sys.argv[1:])
