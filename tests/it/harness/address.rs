//! An address that leads to one server and then to another, as that of a database that fails over does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, UnixStream};

/// An address with a server behind it.
pub(crate) struct Address {
    pub(crate) address: SocketAddr,
    behind: Arc<Mutex<PathBuf>>,
}

impl Address {
    /// One that leads to a socket.
    pub(crate) async fn of(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (address, behind) = (listener.local_addr().expect("an address"), Arc::new(Mutex::new(socket)));
        let led = Arc::clone(&behind);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let socket = led.lock().expect("no panic").clone();
                tokio::spawn(async move {
                    // Where nobody is, the connection ends at once.
                    if let Ok(mut server) = UnixStream::connect(socket).await {
                        drop(copy_bidirectional(&mut stream, &mut server).await);
                    }
                });
            }
        });
        Self { address, behind }
    }

    /// It leads to another from now on.
    pub(crate) fn leads_to(&self, socket: PathBuf) {
        *self.behind.lock().expect("no panic") = socket;
    }
}
