//! The `curl` program: a client that nobody here wrote, and that speaks HTTP/2 and TLS.

use std::ffi::OsStr;
use std::process::Command;

/// What curl was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status; 0 where there was no answer.
    pub status: u16,
    /// The version of HTTP that was spoken: `1.1` or `2`; `0` where none was.
    pub version: String,
    /// The body.
    pub body: String,
    /// What went wrong, in curl's words.
    pub error: String,
}

/// Runs curl with these arguments and without its configuration file, for at most 30 s.
#[must_use]
pub fn curl<T: AsRef<OsStr>>(arguments: impl IntoIterator<Item = T>) -> Answer {
    const LAST_LINE: &str = "\n%{http_code} %{http_version}";
    let mut command = Command::new("curl");
    command.args(["--disable", "--silent", "--show-error", "--max-time", "30", "--noproxy", "*"]);
    command.args(["--write-out", LAST_LINE]).args(arguments);
    let output =
        command.output().expect("curl is missing: install it, on Debian with 'apt-get install curl'");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, last) = text.rsplit_once('\n').expect("curl ends with the line that it was given");
    let (status, version) = last.split_once(' ').expect("the line has two parts");
    Answer {
        status: status.parse().expect("the status is a number"),
        version: version.to_owned(),
        body: body.to_owned(),
        error: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
