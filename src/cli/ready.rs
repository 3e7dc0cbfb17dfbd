//! `predictd ready`: asks the worker on this machine whether it is ready. For containers' health checks: an image without a shell has
//! nothing else that could ask.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::hint::Hint as _;

/// An answer takes microseconds; who does not answer by then is not ready.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The answer is one line; more would be somebody else's.
const MOST_BYTES: u64 = 64 << 10;
/// Where `http.listen` is when nothing else is said.
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// What `/ready` says of a ready worker.
///
/// `address` is that of `http.listen`; without one, `PREDICTD_HTTP__LISTEN`, then its default.
///
/// # Errors
/// Nobody answers there, or the worker is not ready; then the error says why not.
pub async fn ready(address: Option<SocketAddr>) -> anyhow::Result<String> {
    let address = match (address, std::env::var("PREDICTD_HTTP__LISTEN")) {
        (Some(address), _) => address,
        (None, Ok(text)) if !text.is_empty() => {
            text.parse().with_context(|| format!("PREDICTD_HTTP__LISTEN: {text:?} is no address"))?
        }
        (None, _) => DEFAULT,
    };
    let address = reachable(address);
    let answer = tokio::time::timeout(TIMEOUT, ask(address))
        .await
        .with_context(|| format!("no answer in {} seconds", TIMEOUT.as_secs()))
        .and_then(|asked| asked)
        .with_context(|| format!("cannot ask the worker at {address}"))
        .hint(
            "is it running? its `http.listen` must be this address (--address, or PREDICTD_HTTP__LISTEN)",
        )?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.trim_end().to_owned()),
        Some("503") => bail!("{}", body.trim_end()),
        _ => bail!("{address} is no predictd: {:?}", head.lines().next().unwrap_or_default()),
    }
}

async fn ask(address: SocketAddr) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MOST_BYTES).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A worker that listens on every address is asked on this machine's own.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_reached_on_this_machine() {
        for (listens, asked) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2"), ("10.0.0.1:3", "10.0.0.1:3")]
        {
            assert_eq!(reachable(listens.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
