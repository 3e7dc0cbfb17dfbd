//! `predictd ready`: asks the worker on this machine whether it is ready.
//!
//! For health checks of containers: an image without a shell has no other HTTP client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Error, Response, StatusCode, redirect};

use crate::hint::Hint as _;

/// A worker that does not answer in this time is not ready: an answer takes microseconds.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Most bytes read of an answer, which is one line.
const MOST_BYTES: usize = 64 << 10;
/// Default of `http.listen`.
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Returns the answer of `/ready` when the worker is ready.
///
/// `address` is that of `http.listen`; without one, `PREDICTD_HTTP__LISTEN`, then its default.
///
/// # Errors
/// The worker does not answer, or is not ready; then the error says why not.
pub async fn ready(address: Option<SocketAddr>) -> anyhow::Result<String> {
    let address = match (address, std::env::var("PREDICTD_HTTP__LISTEN")) {
        (Some(address), _) => address,
        (None, Ok(text)) if !text.is_empty() => text.parse().with_context(|| {
            format!("PREDICTD_HTTP__LISTEN: expected an IP address and a port, got {text:?}")
        })?,
        (None, _) => DEFAULT,
    };
    let address = reachable(address);
    let (status, body) =
        ask(address).await.with_context(|| format!("cannot ask the worker at {address}")).hint(
            "is it running? its `http.listen` must be this address (--address, or PREDICTD_HTTP__LISTEN)",
        )?;
    match status {
        StatusCode::OK => Ok(body.trim_end().to_owned()),
        StatusCode::SERVICE_UNAVAILABLE => bail!("{}", body.trim_end()),
        other => bail!("expected predictd at {address}, got an HTTP server that answers {other}"),
    }
}

async fn ask(address: SocketAddr) -> anyhow::Result<(StatusCode, String)> {
    // Without a proxy, which does not reach this machine's own addresses, and without loading certificates.
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .tls_certs_only([])
        .timeout(TIMEOUT)
        .build()?;
    let response = client.get(format!("http://{address}/ready")).send().await.map_err(Error::without_url)?;
    Ok((response.status(), read(response).await.map_err(Error::without_url)?))
}

async fn read(mut response: Response) -> reqwest::Result<String> {
    let mut body = Vec::new();
    while body.len() < MOST_BYTES
        && let Some(chunk) = response.chunk().await?
    {
        body.extend(chunk);
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// The address to ask: a worker that listens on every address is asked on the loopback one.
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
    fn a_worker_that_listens_on_every_address_is_asked_on_loopback() {
        for (listens, asked) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2"), ("10.0.0.1:3", "10.0.0.1:3")]
        {
            assert_eq!(reachable(listens.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
