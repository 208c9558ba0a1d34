//! The certificate that carries a public key to people, and says from when to when it seals.

use k8s_openapi::jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyUsagePurpose, SerialNumber,
};
use x509_cert::Certificate as X509;
use x509_cert::der::{Encode as _, oid::ObjectIdentifier};

use super::key::{KeyError, PublicKey, to_pkcs8_pem};

/// rsaEncryption, the only kind of key that can wrap a session key here.
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// Why a certificate cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertError {
    /// No PEM block of a certificate.
    #[error("failed to read any certificates")]
    None,
    /// The first certificate is damaged.
    #[error("the certificate is malformed: {0}")]
    Malformed(String),
    /// Some other algorithm.
    #[error("expected RSA public key but found {0}")]
    NotRsa(String),
    /// `not_after` has passed.
    #[error("failed to encrypt using an expired certificate on {0}")]
    Expired(String),
}

/// A sealing certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The PEM text it was read from, its first certificate only.
    pub pem: String,
    /// The key that seals.
    pub public_key: PublicKey,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
}

impl Certificate {
    /// Reads the first certificate of `pem`; what stands around PEM blocks is ignored.
    pub fn from_pem(pem: &[u8]) -> Result<Self, CertError> {
        let text = String::from_utf8_lossy(pem);
        let start = text.find("-----BEGIN CERTIFICATE-----").ok_or(CertError::None)?;
        let end = "-----END CERTIFICATE-----";
        let rest = text.get(start..).unwrap_or_default();
        let stop = rest.find(end).ok_or(CertError::None)? + end.len();
        let block = rest.get(..stop).unwrap_or_default();
        let malformed = |error: &dyn std::fmt::Display| CertError::Malformed(error.to_string());
        let chain =
            X509::load_pem_chain(format!("{block}\n").as_bytes()).map_err(|error| malformed(&error))?;
        let tbs = chain.first().ok_or(CertError::None)?.tbs_certificate();
        let spki = tbs.subject_public_key_info();
        if spki.algorithm.oid != RSA_ENCRYPTION {
            return Err(CertError::NotRsa(spki.algorithm.oid.to_string()));
        }
        let der = spki.to_der().map_err(|error| malformed(&error))?;
        let public_key = PublicKey::from_spki_der(&der).map_err(|error| malformed(&error))?;
        let time = |time: x509_cert::time::Time| {
            i64::try_from(time.to_unix_duration().as_secs())
                .ok()
                .and_then(|seconds| Timestamp::from_second(seconds).ok())
                .ok_or_else(|| CertError::Malformed("its validity is out of range".to_owned()))
        };
        Ok(Self {
            pem: format!("{block}\n"),
            public_key,
            not_before: time(tbs.validity().not_before)?,
            not_after: time(tbs.validity().not_after)?,
        })
    }

    /// Refuses a certificate that has expired at `now`: nobody should find out when it is too late to seal anew.
    pub fn usable_at(&self, now: Timestamp) -> Result<&Self, CertError> {
        if now > self.not_after {
            return Err(CertError::Expired(
                self.not_after.strftime("%B %-d, %Y").to_string(),
            ));
        }
        Ok(self)
    }
}

/// What a new sealing certificate says.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Subject and issuer; empty for an empty name.
    pub common_name: &'a str,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
    /// 128 random bits.
    pub serial: [u8; 16],
}

/// Signs a certificate for the PKCS#1 PEM `private_key` with itself; PEM.
///
/// encipherOnly and CA:true are what existing clients and auditors have always seen.
pub fn self_signed(private_key: &str, request: &Request<'_>) -> Result<String, KeyError> {
    let failed = |error: rcgen::Error| CertError::Malformed(error.to_string());
    let pair =
        rcgen::KeyPair::from_pkcs8_pem_and_sign_algo(&to_pkcs8_pem(private_key)?, &rcgen::PKCS_RSA_SHA256)
            .map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if !request.common_name.is_empty() {
        params
            .distinguished_name
            .push(DnType::CommonName, request.common_name);
    }
    let mut serial = request.serial;
    // A serial number is a positive integer of at most 20 bytes.
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let at = |time: Timestamp| {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let seconds = u64::try_from(time.as_second()).unwrap_or_default();
        epoch + std::time::Duration::from_secs(seconds)
    };
    params.not_before = at(request.not_before);
    params.not_after = at(request.not_after);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::EncipherOnly];
    Ok(params.self_signed(&pair).map_err(failed)?.pem())
}
