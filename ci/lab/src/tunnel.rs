//! OpenSSL's client between a host of ours and a listener with TLS.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tls::TlsPsk;

/// An address of this machine's: whoever connects to it is connected to the target by TLS.
///
/// Each connection is a process of `openssl s_client` of its own. They end with this value.
#[derive(Debug)]
pub struct Tunnel {
    /// The address.
    pub address: SocketAddr,
    clients: Arc<Mutex<Vec<Child>>>,
}

impl Tunnel {
    /// To `target`, proving `key`, which is one of SHA-256: `openssl s_client` has no others. In the network namespace of the calling thread.
    ///
    /// # Errors
    /// There is no listening here.
    pub fn new(target: SocketAddr, key: &TlsPsk) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let clients = Arc::<Mutex<Vec<Child>>>::default();
        let (all, identity) = (Arc::clone(&clients), key.identity().to_string());
        let secret: String = (key.secret().bytes().iter())
            .map(|byte| format!("{byte:02x}"))
            .collect();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let begun = stream.and_then(|stream| begin(stream, target, &identity, &secret));
                let Ok(client) = begun else {
                    return;
                };
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                all.push(client);
            }
        });
        Ok(Self { address, clients })
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        for mut client in clients.drain(..) {
            // It may have ended.
            let _ = client.kill();
            let _ = client.wait();
        }
    }
}

/// One connection, for as long as both ends like.
fn begin(stream: TcpStream, target: SocketAddr, identity: &str, secret: &str) -> io::Result<Child> {
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-tls1_3"])
        .args(["-ciphersuites", "TLS_AES_128_GCM_SHA256"])
        .args(["-psk_identity", identity, "-psk", secret])
        .args(["-connect", &target.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let (Some(mut stdin), Some(mut stdout)) = (client.stdin.take(), client.stdout.take()) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    stream.set_nodelay(true)?;
    let (mut from, mut to) = (stream.try_clone()?, stream);
    thread::spawn(move || pass(&mut from, &mut stdin));
    thread::spawn(move || {
        pass(&mut stdout, &mut to);
        // The host on the other end may be gone.
        let _ = to.shutdown(Shutdown::Both);
    });
    Ok(client)
}

fn pass(from: &mut impl Read, to: &mut impl Write) {
    let mut bytes = [0; 1 << 16];
    while let Ok(n) = from.read(&mut bytes)
        && n > 0
        && to.write_all(&bytes[..n]).and_then(|()| to.flush()).is_ok()
    {}
}
