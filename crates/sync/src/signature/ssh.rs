//! OpenSSH signatures: the certificate-less kind, with the namespace that Git uses.

use ssh_key::{Algorithm, AuthorizedKeys, HashAlg, PublicKey, SshSig};

use super::Refusal;

pub(super) type Key = PublicKey;

/// What `git` signs for, so that a signature for something else is not taken for one of a commit.
const NAMESPACE: &str = "git";

/// The keys of a file like `authorized_keys`.
pub(super) fn keys(content: &[u8]) -> Result<Vec<Key>, String> {
    let text = std::str::from_utf8(content).map_err(|_| "it is not text".to_owned())?;
    AuthorizedKeys::new(text)
        .map(|entry| match entry {
            Ok(entry) if entry.config_opts().is_empty() => Ok(entry.public_key().clone()),
            // `cert-authority`, `expiry-time` and others limit a key: to leave them out would widen it.
            Ok(entry) => Err(format!(
                "options are not understood: {:?}",
                entry.config_opts().as_str()
            )),
            Err(error) => Err(error.to_string()),
        })
        .collect()
}

pub(super) fn verify(keys: &[Key], content: &[u8], signature: &str) -> Result<String, Refusal> {
    let signature = SshSig::from_pem(signature).map_err(|error| Refusal::Unreadable(error.to_string()))?;
    let signer = PublicKey::from(signature.public_key().clone());
    let name = signer.fingerprint(HashAlg::Sha256).to_string();
    if !keys.iter().any(|key| key.key_data() == signer.key_data()) {
        return Err(Refusal::UnknownKey(name));
    }
    if signature.namespace() != NAMESPACE {
        let problem = format!("signed it for {:?}, not for {NAMESPACE:?}", signature.namespace());
        return Err(Refusal::Key { key: name, problem });
    }
    if matches!(
        signature.signature().algorithm(),
        Algorithm::Dsa | Algorithm::Rsa { hash: None }
    ) {
        let problem = "signed it with DSA or SHA-1, which can be forged".to_owned();
        return Err(Refusal::Key { key: name, problem });
    }
    match signer.verify(NAMESPACE, content, &signature) {
        Ok(()) => Ok(name),
        Err(_) => Err(Refusal::Mismatch(name)),
    }
}
