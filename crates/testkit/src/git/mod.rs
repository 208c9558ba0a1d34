//! Real Git repositories, and real servers for them: `git http-backend` behind a small HTTP server, and `sshd`.

pub(crate) mod cgi;
mod http;
mod proxy;
mod relay;
mod repository;
mod signer;
mod socks;
mod ssh;

pub use self::{
    http::{Access, ClientIdentity, Fault, GitRequest, GitServer},
    proxy::HttpProxy,
    repository::Repository,
    signer::Signer,
    socks::SocksProxy,
    ssh::SshServer,
};
