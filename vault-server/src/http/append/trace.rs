//! The trace that a request belongs to, as W3C Trace Context has it: `traceparent` and `tracestate`.
//!
//! The headers may have been added on the way by somebody who knows nothing of this server. So what is malformed is
//! left out, as the specification says, and no request is refused for it.

use axum::http::{HeaderMap, HeaderName};

use crate::limits::{MAX_TRACE_STATE_BYTES, MAX_TRACE_STATE_MEMBERS};

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";

/// What is kept with each message of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Trace {
    parent: String,
    state: Option<String>,
}

impl Trace {
    /// The trace that the headers name.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(HeaderName::from_static(PARENT)).into_iter();
        let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
        let parent = parent.to_str().ok().filter(|parent| is_parent(parent))?.to_owned();
        Some(Self { parent, state: state(headers) })
    }

    /// A message's headers and these, unless the message has its own.
    pub(super) fn added_to<'a>(&'a self, headers: &[(&'a str, &'a str)]) -> Option<Vec<(&'a str, &'a str)>> {
        if headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(PARENT)) {
            return None;
        }
        let ours = [Some((PARENT, &*self.parent)), self.state.as_deref().map(|state| (STATE, state))];
        Some(headers.iter().copied().chain(ours.into_iter().flatten()).collect())
    }
}

/// `00-<32 digits>-<16 digits>-<2 digits>`; later versions may go on behind another `-`.
fn is_parent(text: &str) -> bool {
    let hexadecimal = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    let mut parts = text.splitn(5, '-');
    let mut part = |length| parts.next().filter(|part| part.len() == length && hexadecimal(part));
    let (Some(version), Some(trace), Some(span), Some(_flags)) = (part(2), part(32), part(16), part(2))
    else {
        return false;
    };
    let more = parts.next();
    version != "ff" && !zero(trace) && !zero(span) && (version != "00" || more.is_none())
}

/// The lists of all `tracestate` headers, one behind the other.
fn state(headers: &HeaderMap) -> Option<String> {
    let lists = headers.get_all(HeaderName::from_static(STATE)).into_iter().map(|value| value.to_str().ok());
    let joined = lists.collect::<Option<Vec<_>>>()?.join(",");
    let members = || joined.split(',').map(str::trim).filter(|member| !member.is_empty());
    let fits =
        joined.len() <= MAX_TRACE_STATE_BYTES && (1..=MAX_TRACE_STATE_MEMBERS).contains(&members().count());
    let keys = || members().map(|member| member.split('=').next().unwrap_or_default());
    let repeated = keys().enumerate().any(|(index, key)| keys().take(index).any(|earlier| earlier == key));
    (fits && members().all(is_member) && !repeated).then_some(joined)
}

fn is_member(text: &str) -> bool {
    let Some((key, value)) = text.split_once('=') else { return false };
    let in_key = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
    let in_value = |byte: u8| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=';
    (1..=256).contains(&key.len())
        && key.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && key.bytes().all(in_key)
        && (1..=256).contains(&value.len())
        && value.bytes().all(in_value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn trace(pairs: &[(&'static str, &str)]) -> Option<Trace> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        Trace::of(&headers)
    }

    #[test]
    fn a_parent_is_kept_if_it_is_one() {
        let later = format!("cc{}-what-the-future-brings", &RIGHT[2..]);
        for right in [RIGHT, &later] {
            assert_eq!(trace(&[(PARENT, right)]).unwrap().parent, right);
        }
        for wrong in [
            "",
            "00",
            &RIGHT.to_uppercase(),
            &RIGHT.replace("00-0af", "ff-0af"),
            &format!("{RIGHT}-more"),
            &format!("{RIGHT}0"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            &RIGHT.replace('-', "_"),
        ] {
            assert_eq!(trace(&[(PARENT, wrong)]), None, "{wrong}");
        }
        assert_eq!(trace(&[(PARENT, RIGHT), (PARENT, RIGHT)]), None);
        assert_eq!(trace(&[(STATE, "a=1")]), None);
    }

    #[test]
    fn a_state_is_kept_if_it_is_one() {
        let state = |lists: &[&str]| {
            let pairs: Vec<_> = lists.iter().map(|list| (STATE, *list)).chain([(PARENT, RIGHT)]).collect();
            trace(&pairs).unwrap().state
        };
        assert_eq!(
            state(&["rojo=00f067aa0ba902b7, congo=t61rcWkgMzE"]).unwrap(),
            "rojo=00f067aa0ba902b7, congo=t61rcWkgMzE"
        );
        assert_eq!(state(&["a=1", "b=2"]).unwrap(), "a=1,b=2");
        let many = (0..33).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        for wrong in
            ["", "a", "a=", "=1", "A=1", "a=1,a=2", "a=1=2", &many, &format!("a={}", "x".repeat(600))]
        {
            assert_eq!(state(&[wrong]), None, "{wrong}");
        }
    }

    #[test]
    fn a_message_keeps_its_own() {
        let trace = trace(&[(PARENT, RIGHT), (STATE, "a=1")]).unwrap();
        assert_eq!(trace.added_to(&[("Traceparent", "x")]), None);
        assert_eq!(trace.added_to(&[("k", "v")]).unwrap(), [("k", "v"), (PARENT, RIGHT), (STATE, "a=1")]);
    }
}
