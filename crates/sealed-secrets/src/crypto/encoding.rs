//! Base64 as the Go clients read it.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Padding is required, stray bits behind the last byte are not looked at.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Decodes standard base64 with Go's leniency: line breaks anywhere (wrapped YAML scalars exist) and non-zero
/// trailing bits pass, spaces and missing padding do not.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    if text.bytes().any(|byte| matches!(byte, b'\r' | b'\n')) {
        let unwrapped: Vec<u8> = text
            .bytes()
            .filter(|byte| !matches!(byte, b'\r' | b'\n'))
            .collect();
        LENIENT.decode(unwrapped).ok()
    } else {
        LENIENT.decode(text).ok()
    }
}

/// Encodes as standard base64 with padding.
pub fn encode(bytes: &[u8]) -> String {
    LENIENT.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_go_accepts() {
        assert_eq!(decode("Zm9v\r\nYmFy\n").as_deref(), Some(&b"foobar"[..]));
        assert_eq!(
            decode("Zm9=").as_deref(),
            Some(&b"fo"[..]),
            "non-zero trailing bits"
        );
        assert_eq!(decode("Zm9vY\nmE=\n").as_deref(), Some(&b"fooba"[..]));
        assert_eq!(decode("").as_deref(), Some(&b""[..]));
    }

    #[test]
    fn refuses_what_go_refuses() {
        for text in [
            "Zm9v YmFy",
            "Zm8",
            "Zm9vYg=",
            "_-==",
            "Zg==Zg==",
            "Zm9v\t",
            "=",
            "A",
            "Zm 8=",
        ] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }
}
