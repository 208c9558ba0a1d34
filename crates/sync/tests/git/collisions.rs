//! SHA-1 is broken; the hasher that everything fetched goes through notices.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use gix_hash::{Kind, hasher};

/// The first 320 bytes of the two PDFs of <https://shattered.io>, up to where their states are equal again: the shortest known
/// texts with the same SHA-1. With the header of a Git object before them they differ again: of Git objects no pair is public.
const PAIR: [&str; 2] = [
    "JVBERi0xLjMKJeLjz9MKCgoxIDAgb2JqCjw8L1dpZHRoIDIgMCBSL0hlaWdodCAzIDAgUi9UeXBlIDQgMCBSL1N1YnR5cGUgNSAwIFIvRmlsdGVyIDYgMCBS\
     L0NvbG9yU3BhY2UgNyAwIFIvTGVuZ3RoIDggMCBSL0JpdHNQZXJDb21wb25lbnQgOD4+CnN0cmVhbQr/2P/+ACRTSEEtMSBpcyBkZWFkISEhISGFL+wJIzl1\
     nDmxocY8TJfh//4Bc0bckWa2fhGPApq2IbJWD/nKZ8yox/hbqEx5AwwrPeIY+G2zqQkB1d9FwU8m/t+z3DjpasIv571yjw5FvOBG0jxXD+sUE5i7VS71oKgr\
     4zH+pIA3uLXXHw4zLt+TrDUA603cDezBqGR5DHgsdiFWYN0wl5HQa9CvP5jNpLxGKbE=",
    "JVBERi0xLjMKJeLjz9MKCgoxIDAgb2JqCjw8L1dpZHRoIDIgMCBSL0hlaWdodCAzIDAgUi9UeXBlIDQgMCBSL1N1YnR5cGUgNSAwIFIvRmlsdGVyIDYgMCBS\
     L0NvbG9yU3BhY2UgNyAwIFIvTGVuZ3RoIDggMCBSL0JpdHNQZXJDb21wb25lbnQgOD4+CnN0cmVhbQr/2P/+ACRTSEEtMSBpcyBkZWFkISEhISGFL+wJIzl1\
     nDmxocY8TJfh//4Bf0bck6a2fgE7ApqqHbJWC0XKZ9aIx/hLjEx5H+ArPfYU+G2xaQkBxWtFwVMK/t+3YDjpcnIv561yjw5JBOBGwjBXD+nUE5ir4S71vJQr\
     4zVCpIAtmLXXDyozLsN/rDUU503cDyzBqHTNDHgwWiFWZGEwl4lga9C/P5jNqARGKaE=",
];

#[test]
fn texts_that_are_made_to_collide_are_refused() {
    let texts = PAIR.map(|text| STANDARD.decode(text).unwrap());
    assert_ne!(texts[0], texts[1]);
    let plain = |text: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, text).as_ref().to_vec();
    assert_eq!(
        plain(&texts[0]),
        plain(&texts[1]),
        "not the pair that it should be"
    );
    for text in &texts {
        // As gitoxide reads a pack: in pieces.
        let mut hashing = hasher(Kind::Sha1);
        for piece in text.chunks(100) {
            hashing.update(piece);
        }
        let error = hashing.try_finalize().unwrap_err();
        assert!(error.to_string().to_lowercase().contains("collision"), "{error}");
    }
    let mut innocent = hasher(Kind::Sha1);
    innocent.update(&texts[0][..192]);
    assert_eq!(
        innocent.try_finalize().unwrap().as_bytes(),
        plain(&texts[0][..192]).as_slice()
    );
}
