//! What the answer to a strong read says.

use http::HeaderMap;

use super::{Placed, Read};
use crate::message;

impl Read {
    /// With what was answered to a strong read that asked for lines: the messages, their ids taken out of the values, and
    /// where the headers say that the answer and the stream end.
    #[must_use]
    pub fn answered(self, headers: &HeaderMap, body: &[u8], id_of: impl Fn(&[u8]) -> String) -> Self {
        let offset = |name: &str| headers.get(name)?.to_str().ok()?.parse().ok();
        let placed = |stored: message::Stored| Placed {
            offset: stored.offset,
            timestamp: stored.timestamp,
            id: id_of(&stored.message.value),
        };
        Self {
            messages: message::from_ndjson(body).into_iter().map(placed).collect(),
            up_to: offset("message-vault-next-offset"),
            end_offset: offset("message-vault-end-offset"),
            strong: true,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_came_and_where_it_and_the_stream_end() {
        let headers = [("message-vault-next-offset", "8"), ("message-vault-end-offset", "9")];
        let headers = headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let body = br#"{"offset":7,"timestamp":5,"value":"a xx"}"#;
        let asked = Read { from: Some(7), ..Read::default() };
        let read = asked.clone().answered(&HeaderMap::from_iter(headers), body, |value| {
            String::from_utf8_lossy(&value[..1]).into_owned()
        });
        let messages = vec![Placed { offset: 7, timestamp: 5, id: "a".to_owned() }];
        let wanted = Read { messages, up_to: Some(8), end_offset: Some(9), strong: true, ..asked.clone() };
        assert_eq!(read, wanted);
        let silent = asked.clone().answered(&HeaderMap::new(), b"", |_| String::new());
        assert_eq!(silent, Read { strong: true, ..asked });
    }
}
