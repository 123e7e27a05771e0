//! Files that may change while the server runs: certificates, who may do what. Kubernetes replaces mounted files by
//! moving a symlink, so that their content is looked at and not their date.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use tokio_util::sync::CancellationToken;

use crate::env::Env;
use crate::limits::{LOOK_AT_FILES_EVERY, MAX_WATCHED_FILE_BYTES};

/// What the contents of the files mean, or a sentence that says what is wrong with them.
type Parse<T> = dyn Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync;

/// Something that is read from files, and read again when they change. What is wrong does not come into force.
pub struct Watched<T> {
    paths: Vec<PathBuf>,
    parse: Box<Parse<T>>,
    state: RwLock<State<T>>,
}

struct State<T> {
    in_force: Arc<T>,
    /// What the files held when they were last understood, or found to be wrong.
    seen: Result<Vec<Vec<u8>>, String>,
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
        let state = RwLock::new(State { in_force, seen: Ok(contents), trouble: None });
        Ok(Self { paths, parse: Box::new(parse), state })
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
        let contents = read(&self.paths);
        let unchanged = self.state.read().unwrap_or_else(PoisonError::into_inner).seen == contents;
        if unchanged {
            return;
        }
        let parsed = contents.as_ref().map_err(Clone::clone).and_then(|contents| (self.parse)(contents));
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.seen = contents;
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

fn read(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, String> {
    paths
        .iter()
        .map(|path| {
            let wrong = |why: &dyn fmt::Display| format!("{}: {why}", path.display());
            let mut content = Vec::new();
            let file = File::open(path).map_err(|error| wrong(&error))?;
            let most = MAX_WATCHED_FILE_BYTES as u64;
            file.take(most + 1).read_to_end(&mut content).map_err(|error| wrong(&error))?;
            if content.len() as u64 > most {
                return Err(wrong(&format_args!("the file has more than {most} bytes")));
            }
            Ok(content)
        })
        .collect()
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
        assert!(Watched::open(vec![path.clone()], number).unwrap_err().contains("number: "));
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
            assert_eq!((*watched.current(), watched.trouble().as_deref()), (in_force, trouble), "{text}");
        }
        std::fs::remove_file(&path).unwrap();
        watched.look();
        assert_eq!(*watched.current(), 10);
        assert!(watched.trouble().unwrap().contains("No such file"));
        write(&" ".repeat(MAX_WATCHED_FILE_BYTES + 1));
        watched.look();
        assert!(watched.trouble().unwrap().contains("more than"), "{:?}", watched.trouble());
    }
}
