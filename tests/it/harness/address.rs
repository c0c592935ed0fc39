//! An address that leads to one server and then to another, as that of a database that fails over does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;

/// An address with a server behind it.
pub(crate) struct Address {
    pub(crate) at: SocketAddr,
    behind: Arc<Mutex<PathBuf>>,
    silent: watch::Sender<()>,
}

impl Address {
    /// One that leads to a socket.
    pub(crate) async fn of(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (at, behind) = (listener.local_addr().expect("an address"), Arc::new(Mutex::new(socket)));
        let (led, silent) = (Arc::clone(&behind), watch::Sender::new(()));
        let hearing = silent.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (socket, mut silent) = (led.lock().expect("no panic").clone(), hearing.subscribe());
                tokio::spawn(async move {
                    // Where nobody is, the connection ends at once.
                    let Ok(mut server) = UnixStream::connect(socket).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut stream, &mut server) => return,
                        _ = silent.changed() => drop(server),
                    }
                    // Its client hears nothing any more, not even that nobody is there.
                    std::future::pending::<()>().await;
                });
            }
        });
        Self { at, behind, silent }
    }

    /// It leads to another from now on.
    pub(crate) fn leads_to(&self, socket: PathBuf) {
        *self.behind.lock().expect("no panic") = socket;
    }

    /// Whoever is connected hears nothing any more, as when a host loses its power; who connects now is led to where it leads now.
    pub(crate) fn falls_silent(&self) {
        self.silent.send_replace(());
    }
}
