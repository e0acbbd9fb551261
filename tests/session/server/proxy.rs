//! A connection between a store and a server that is slow, cut, silent, or changes the data.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream, unix},
    sync::watch,
    task::JoinHandle,
};

/// What the connection does with the server's answers.
#[derive(Clone, Debug, Default)]
pub(crate) enum Wire {
    #[default]
    Whole,
    /// Each piece is delayed by this time.
    Late(Duration),
    /// Nothing arrives, and nothing is closed.
    Silent,
    /// Each connection is closed, and each new one too.
    Cut,
    /// Each piece that contains the first bytes is replaced by the second ones.
    Says(&'static [u8], Vec<u8>),
}

/// Ends, with all its connections, when it is dropped.
pub(crate) struct Proxy {
    directory: TempDir,
    wire: watch::Sender<Wire>,
    connections: Arc<AtomicUsize>,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Proxy {
    pub(crate) fn to(server: &Path) -> Self {
        let directory = TempDir::with_prefix("wire-").unwrap();
        let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        let (wire, _) = watch::channel(Wire::Whole);
        let tasks = Arc::<Mutex<Vec<_>>>::default();
        let connections = Arc::<AtomicUsize>::default();
        let accept = {
            let (server, wire) = (server.to_owned(), wire.clone());
            let (tasks, connections) = (Arc::clone(&tasks), Arc::clone(&connections));
            tokio::spawn(async move {
                while let Ok((client, _)) = listener.accept().await {
                    connections.fetch_add(1, Ordering::SeqCst);
                    let carried = carry(client, server.clone(), wire.subscribe());
                    tasks.lock().unwrap().push(tokio::spawn(carried));
                }
            })
        };
        tasks.lock().unwrap().push(accept);
        Self { directory, wire, connections, tasks }
    }

    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    pub(crate) fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for task in &*self.tasks.lock().unwrap() {
            task.abort();
        }
    }
}

async fn carry(client: UnixStream, server: PathBuf, mut wire: watch::Receiver<Wire>) {
    let Ok(server) = UnixStream::connect(server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut changes = wire.clone();
    let questions = async { tokio::io::copy(&mut from_client, &mut to_server).await.map(|_| ()) };
    let answers = answer(&mut from_server, &mut to_client, &mut wire);
    let cut = changes.wait_for(|wire| matches!(wire, Wire::Cut));
    // Whichever ends first ends all.
    tokio::select! {
        _ = questions => {}
        _ = answers => {}
        _ = cut => {}
    }
}

async fn answer(
    server: &mut unix::OwnedReadHalf,
    client: &mut unix::OwnedWriteHalf,
    wire: &mut watch::Receiver<Wire>,
) -> std::io::Result<()> {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let read = server.read(&mut bytes).await?;
        if read == 0 {
            return Ok(());
        }
        let now = wire.borrow_and_update().clone();
        let piece = &bytes[..read];
        match now {
            Wire::Whole | Wire::Cut => client.write_all(piece).await?,
            Wire::Late(by) => {
                tokio::time::sleep(by).await;
                client.write_all(piece).await?;
            }
            Wire::Silent => {
                let _ = wire.wait_for(|wire| !matches!(wire, Wire::Silent)).await;
                client.write_all(piece).await?;
            }
            Wire::Says(instead_of, what) => {
                let holds = piece.windows(instead_of.len()).any(|part| part == instead_of);
                client.write_all(if holds { &what } else { piece }).await?;
            }
        }
    }
}
