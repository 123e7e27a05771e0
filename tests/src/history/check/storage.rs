//! Terms, and what lands under them.

use std::collections::{BTreeMap, HashMap};

use vault_format::limits::PAGE_BYTES;

use super::Verdict;
use crate::history::Event;

/// What a term has written to a segment: the checksum of each page, by term and position.
type Pages = BTreeMap<(u64, u64), u32>;

pub(super) fn check_storage(events: &[Event], verdict: &mut Verdict) {
    let mut holders: HashMap<u64, &str> = HashMap::new();
    let mut claims: HashMap<&str, u64> = HashMap::new();
    let mut written: HashMap<&str, Pages> = HashMap::new();
    for event in events {
        match event {
            Event::Term { term, holder } => {
                let first = holders.entry(*term).or_insert(holder);
                if first != holder {
                    verdict.breaks(format!("{first} and {holder} both hold term {term}"));
                }
            }
            Event::Claim { blob, term } => {
                let claimed = claims.entry(blob).or_default();
                *claimed = (*claimed).max(*term);
            }
            Event::Write { blob, position, fence, pages } => {
                let claimed = claims.get(blob.as_str()).copied().unwrap_or_default();
                if *fence < claimed {
                    verdict.breaks(format!(
                        "what term {fence} wrote landed at {position} of {blob} after term {claimed} had claimed it"
                    ));
                }
                let of_blob = written.entry(blob).or_default();
                let mut other = None;
                for (at, checksum) in positions(*position).zip(pages) {
                    let first = of_blob.entry((*fence, at)).or_insert(*checksum);
                    other = other.or((first != checksum).then_some(at));
                }
                if let Some(at) = other {
                    verdict.breaks(format!("term {fence} wrote two contents to {at} of {blob}"));
                }
            }
            Event::Clear { blob, from, to, fence } => {
                let claimed = claims.get(blob.as_str()).copied().unwrap_or_default();
                if *fence < claimed {
                    verdict.breaks(format!(
                        "term {fence} cleared {from} to {to} of {blob} after term {claimed} had claimed it"
                    ));
                }
                let wiped = written.get(blob.as_str());
                let wiped = wiped.and_then(|pages| pages.range((*fence, *from)..(*fence, *to)).next());
                if let Some(((_, at), _)) = wiped {
                    verdict.breaks(format!("term {fence} cleared what it had written to {at} of {blob}"));
                }
            }
            _ => {}
        }
    }
}

/// Of a page and those behind it.
fn positions(first: u64) -> impl Iterator<Item = u64> {
    (0..).map(move |index| first + index * PAGE_BYTES)
}
