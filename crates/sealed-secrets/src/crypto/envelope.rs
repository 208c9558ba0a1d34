//! The framing of one item, without any cryptography.

/// Bytes of the AES-GCM tag at the end of every item.
pub const TAG_LEN: usize = 16;

/// One item taken apart: the wrapped session key and the encrypted value behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The session key under RSA-OAEP; as long as the modulus of the key that sealed it.
    pub wrapped_key: &'a [u8],
    /// The value under AES-GCM, tag included.
    pub ciphertext: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Splits `item` at its length prefix; `None` when it is shorter than the prefix says.
    pub fn parse(item: &'a [u8]) -> Option<Self> {
        let (prefix, rest) = item.split_first_chunk::<2>()?;
        let (wrapped_key, ciphertext) = rest.split_at_checked(usize::from(u16::from_be_bytes(*prefix)))?;
        Some(Self {
            wrapped_key,
            ciphertext,
        })
    }

    /// The bytes on the wire; `None` when the wrapped key is longer than the prefix can say.
    pub fn to_bytes(self) -> Option<Vec<u8>> {
        let prefix = u16::try_from(self.wrapped_key.len()).ok()?;
        let mut item = Vec::with_capacity(2 + self.wrapped_key.len() + self.ciphertext.len());
        item.extend_from_slice(&prefix.to_be_bytes());
        item.extend_from_slice(self.wrapped_key);
        item.extend_from_slice(self.ciphertext);
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_at_the_prefix() {
        let envelope = Envelope::parse(&[0, 2, 7, 8, 9]).unwrap();
        assert_eq!(
            envelope,
            Envelope {
                wrapped_key: &[7, 8],
                ciphertext: &[9]
            }
        );
        assert_eq!(envelope.to_bytes().unwrap(), [0, 2, 7, 8, 9]);
    }

    #[test]
    fn short_items_are_none() {
        for item in [&[][..], &[0], &[0, 1], &[0xff, 0xff, 1], &[1, 0, 1]] {
            assert_eq!(Envelope::parse(item), None, "{item:?}");
        }
    }
}
