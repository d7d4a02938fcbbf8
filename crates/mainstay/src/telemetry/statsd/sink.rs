//! Where the packets go.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::{UdpSocket, UnixDatagram, lookup_host};
use tokio::time::Instant;

use crate::secs;

/// Fits into one frame of an Ethernet with IPv6, with room for a tunnel's own head.
const UDP_BYTES: usize = 1432;
/// What agents read from a local socket.
const UNIX_BYTES: usize = 8192;
/// A name may mean another address later, and a datagram that goes nowhere says nothing.
const NAME_LIVES: Duration = secs(60);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// `HOST:PORT`.
    Udp(String),
    Unix(PathBuf),
}

impl Target {
    /// `None` for an empty text.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        const FORMS: &str = "must be udp://HOST:PORT or unix:///PATH (a datagram socket)";
        match text.split_once("://") {
            None if text.is_empty() => Ok(None),
            Some(("udp", address)) => match address.rsplit_once(':') {
                Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => {
                    Ok(Some(Self::Udp(address.to_owned())))
                }
                _ => Err(FORMS.to_owned()),
            },
            Some(("unix" | "unixgram", path)) if path.starts_with('/') => Ok(Some(Self::Unix(path.into()))),
            _ => Err(FORMS.to_owned()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address) => write!(f, "udp://{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

pub(super) struct Sink {
    target: Target,
    open: Option<Open>,
}

enum Open {
    Udp(UdpSocket, Instant),
    Unix(UnixDatagram),
}

impl Sink {
    pub fn new(target: Target) -> Self {
        Self { target, open: None }
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    pub fn packet_bytes(&self) -> usize {
        match self.target {
            Target::Udp(_) => UDP_BYTES,
            Target::Unix(_) => UNIX_BYTES,
        }
    }

    /// Does nothing if it is connected. Cancel safe.
    pub async fn connect(&mut self) -> io::Result<()> {
        if let Some(Open::Udp(_, since)) = &self.open
            && since.elapsed() > NAME_LIVES
        {
            self.open = None;
        }
        if self.open.is_none() {
            self.open = Some(match &self.target {
                Target::Udp(address) => Open::Udp(udp(address).await?, Instant::now()),
                Target::Unix(path) => {
                    let socket = UnixDatagram::unbound()?;
                    socket.connect(path)?;
                    Open::Unix(socket)
                }
            });
        }
        Ok(())
    }

    /// Sends a packet, waiting while the other side's buffer is full. Answers whether an earlier one turned out to be
    /// lost. Cancel safe: a packet is sent whole or not at all.
    pub async fn send(&mut self, packet: &[u8]) -> io::Result<bool> {
        let sent = match &self.open {
            None => Err(io::ErrorKind::NotConnected.into()),
            Some(Open::Unix(socket)) => socket.send(packet).await.map(|_| false),
            Some(Open::Udp(socket, _)) => match socket.send(packet).await {
                // Said of the one before; this one has not been sent.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    socket.send(packet).await.map(|_| true)
                }
                other => other.map(|_| false),
            },
        };
        if sent.is_err() {
            // An agent that was restarted has a new socket under the old name.
            self.open = None;
        }
        sent
    }
}

async fn udp(address: &str) -> io::Result<UdpSocket> {
    let target = match address.parse::<SocketAddr>() {
        Ok(address) => address,
        Err(_) => {
            let nobody = || io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address"));
            lookup_host(address).await?.next().ok_or_else(nobody)?
        }
    };
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(target).await?;
    Ok(socket)
}
