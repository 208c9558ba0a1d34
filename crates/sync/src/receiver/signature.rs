//! Pure: whether a request comes from someone who knows the token, by the ways of the Git servers.

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest,
    hmac::{self, Algorithm},
};
use http::HeaderMap;
use zeroize::Zeroizing;

/// How requests are proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// The path alone, which nobody can guess.
    Path,
    /// `X-Signature: sha256=…`, also sha1, sha384 and sha512.
    Generic,
    /// `X-Hub-Signature-256` of GitHub, or `X-Gitea-Signature`.
    GitHub,
    /// `X-Gitlab-Token`: the token itself.
    GitLab,
    /// `X-Hub-Signature`, of Bitbucket Server and Cloud.
    Bitbucket,
}

impl Proof {
    /// By `spec.type`; `None` for types that have nothing to do with Git.
    pub(super) fn of(kind: &str) -> Option<Self> {
        Some(match kind {
            "generic" => Self::Path,
            "generic-hmac" => Self::Generic,
            "github" => Self::GitHub,
            "gitlab" => Self::GitLab,
            "bitbucket" => Self::Bitbucket,
            _ => return None,
        })
    }

    /// What the request says has happened; `None` where the server has no such header.
    pub(super) fn event(self, headers: &HeaderMap) -> Option<&str> {
        let name = match self {
            Self::Path | Self::Generic => return None,
            Self::GitHub => "x-github-event",
            Self::GitLab => "x-gitlab-event",
            Self::Bitbucket => "x-event-key",
        };
        Some(text(headers, name).unwrap_or_default())
    }

    /// Whether requests have a header that says what has happened.
    pub(super) const fn names_events(self) -> bool {
        !matches!(self, Self::Path | Self::Generic)
    }
}

/// A request that is being proven, body piece by piece.
pub(super) struct Check {
    claimed: Claim,
    context: hmac::Context,
}

enum Claim {
    /// The request needs no other proof than its path.
    Nothing,
    /// It gave the token, or something else.
    Token { matches: bool },
    /// It says that this is the body's code.
    Code(Vec<u8>),
    /// It did not say.
    Missing,
}

impl Check {
    /// Begins with the headers. The work is the same whatever they say.
    pub(super) fn begin(proof: Proof, token: &Zeroizing<Vec<u8>>, headers: &HeaderMap) -> Self {
        let (algorithm, claimed) = match proof {
            Proof::Path => (hmac::HMAC_SHA256, Claim::Nothing),
            Proof::GitLab => {
                let given = headers
                    .get("x-gitlab-token")
                    .map_or(&b""[..], |value| value.as_bytes());
                (
                    hmac::HMAC_SHA256,
                    Claim::Token {
                        matches: same(given, token),
                    },
                )
            }
            Proof::Generic => prefixed(text(headers, "x-signature")),
            Proof::Bitbucket => prefixed(text(headers, "x-hub-signature")),
            Proof::GitHub => match text(headers, "x-hub-signature-256") {
                Some(signature) => sha256_only(prefixed(Some(signature))),
                None => (hmac::HMAC_SHA256, code(text(headers, "x-gitea-signature"))),
            },
        };
        let key = hmac::Key::new(algorithm, token);
        Self {
            claimed,
            context: hmac::Context::with_key(&key),
        }
    }

    /// A piece of the body.
    pub(super) fn update(&mut self, piece: &[u8]) {
        self.context.update(piece);
    }

    /// Whether it is proven.
    pub(super) fn finish(self) -> bool {
        let code = self.context.sign();
        match self.claimed {
            Claim::Nothing => true,
            Claim::Token { matches } => matches,
            Claim::Code(claimed) => verify_slices_are_equal(code.as_ref(), &claimed).is_ok(),
            Claim::Missing => false,
        }
    }
}

/// Compares without telling by its time how much is equal, or how long the token is.
fn same(given: &[u8], token: &[u8]) -> bool {
    let digest = |bytes: &[u8]| digest::digest(&digest::SHA256, bytes);
    verify_slices_are_equal(digest(given).as_ref(), digest(token).as_ref()).is_ok()
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// `sha256=0123…`
fn prefixed(signature: Option<&str>) -> (Algorithm, Claim) {
    let missing = (hmac::HMAC_SHA256, Claim::Missing);
    let Some((name, hex)) = signature.and_then(|signature| signature.split_once('=')) else {
        return missing;
    };
    let algorithm = match name {
        // A code of SHA-1 is not broken, and older servers have nothing else.
        "sha1" => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        "sha256" => hmac::HMAC_SHA256,
        "sha384" => hmac::HMAC_SHA384,
        "sha512" => hmac::HMAC_SHA512,
        _ => return missing,
    };
    (algorithm, code(Some(hex)))
}

fn sha256_only((algorithm, claim): (Algorithm, Claim)) -> (Algorithm, Claim) {
    if algorithm == hmac::HMAC_SHA256 {
        (algorithm, claim)
    } else {
        (hmac::HMAC_SHA256, Claim::Missing)
    }
}

fn code(hex: Option<&str>) -> Claim {
    hex.and_then(decode).map_or(Claim::Missing, Claim::Code)
}

/// Hex of a code, which has at most 64 bytes.
fn decode(hex: &str) -> Option<Vec<u8>> {
    if !hex.len().is_multiple_of(2) || hex.is_empty() || hex.len() > 128 {
        return None;
    }
    let digit = |byte: &u8| {
        char::from(*byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    hex.as_bytes()
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
