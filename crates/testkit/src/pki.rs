//! Certificates and keys of one control plane. They live and die with its directory.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

/// Names the API server answers to, wherever it is.
const SERVER_NAMES: [&str; 6] = [
    "127.0.0.1",
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// The certificate authority of a control plane.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, both PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mut params = params("plumbline-test-ca", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().context("cannot generate a key")?;
        let certificate = params
            .self_signed(&key)
            .context("cannot sign the CA certificate")?;
        Ok(Self {
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        })
    }

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// `addresses` are those it has beside the loopback interface's.
    pub(crate) fn server(&self, addresses: &[&str]) -> anyhow::Result<Identity> {
        let names = SERVER_NAMES
            .into_iter()
            .chain(addresses.iter().copied())
            .map(String::from);
        let mut params =
            CertificateParams::new(names.collect::<Vec<_>>()).context("a server name is invalid")?;
        params.distinguished_name = subject("kube-apiserver", None);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    /// `user` and `group` are who RBAC takes the bearer for.
    pub(crate) fn client(&self, user: &str, group: Option<&str>) -> anyhow::Result<Identity> {
        let mut params = params(user, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> anyhow::Result<Identity> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().context("cannot generate a key")?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .context("cannot sign a certificate")?;
        Ok(Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// A kubeconfig for `identity`.
    pub(crate) fn kubeconfig(&self, identity: &Identity, address: &str, port: u16) -> String {
        let [ca, certificate, key] =
            [&self.pem, &identity.certificate, &identity.key].map(|pem| STANDARD.encode(pem));
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters:\n- name: test\n  cluster:\n    server: https://{address}:{port}\n    \
             certificate-authority-data: {ca}\n\
             contexts:\n- name: test\n  context:\n    cluster: test\n    user: test\n\
             users:\n- name: test\n  user:\n    client-certificate-data: {certificate}\n    \
             client-key-data: {key}\n"
        )
    }
}

/// The keys that sign and verify ServiceAccount tokens, both PEM: private, public.
pub(crate) fn token_keys() -> anyhow::Result<(String, String)> {
    let key = KeyPair::generate().context("cannot generate a key")?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

fn params(name: &str, organization: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(name, organization);
    params
}

fn subject(name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    if let Some(organization) = organization {
        subject.push(DnType::OrganizationName, organization);
    }
    subject
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(path: &Path, contents: &str) -> anyhow::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
        .open(path)
        .and_then(|mut file| file.write_all(contents.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}
