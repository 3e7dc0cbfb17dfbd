//! A network that swallows what it carries, without a word.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Stands between a worker and the server. Connections that are open when it freezes stay open for the worker
/// and carry nothing any more, while the server has lost them; new ones work.
pub(super) struct Hole {
    pub(super) address: SocketAddr,
    /// Counts freezes.
    freezes: watch::Sender<u32>,
}

impl Hole {
    pub(super) async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (freezes, frozen) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let mut frozen = frozen.clone();
                frozen.mark_unchanged();
                tokio::spawn(async move {
                    let mut to = TcpStream::connect(server).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut from, &mut to) => {}
                        changed = frozen.changed() => if changed.is_ok() {
                            drop(to);
                            std::future::pending::<()>().await;
                        },
                    }
                });
            }
        });
        Self { address, freezes }
    }

    pub(super) fn freeze(&self) {
        self.freezes.send_modify(|freezes| *freezes += 1);
    }
}
