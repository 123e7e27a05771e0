//! Files that may change while the server runs: certificates, who may do what. Kubernetes replaces mounted files by
//! moving a symlink, so that their content is looked at and not their date.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio_util::sync::CancellationToken;

use crate::env::Env;
use crate::limits::{LOOK_AT_FILES_EVERY, MAX_WATCHED_FILE_BYTES};

/// What is found at a look, which may change.
#[derive(Debug)]
pub(crate) struct Settling<T> {
    /// What was last taken notice of.
    settled: T,
    /// What the last look found, where that is something else.
    seen: Option<T>,
}

impl<T: PartialEq> Settling<T> {
    pub(crate) fn new(settled: T) -> Self {
        Self { settled, seen: None }
    }

    pub(crate) fn settled(&self) -> &T {
        &self.settled
    }

    /// Whether a look shows something new, for the second time: the first may have seen half of what is being written.
    pub(crate) fn changed(&mut self, found: T) -> bool {
        if found == self.settled {
            self.seen = None;
            return false;
        }
        if self.seen.as_ref() == Some(&found) {
            self.settled = found;
            self.seen = None;
            return true;
        }
        self.seen = Some(found);
        false
    }
}

/// Reads a file of at most `most` bytes, or says in a sentence why not.
pub(crate) fn read_bounded(path: &Path, most: usize) -> Result<Vec<u8>, String> {
    let cannot = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let mut content = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(most as u64 + 1).read_to_end(&mut content).map_err(cannot)?;
    if content.len() > most {
        return Err(format!("{} has more than {most} bytes", path.display()));
    }
    Ok(content)
}

/// What the contents of the files mean, or a sentence that says what is wrong with them.
type Parse<T> = dyn Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync;

/// Something that is read from files, and read again when they change. What is wrong does not come into force.
pub struct Watched<T> {
    paths: Vec<PathBuf>,
    parse: Box<Parse<T>>,
    found: Mutex<Settling<Found>>,
    state: RwLock<State<T>>,
}

/// The contents of the files, or why they cannot be read.
type Found = Result<Vec<Vec<u8>>, String>;

struct State<T> {
    in_force: Arc<T>,
    trouble: Option<String>,
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is in them may be secret.
        f.debug_struct("Watched").field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads the files for the first time; fails with a sentence where they are wrong.
    pub fn open(
        paths: Vec<PathBuf>,
        parse: impl Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let contents = read(&paths)?;
        let in_force = Arc::new(parse(&contents)?);
        let found = Mutex::new(Settling::new(Ok(contents)));
        let state = RwLock::new(State { in_force, trouble: None });
        Ok(Self { paths, parse: Box::new(parse), found, state })
    }

    /// What is in force.
    #[must_use]
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner).in_force)
    }

    /// Why what the files hold by now is not in force. `None` where it is.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).trouble.clone()
    }

    /// Looks at the files again and again until `stop`.
    pub async fn watch(self: Arc<Self>, env: Env, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = env.clock.sleep(LOOK_AT_FILES_EVERY) => {}
            }
            let this = Arc::clone(&self);
            if let Err(error) = tokio::task::spawn_blocking(move || this.look()).await {
                tracing::error!(%error, "looking at files broke down");
            }
        }
    }

    /// Looks at the files once.
    fn look(&self) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if !found.changed(read(&self.paths)) {
            return;
        }
        let settled = found.settled().as_ref();
        let parsed = settled.map_err(Clone::clone).and_then(|contents| (self.parse)(contents));
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match parsed {
            Ok(parsed) => {
                tracing::info!(files = ?self.paths, "changed files are in force");
                state.in_force = Arc::new(parsed);
                state.trouble = None;
            }
            Err(why) => {
                tracing::error!(%why, "changed files are wrong; what they held before stays in force");
                state.trouble = Some(format!("{why}; what was there before stays in force"));
            }
        }
    }
}

fn read(paths: &[PathBuf]) -> Found {
    paths.iter().map(|path| read_bounded(path, MAX_WATCHED_FILE_BYTES)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(contents: &[Vec<u8>]) -> Result<u32, String> {
        let text = str::from_utf8(&contents[0]).map_err(|error| error.to_string())?;
        text.trim().parse().map_err(|_| format!("`{}` is no number", text.trim()))
    }

    #[test]
    fn what_is_right_comes_into_force_and_what_is_wrong_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("number");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        assert!(Watched::open(vec![path.clone()], number).unwrap_err().contains("number cannot be read: "));
        write("seven");
        assert_eq!(Watched::open(vec![path.clone()], number).unwrap_err(), "`seven` is no number");
        write("7");
        let watched = Watched::open(vec![path.clone()], number).unwrap();
        for (text, in_force, trouble) in [
            ("7", 7, None),
            ("8", 8, None),
            ("nine", 8, Some("`nine` is no number; what was there before stays in force")),
            ("nine", 8, Some("`nine` is no number; what was there before stays in force")),
            ("8", 8, None),
            ("10", 10, None),
        ] {
            write(text);
            watched.look();
            watched.look();
            assert_eq!((*watched.current(), watched.trouble().as_deref()), (in_force, trouble), "{text}");
        }
        std::fs::remove_file(&path).unwrap();
        watched.look();
        watched.look();
        assert_eq!(*watched.current(), 10);
        assert!(watched.trouble().unwrap().contains("No such file"));
        write(&" ".repeat(MAX_WATCHED_FILE_BYTES + 1));
        watched.look();
        watched.look();
        assert!(watched.trouble().unwrap().contains("more than"), "{:?}", watched.trouble());
    }

    #[test]
    fn a_change_counts_when_it_was_seen_twice() {
        let mut settling = Settling::new("a");
        let mut look = |found| settling.changed(found);
        assert!(!look("a"));
        assert!(!look("b") && look("b") && !look("b"));
        assert!(!look("c") && !look("d") && !look("c") && !look("b") && !look("c") && look("c"));
        assert_eq!(*settling.settled(), "c");
    }
}
