//! Bytes as text and back. Values need not be UTF-8, and Go's strings are bytes: a byte that is none of UTF-8 travels
//! through the template as a private character.

/// The private characters: this plus the byte, 0x80 to 0xff.
const BASE: u32 = 0x0010_ff00;

/// `bytes` as text; lossless.
pub(super) fn from_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if byte_of(c).is_some() {
                // A character that means a byte to us: its own bytes, one by one.
                c.encode_utf8(&mut [0; 4])
                    .bytes()
                    .for_each(|byte| push(&mut text, byte));
            } else {
                text.push(c);
            }
        }
        chunk.invalid().iter().for_each(|byte| push(&mut text, *byte));
    }
    text
}

/// The bytes that `text` stands for.
pub(super) fn to_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match byte_of(c) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

fn push(text: &mut String, byte: u8) {
    // Every byte above 0x7f is a valid character there.
    text.extend(char::from_u32(BASE + u32::from(byte)));
}

fn byte_of(c: char) -> Option<u8> {
    u32::from(c)
        .checked_sub(BASE + 0x80)
        .and_then(|_| u8::try_from(u32::from(c) - BASE).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_is_lost(bytes in proptest::collection::vec(any::<u8>(), 0..64), text in any::<String>()) {
            prop_assert_eq!(super::to_bytes(&super::from_bytes(&bytes)), bytes);
            prop_assert_eq!(super::to_bytes(&super::from_bytes(text.as_bytes())), text.as_bytes());
        }
    }
}
