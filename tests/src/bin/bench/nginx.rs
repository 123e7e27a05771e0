//! nginx, serving one file over loopback.

use std::fs::File;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const PROGRAMS: [&str; 3] = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"];

/// A running nginx with one worker. It ends with the value.
#[derive(Debug)]
pub(crate) struct Nginx {
    child: Child,
    pub(crate) address: SocketAddr,
    _directory: TempDir,
}

impl Nginx {
    /// Serves `file` as `/file`. `None` where nginx is not installed.
    pub(crate) fn start(file: &Path, directory: TempDir) -> anyhow::Result<Option<Self>> {
        let Some(program) = PROGRAMS.iter().find(|path| Path::new(path).is_file()) else { return Ok(None) };
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let (root, file) = (directory.path().display(), file.display());
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path {root}/{kind};"))
            .collect();
        let text = format!(
            "{user} daemon off; worker_processes 1; pid {root}/pid; error_log {root}/error;
            events {{ worker_connections 64; }}
            http {{ sendfile on; tcp_nopush on; access_log off; {temporary}
                server {{ listen {address}; location = /file {{ alias {file}; }} }} }}\n"
        );
        let config = directory.path().join("nginx.conf");
        File::create(&config)?.write_all(text.as_bytes())?;
        let child = Command::new(program)
            .arg("-e")
            .arg(directory.path().join("error"))
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .spawn()
            .context("starting nginx")?;
        let mut nginx = Self { child, address, _directory: directory };
        for _ in 0..500 {
            if TcpStream::connect(address).is_ok() {
                return Ok(Some(nginx));
            }
            if let Some(status) = nginx.child.try_wait()? {
                bail!("nginx ended with {status}: {text}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("nginx does not listen on {address}")
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master ends its worker. If it has ended by itself, there is nothing to end.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}
