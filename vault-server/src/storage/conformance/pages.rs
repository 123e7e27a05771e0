//! Writing, clearing and reading pages.

use futures::FutureExt;
use vault_format::ids::Term;

use super::Failure::{NotFound, Refused};
use super::{Bench, Check, Outcome, blob, done, equal, fails, holds, pages};

const TERM: Term = Term(3);
const MIB: u64 = 1 << 20;

pub(super) const CHECKS: &[Check] = &[
    Check { name: "pages-put-and-read", run: |bench| put_and_read(bench).boxed() },
    Check { name: "pages-refused", run: |bench| refused(bench).boxed() },
    Check { name: "pages-across-the-end", run: |bench| across_the_end(bench).boxed() },
    Check { name: "pages-largest-put", run: |bench| largest_put(bench).boxed() },
    Check { name: "pages-clear", run: |bench| clear(bench).boxed() },
    Check { name: "pages-ranges", run: |bench| ranges(bench).boxed() },
];

async fn put_and_read(bench: Bench) -> Outcome {
    const READS: &str = "Exactly the range that was asked for; zeros where nothing was written";
    let storage = &bench.storage;
    let name = bench.make_blob(64 * MIB, TERM).await?;
    done("Writes whole pages at `position`", bench.put(&name, 32 * MIB + 512, pages(2, 7), TERM).await)?;
    let around = done(READS, storage.read(&name, 32 * MIB..32 * MIB + 2048).await)?.bytes;
    equal(READS, around, [pages(1, 0), pages(2, 7), pages(1, 0)].concat().into())?;
    let odd = done(READS, storage.read(&name, 32 * MIB + 510..32 * MIB + 513).await)?.bytes;
    equal(READS, &odd[..], &[0, 0, 7])?;
    let end = done(READS, storage.read(&name, 64 * MIB - 700..64 * MIB).await)?.bytes;
    equal(READS, end, vec![0; 700].into())?;
    done("Writes whole pages", bench.put(&name, 64 * MIB - 512, pages(1, 8), TERM).await)?;
    done(
        "sending the same request again is always allowed",
        bench.put(&name, 64 * MIB - 512, pages(1, 8), TERM).await,
    )?;
    equal(READS, done(READS, storage.read(&name, 64 * MIB - 1..64 * MIB).await)?.bytes[0], 8)?;
    done("Writes whole pages", bench.put(&name, 32 * MIB + 1024, pages(1, 9), TERM).await)?;
    let over = done(READS, storage.read(&name, 32 * MIB + 512..32 * MIB + 1536).await)?.bytes;
    equal(
        "a read sees every request that was answered before",
        over,
        [pages(1, 7), pages(1, 9)].concat().into(),
    )?;
    let missing = blob(&name.container, "missing");
    fails("What a request names must exist", storage.read(&missing, 0..512).await, NotFound)?;
    fails("What a request names must exist", storage.page_ranges(&missing, 0..512).await, NotFound)
}

async fn refused(bench: Bench) -> Outcome {
    const WHOLE: &str =
        "what is written, cleared or looked through is whole pages. Anything else is `Refused`";
    const INSIDE: &str =
        "A range of bytes that is written, cleared or read is not empty and lies inside the blob";
    let storage = &bench.storage;
    let name = bench.make_blob(8 * MIB, TERM).await?;
    for (at, bytes) in [(1, pages(1, 1)), (256, pages(1, 1)), (0, "short".into()), (512, vec![1; 700].into())]
    {
        fails(WHOLE, bench.put(&name, at, bytes, TERM).await, Refused)?;
    }
    for (at, bytes) in [(0, pages(0, 1)), (8 * MIB, pages(1, 1)), (1 << 62, pages(1, 1))] {
        fails(INSIDE, bench.put(&name, at, bytes, TERM).await, Refused)?;
    }
    let last = u64::MAX - 511;
    fails(INSIDE, bench.put(&name, last, pages(2, 1), TERM).await, Refused)?;
    let too_long = bench.put(&name, 0, pages(8193, 1), TERM).await;
    fails("Writes whole pages at `position`, at most 4 MiB", too_long, Refused)?;
    for range in [0..100, 1..513, 100..512] {
        fails(WHOLE, storage.clear_pages(&name, range.clone(), TERM).await, Refused)?;
        fails(WHOLE, storage.page_ranges(&name, range).await, Refused)?;
    }
    for range in [8 * MIB..8 * MIB + 512, 1 << 62..(1 << 62) + 512] {
        fails(INSIDE, storage.clear_pages(&name, range.clone(), TERM).await, Refused)?;
    }
    for range in [0..8 * MIB + 512, 8 * MIB..8 * MIB + 512, 1 << 62..(1 << 62) + 512] {
        fails(INSIDE, storage.read(&name, range.clone()).await, Refused)?;
        fails(INSIDE, storage.page_ranges(&name, range).await, Refused)?;
    }
    fails(INSIDE, storage.clear_pages(&name, 512..512, TERM).await, Refused)?;
    fails(INSIDE, storage.read(&name, 512..512).await, Refused)?;
    fails(INSIDE, storage.read(&name, std::ops::Range { start: 1024, end: 512 }).await, Refused)?;
    let none = done(INSIDE, storage.page_ranges(&name, 0..8 * MIB).await)?;
    equal("a definite failure changed nothing", none, vec![])
}

async fn across_the_end(bench: Bench) -> Outcome {
    const INSIDE: &str = "A range of bytes that is written, cleared or read [...] lies inside the blob";
    let storage = &bench.storage;
    let name = bench.make_blob(8 * MIB, TERM).await?;
    fails(INSIDE, bench.put(&name, 8 * MIB - 512, pages(2, 1), TERM).await, Refused)?;
    fails(INSIDE, storage.clear_pages(&name, 0..8 * MIB + 512, TERM).await, Refused)?;
    let none = done(INSIDE, storage.page_ranges(&name, 0..8 * MIB).await)?;
    equal("a definite failure changed nothing", none, vec![])
}

async fn largest_put(bench: Bench) -> Outcome {
    const LARGEST: &str = "Writes whole pages at `position`, at most 4 MiB";
    let name = bench.make_blob(8 * MIB, TERM).await?;
    let bytes: Vec<u8> = (0..4 * MIB).map(|at| (at % 251).to_le_bytes()[0]).collect();
    done(LARGEST, bench.put(&name, MIB, bytes.clone().into(), TERM).await)?;
    let read = done(LARGEST, bench.storage.read(&name, MIB - 512..5 * MIB + 512).await)?.bytes;
    holds(LARGEST, read == [&[0; 512], &bytes[..], &[0; 512]].concat(), "something else")
}

async fn clear(bench: Bench) -> Outcome {
    const CLEARS: &str = "Makes whole pages read as zeros and leave [`Storage::page_ranges`]";
    let storage = &bench.storage;
    let name = bench.make_blob(16 * MIB, TERM).await?;
    done("Writes whole pages", bench.put(&name, 0, pages(8, 5), TERM).await)?;
    done(CLEARS, storage.clear_pages(&name, 1024..2048, TERM).await)?;
    let read = done(CLEARS, storage.read(&name, 0..4096).await)?.bytes;
    equal(CLEARS, read, [pages(2, 5), pages(2, 0), pages(4, 5)].concat().into())?;
    done("Writes whole pages", bench.put(&name, 1536, pages(1, 6), TERM).await)?;
    equal(CLEARS, done(CLEARS, storage.read(&name, 1535..1537).await)?.bytes[..].to_vec(), vec![0, 6])?;
    done("The range may be as long as the blob", storage.clear_pages(&name, 0..16 * MIB, TERM).await)?;
    let read = done(CLEARS, storage.read(&name, 0..4096).await)?.bytes;
    equal(CLEARS, read, pages(8, 0))?;
    equal(CLEARS, done(CLEARS, storage.page_ranges(&name, 0..16 * MIB).await)?, vec![])?;
    equal(CLEARS, done(CLEARS, storage.properties(&name).await)?.bytes, 16 * MIB)
}

/// The answer as plain page numbers: adjoining ranges are the backend's to merge or not.
fn numbers(ranges: Vec<std::ops::Range<u64>>) -> Vec<u64> {
    ranges.into_iter().flat_map(|range| range.step_by(512)).map(|at| at / 512).collect()
}

async fn ranges(bench: Bench) -> Outcome {
    const NAMES: &str =
        "Every page that is not all zeros is in one of them, and none that was never written or was cleared";
    let storage = &bench.storage;
    let name = bench.make_blob(32 * MIB, TERM).await?;
    equal("An empty range has none", done(NAMES, storage.page_ranges(&name, 512..512).await)?, vec![])?;
    equal(NAMES, done(NAMES, storage.page_ranges(&name, 0..32 * MIB).await)?, vec![])?;
    let far = 16 * MIB;
    done("Writes whole pages", bench.put(&name, 512, pages(2, 1), TERM).await)?;
    done("Writes whole pages", bench.put(&name, 2560, pages(1, 2), TERM).await)?;
    done("Writes whole pages", bench.put(&name, far, pages(1, 3), TERM).await)?;
    let all = done(NAMES, storage.page_ranges(&name, 0..32 * MIB).await)?;
    equal(NAMES, numbers(all.clone()), vec![1, 2, 5, far / 512])?;
    let in_pages = all.iter().all(|range| range.start % 512 == 0 && range.end % 512 == 0);
    holds("in whole pages", in_pages, &all)?;
    const WITHIN: &str = "Which parts of `range` may hold anything but zeros";
    equal(WITHIN, numbers(done(WITHIN, storage.page_ranges(&name, 1024..far).await)?), vec![2, 5])?;
    equal(WITHIN, numbers(done(WITHIN, storage.page_ranges(&name, 1536..2560).await)?), vec![])?;
    equal(WITHIN, numbers(done(WITHIN, storage.page_ranges(&name, far..32 * MIB).await)?), vec![far / 512])?;
    done("Makes whole pages read as zeros", storage.clear_pages(&name, 512..1024, TERM).await)?;
    done("Makes whole pages read as zeros", storage.clear_pages(&name, far..far + 512, TERM).await)?;
    equal(NAMES, numbers(done(NAMES, storage.page_ranges(&name, 0..32 * MIB).await)?), vec![2, 5])
}
