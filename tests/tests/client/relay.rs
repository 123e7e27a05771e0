//! A relay in front of a server that notes what is asked for, and may change what is answered.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Edit = dyn Fn(usize, serde_json::Value) -> serde_json::Value + Send + Sync;

pub(crate) struct Relay {
    pub(crate) url: String,
    paths: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Relay {
    /// In front of the server at `server`. `edit` changes plans for direct reads, counted from 0.
    pub(crate) async fn start(
        server: String,
        edit: impl Fn(usize, serde_json::Value) -> serde_json::Value + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let paths = Arc::<Mutex<Vec<String>>>::default();
        let (seen, edit): (_, Arc<Edit>) = (Arc::clone(&paths), Arc::new(edit));
        let task = tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(connection, server.clone(), Arc::clone(&seen), Arc::clone(&edit)));
            }
        });
        Self { url, paths, task }
    }

    /// How often something was asked for whose path holds this.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.paths.lock().unwrap().iter().filter(|path| path.contains(part)).count()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One GET.
async fn serve(mut connection: TcpStream, server: String, seen: Arc<Mutex<Vec<String>>>, edit: Arc<Edit>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = connection.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let accept = head.lines().find_map(|line| line.strip_prefix("accept: ")).unwrap();
    let client = reqwest::Client::new();
    let answer = client.get(format!("{server}{path}")).header("accept", accept).send().await.unwrap();
    let (status, headers) = (answer.status(), answer.headers().clone());
    let mut body = answer.bytes().await.unwrap();
    let plans = {
        let mut seen = seen.lock().unwrap();
        let plans = seen.iter().filter(|path| path.contains("/access?")).count();
        seen.push(path.clone());
        plans
    };
    if path.contains("/access?") && status.is_success() {
        body = edit(plans, serde_json::from_slice(&body).unwrap()).to_string().into();
    }
    let mut told = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in &headers {
        if name.as_str().starts_with("message-vault-") || name == "content-type" {
            told += &format!("{name}: {}\r\n", value.to_str().unwrap());
        }
    }
    connection.write_all(format!("{told}\r\n").as_bytes()).await.unwrap();
    // Whoever has enough goes.
    let _ = connection.write_all(&body).await;
}
