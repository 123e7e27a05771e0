//! Panics in the tasks of a run: tokio keeps them to itself, and each is a mistake.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static SEEN: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// From now on panics of this thread are put down in the place of being printed.
pub fn begin() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let noted = SEEN.try_with(|seen| {
                let mut seen = seen.try_borrow_mut().ok()?;
                seen.as_mut()?.push(format!("a task panicked: {panic}"));
                Some(())
            });
            if !matches!(noted, Ok(Some(()))) {
                before(panic);
            }
        }));
    });
    SEEN.set(Some(Vec::new()));
}

/// The panics so far.
#[must_use]
pub fn seen() -> Vec<String> {
    SEEN.take().unwrap_or_default()
}
