//! A SOCKS5 proxy (RFC 1928) for one user (RFC 1929).

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, TcpStream},
};

use anyhow::{bail, ensure};

use super::relay::{Relay, Targets, pass_on};

/// Connects for its user until it is dropped.
pub struct SocksProxy(Relay);

impl SocksProxy {
    /// Listens on loopback and lets in only this user with this password.
    pub fn start(user: &'static str, password: &'static str) -> anyhow::Result<Self> {
        Relay::start(move |client, targets| connect(client, targets, (user, password))).map(Self)
    }

    /// The address as a client is told.
    pub fn url(&self) -> String {
        format!("socks5://{}", self.0.address)
    }

    /// The `host:port` of all connections since the last call.
    pub fn targets(&self) -> Vec<String> {
        self.0.targets()
    }
}

fn connect(mut client: TcpStream, targets: &Targets, (user, password): (&str, &str)) -> anyhow::Result<()> {
    let [version] = read::<1>(&mut client)?;
    ensure!(version == 5, "not SOCKS5");
    let methods = counted(&mut client)?;
    // 2: by name and password; 255: no way.
    if !methods.contains(&2) {
        return Ok(client.write_all(&[5, 255])?);
    }
    client.write_all(&[5, 2])?;
    read::<1>(&mut client)?;
    let (name, word) = (counted(&mut client)?, counted(&mut client)?);
    if name != user.as_bytes() || word != password.as_bytes() {
        return Ok(client.write_all(&[1, 1])?);
    }
    client.write_all(&[1, 0])?;
    let [_, command, _, kind] = read::<4>(&mut client)?;
    ensure!(command == 1, "not CONNECT");
    let host = match kind {
        1 => Ipv4Addr::from(read::<4>(&mut client)?).to_string(),
        3 => String::from_utf8(counted(&mut client)?)?,
        4 => Ipv6Addr::from(read::<16>(&mut client)?).to_string(),
        _ => bail!("unknown kind of address"),
    };
    let target = format!("{host}:{}", u16::from_be_bytes(read::<2>(&mut client)?));
    targets.push(target.clone());
    let Ok(server) = TcpStream::connect(&target) else {
        return Ok(client.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0])?);
    };
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    pass_on(&mut client.try_clone()?, client, server)
}

fn read<const N: usize>(client: &mut TcpStream) -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    client.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A length and so many bytes.
fn counted(client: &mut TcpStream) -> anyhow::Result<Vec<u8>> {
    let [length] = read::<1>(client)?;
    let mut bytes = vec![0; length.into()];
    client.read_exact(&mut bytes)?;
    Ok(bytes)
}
