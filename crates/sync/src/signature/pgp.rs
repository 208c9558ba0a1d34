//! OpenPGP: a signature counts if the certificate says, by valid signatures of its own primary key, that the key which
//! made it may sign, and has neither expired nor been revoked (RFC 9580, 5.2.3 and 10.1).

use k8s_openapi::jiff::Timestamp;
use pgp::{
    composed::{Deserializable as _, DetachedSignature, SignedPublicKey, SignedPublicSubKey},
    crypto::hash::HashAlgorithm,
    packet::{Signature, SignatureType},
    types::{KeyDetails, Tag},
};

use super::Refusal;

pub(super) type Certificate = SignedPublicKey;

/// Clocks differ: a signature may be so many seconds ahead of ours.
const SKEW: i64 = 300;

/// The certificates of a file, armored or not.
pub(super) fn certificates(content: &[u8]) -> Result<Vec<Certificate>, String> {
    let said = |error: pgp::errors::Error| error.to_string();
    let all: Result<Vec<_>, _> = if content.trim_ascii_start().starts_with(b"-----BEGIN") {
        // One file may hold several blocks.
        let text = std::str::from_utf8(content).map_err(|_| "it is not text".to_owned())?;
        let mut all = Vec::new();
        for (start, _) in text.match_indices("-----BEGIN ") {
            let block = text.get(start..).unwrap_or_default();
            let (certificates, _) = SignedPublicKey::from_string_many(block).map_err(said)?;
            all.extend(certificates);
        }
        all.into_iter().collect()
    } else {
        SignedPublicKey::from_bytes_many(content).map_err(said)?.collect()
    };
    match all.map_err(said)? {
        all if all.is_empty() => Err("there is no key in it".to_owned()),
        all => Ok(all),
    }
}

pub(super) fn verify(
    certificates: &[Certificate],
    content: &[u8],
    signature: &str,
    now: Timestamp,
) -> Result<String, Refusal> {
    let (signature, _) =
        DetachedSignature::from_string(signature).map_err(|error| Refusal::Unreadable(error.to_string()))?;
    let signature = &signature.signature;
    if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
        return Err(Refusal::Unreadable("it does not sign a document".to_owned()));
    }
    let mut refusal = None;
    for certificate in certificates {
        for key in keys_of(certificate) {
            if !made_by(signature, key.details()) {
                continue;
            }
            match key.accept(certificate, signature, content, now.as_second()) {
                Ok(()) => return Ok(certificate.fingerprint().to_string()),
                Err(found) => refusal = Some(found),
            }
        }
    }
    Err(refusal.unwrap_or_else(|| Refusal::UnknownKey(issuer(signature))))
}

/// A key of a certificate that may have made a signature.
enum Key<'a> {
    Primary(&'a SignedPublicKey),
    Subkey(&'a SignedPublicSubKey),
}

fn keys_of(certificate: &Certificate) -> impl Iterator<Item = Key<'_>> {
    std::iter::once(Key::Primary(certificate)).chain(certificate.public_subkeys.iter().map(Key::Subkey))
}

fn made_by(signature: &Signature, key: &dyn KeyDetails) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    if fingerprints.is_empty() {
        return signature.issuer_key_id().contains(&&key.legacy_key_id());
    }
    fingerprints.contains(&&key.fingerprint())
}

fn issuer(signature: &Signature) -> String {
    let fingerprint = signature.issuer_fingerprint().first().map(ToString::to_string);
    let id = || signature.issuer_key_id().first().map(ToString::to_string);
    fingerprint
        .or_else(id)
        .unwrap_or_else(|| "an unnamed key".to_owned())
}

impl Key<'_> {
    fn details(&self) -> &dyn KeyDetails {
        match self {
            Self::Primary(certificate) => &certificate.primary_key,
            Self::Subkey(subkey) => &subkey.key,
        }
    }

    fn accept(
        &self,
        certificate: &Certificate,
        signature: &Signature,
        content: &[u8],
        now: i64,
    ) -> Result<(), Refusal> {
        let name = certificate.fingerprint().to_string();
        let refuse = |problem: &str| Refusal::Key {
            key: name.clone(),
            problem: problem.to_owned(),
        };
        let verified = match self {
            Self::Primary(certificate) => signature.verify(&certificate.primary_key, content),
            Self::Subkey(subkey) => signature.verify(&subkey.key, content),
        };
        if matches!(
            signature.hash_alg(),
            Some(HashAlgorithm::Md5 | HashAlgorithm::Sha1 | HashAlgorithm::Ripemd160)
        ) {
            return Err(refuse(
                "signed it with a hash that can be forged (MD5, SHA-1 or RIPEMD-160)",
            ));
        }
        if verified.is_err() {
            return Err(Refusal::Mismatch(name));
        }
        let Some(made) = signature.created().map(|created| i64::from(created.as_secs())) else {
            return Err(refuse("does not say when"));
        };
        if made > now + SKEW {
            return Err(refuse("signed it in the future: compare the clocks"));
        }
        if ends(made, signature.signature_expiration_time()).is_some_and(|end| end <= now) {
            return Err(refuse("signed it for a time that has passed"));
        }
        primary_in_force(certificate, now).map_err(|problem| refuse(&problem))?;
        let allowed = match self {
            Self::Primary(certificate) => primary_may_sign(certificate),
            Self::Subkey(subkey) => subkey_in_force(certificate, subkey, now),
        };
        allowed.map_err(|problem| refuse(&problem))
    }
}

/// The self-signatures of the primary key that are valid, with what they are about; the newest first.
fn self_signatures(certificate: &Certificate) -> Vec<&Signature> {
    let primary = &certificate.primary_key;
    let direct = certificate
        .details
        .direct_signatures
        .iter()
        .filter(|signature| signature.verify_key(primary).is_ok());
    let users = certificate.details.users.iter().flat_map(|user| {
        user.signatures.iter().filter(|signature| {
            made_by(signature, primary)
                && signature.typ() != Some(SignatureType::CertRevocation)
                && signature
                    .verify_certification(primary, Tag::UserId, &user.id)
                    .is_ok()
        })
    });
    let mut all: Vec<_> = direct.chain(users).collect();
    all.sort_by_key(|signature| std::cmp::Reverse(signature.created()));
    all
}

fn primary_in_force(certificate: &Certificate, now: i64) -> Result<(), String> {
    let primary = &certificate.primary_key;
    let revoked = |signature: &Signature| {
        signature.typ() == Some(SignatureType::KeyRevocation) && signature.verify_key(primary).is_ok()
    };
    if certificate.details.revocation_signatures.iter().any(revoked) {
        return Err("was revoked".to_owned());
    }
    let signatures = self_signatures(certificate);
    let newest = signatures
        .first()
        .ok_or("has no valid signature of its own: export it again")?;
    in_force(primary, newest, now)
}

fn primary_may_sign(certificate: &Certificate) -> Result<(), String> {
    match self_signatures(certificate).first() {
        Some(signature) if signature.key_flags().sign() => Ok(()),
        _ => Err("is not meant for signing".to_owned()),
    }
}

fn subkey_in_force(certificate: &Certificate, subkey: &SignedPublicSubKey, now: i64) -> Result<(), String> {
    let primary = &certificate.primary_key;
    let valid = |kind| {
        subkey.signatures.iter().filter(move |signature| {
            signature.typ() == Some(kind) && signature.verify_subkey_binding(primary, &subkey.key).is_ok()
        })
    };
    if valid(SignatureType::SubkeyRevocation).next().is_some() {
        return Err("used a subkey that was revoked".to_owned());
    }
    let binding = valid(SignatureType::SubkeyBinding)
        .max_by_key(|signature| signature.created())
        .ok_or("used a subkey that is not its own")?;
    // Without the signature back, a stranger's subkey could be claimed (RFC 9580, 5.2.3.34).
    let back = binding
        .embedded_signature()
        .is_some_and(|back| back.verify_primary_key_binding(&subkey.key, primary).is_ok());
    if !binding.key_flags().sign() || !back {
        return Err("used a subkey that is not meant for signing".to_owned());
    }
    in_force(&subkey.key, binding, now)
}

fn in_force(key: &dyn KeyDetails, says: &Signature, now: i64) -> Result<(), String> {
    let made = i64::from(key.created_at().as_secs());
    match ends(made, says.key_expiration_time()) {
        Some(end) if end <= now => {
            let when = Timestamp::from_second(end).map_or_else(|_| String::new(), |end| format!(" at {end}"));
            Err(format!("expired{when}"))
        }
        _ => Ok(()),
    }
}

/// When something ends; zero means never.
fn ends(begin: i64, lasts: Option<pgp::types::Duration>) -> Option<i64> {
    let seconds = lasts.map(|lasts| i64::from(lasts.as_secs()))?;
    (seconds > 0).then_some(begin + seconds)
}
