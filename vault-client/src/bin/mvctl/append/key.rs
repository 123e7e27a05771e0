//! Keys out of lines of JSON, by the rules that the server has for `?key=`.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// The most steps of a pointer, as with the servers: each goes through the line once more.
const MAX_STEPS: usize = 32;

/// A JSON pointer (RFC 6901).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Pointer {
    text: String,
    steps: Vec<String>,
}

impl Pointer {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some(steps) = text.strip_prefix('/') else {
            return Err(format!("--key: `{text}` is not a JSON pointer such as /user/id"));
        };
        if steps.split('/').count() > MAX_STEPS {
            return Err(format!("--key: a JSON pointer has at most {MAX_STEPS} steps"));
        }
        let steps = steps.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect();
        Ok(Self { text: text.to_owned(), steps })
    }

    /// What the pointer names: a string as it is, a number or a boolean as it is written.
    pub(super) fn key(&self, json: &RawValue) -> Result<String, String> {
        let mut json = json;
        for step in &self.steps {
            json = self.step(json, step).ok_or_else(|| self.missing())?;
        }
        match json.get().as_bytes().first() {
            Some(b'"') => serde_json::from_str(json.get()).map_err(|error| error.to_string()),
            None | Some(b'{' | b'[' | b'n') => Err(self.missing()),
            Some(_) => Ok(json.get().to_owned()),
        }
    }

    /// The member or element of that name, if the value has one.
    fn step<'j>(&self, json: &'j RawValue, step: &str) -> Option<&'j RawValue> {
        match json.get().as_bytes().first()? {
            b'{' => {
                let members: BTreeMap<String, &RawValue> = serde_json::from_str(json.get()).ok()?;
                members.get(step).copied()
            }
            b'[' => {
                let elements: Vec<&RawValue> = serde_json::from_str(json.get()).ok()?;
                elements.get(step.parse::<usize>().ok()?).copied()
            }
            _ => None,
        }
    }

    fn missing(&self) -> String {
        format!("there is no string, number or boolean at `{}`", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(pointer: &str, json: &str) -> Result<String, String> {
        Pointer::parse(pointer)?.key(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn pointers_name_members_and_elements() {
        for (pointer, json, found) in [
            ("/id", r#"{"id":"a\u00e4"}"#, "aä"),
            ("/id", r#"{"id":1.50e3}"#, "1.50e3"),
            ("/id", r#"{"id":12345678901234567890123}"#, "12345678901234567890123"),
            ("/id", r#"{"id":true}"#, "true"),
            ("/id", r#"{"id":1,"id":2}"#, "2"),
            ("/", r#"{"":"empty"}"#, "empty"),
            ("/a~1b/m~0n/1", r#"{"a/b":{"m~n":[0,7]}}"#, "7"),
            ("/\u{61}", r#"{"\u0061":"escaped"}"#, "escaped"),
        ] {
            assert_eq!(key(pointer, json), Ok(found.to_owned()), "{pointer} in {json}");
        }
        for (pointer, json) in [
            ("/id", r#"{"id":null}"#),
            ("/id", r#"{"id":{}}"#),
            ("/id", r#"{"di":1}"#),
            ("/1", "[0]"),
            ("/a/b", r#"{"a":"b"}"#),
            ("/id", "7"),
        ] {
            let wrong = key(pointer, json).unwrap_err();
            assert!(wrong.contains("no string, number or boolean at `/"), "{pointer} in {json}: {wrong}");
        }
        assert!(Pointer::parse("id").is_err() && Pointer::parse("").is_err());
        assert!(Pointer::parse(&"/a".repeat(33)).is_err());
    }
}
