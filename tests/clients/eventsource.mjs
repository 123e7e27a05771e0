// Follows a stream with the package `eventsource` and prints a line for all that it is given.
//
// usage: node eventsource.mjs CLIENTS TARGET LAST CUTS ADDRESS...
//
// CLIENTS is where tests/install-clients has put the package. Every connection goes to the next address in turn. The
// first CUTS connections are cut off somewhere in the middle of what they carry. Ends with the message whose value is
// LAST.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [clients, target, last, cuts, ...addresses] = process.argv.slice(2);
const found = createRequire(pathToFileURL(`${clients}/package.json`)).resolve("eventsource");
const { EventSource } = await import(pathToFileURL(found));

let connections = 0;
const say = (...words) => process.stdout.write(`${words.join(" ")}\n`);

// A body that breaks off after so many bytes.
function cutAfter(body, bytes) {
  const reader = body.getReader();
  let left = bytes;
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await reader.read();
      if (done) return controller.close();
      const part = value.subarray(0, left);
      left -= part.length;
      if (part.length > 0) controller.enqueue(part);
      if (left === 0) {
        await reader.cancel();
        controller.error(new TypeError("cut off"));
      }
    },
    cancel: (reason) => reader.cancel(reason),
  });
}

async function fetchFromTheNext(url, init) {
  const number = connections++;
  const address = addresses[number % addresses.length];
  const response = await fetch(new URL(url.pathname + url.search, `http://${address}`), init);
  say("connection", number, address, response.status, init.headers["Last-Event-ID"] ?? "-");
  // By the standard any status but 200 ends it for good. Whoever changes servers tries the next one.
  if (response.status >= 500) throw new TypeError(`status ${response.status}`);
  const { status, headers, redirected } = response;
  const cut = number < Number(cuts);
  const body = cut ? cutAfter(response.body, 700 + ((number * 7919) % 5000)) : response.body;
  return { url: response.url, status, headers, redirected, body };
}

const source = new EventSource(`http://${addresses[0]}${target}`, { fetch: fetchFromTheNext });
source.onmessage = (event) => {
  const { offset, value } = JSON.parse(event.data);
  say("message", event.lastEventId, offset, value);
  if (value === last) process.exit(0);
};
source.addEventListener("caught-up", (event) => say("caught-up", event.lastEventId, event.data));
source.addEventListener("ping", (event) => say("ping", event.lastEventId, event.data));
source.addEventListener("error", (event) => {
  say("error", event.data ?? event.message ?? "the connection ended");
  if (source.readyState === EventSource.CLOSED) process.exit(1);
});
