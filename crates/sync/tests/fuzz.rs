//! The fuzz targets with random and mutated input, bounded to seconds: the same functions that `cargo fuzz` drives.

use proptest::{collection, prelude::*};

#[expect(
    unreachable_pub,
    clippy::expect_used,
    reason = "public where cargo-fuzz uses it, and made to panic"
)]
#[path = "../../../fuzz/src/sync.rs"]
mod targets;

/// Input that gets further than random bytes do.
const SEEDS: [&str; 8] = [
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: b}\ndata:\n  k: |\n    v\n---\n# x\n",
    "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Secret\n  metadata: {name: s}\n  stringData: {a: b}\n",
    "a: &a [1, 0x1f, .inf, ~, yes, 1_000, 2001-01-01]\nb: *a\nc: {<<: *d}\n",
    "? [complex]\n: !!str 1\n\"\\u263a\": 'it''s'\n",
    "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: 'a:b__c', labels: null, annotations: {x: y}}\nstatus: {}\n",
    "${a}-${b:=x}-${n/8/9}-${a:1:2}-$${a}-${c:-${b}}-${a##h*}-${a^^}",
    "${a",
    "# c\n*.yaml\n!/deploy/a.yaml\ndeploy/**/b.*\n\\#x\n[a-z]/\n/ä\n",
];

/// A seed with pieces cut out, doubled, or replaced by random bytes.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let edit = (
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        0..3_u8,
        collection::vec(any::<u8>(), 0..4),
    );
    (0..SEEDS.len(), collection::vec(edit, 0..6)).prop_map(|(seed, edits)| {
        let mut bytes = SEEDS[seed].as_bytes().to_vec();
        for (from, to, how, new) in edits {
            let (from, to) = (from.index(bytes.len() + 1), to.index(bytes.len() + 1));
            let (from, to) = (from.min(to), from.max(to));
            let piece = bytes[from..to].to_vec();
            let with = match how {
                0 => Vec::new(),
                1 => [piece.clone(), piece].concat(),
                _ => new,
            };
            bytes.splice(from..to, with);
        }
        bytes
    })
}

fn input() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![3 => mutated(), 1 => collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn yaml(data in input()) {
        targets::yaml(&data);
    }

    #[test]
    fn manifests(data in input()) {
        targets::manifests(&data);
    }

    #[test]
    fn substitute(data in input()) {
        targets::substitute(&data);
    }

    #[test]
    fn ignore(data in input()) {
        targets::ignore(&data);
    }
}

/// What cargo-fuzz found: lines that end in a carriage return alone.
#[test]
fn found_by_fuzzing() {
    targets::yaml(b"\r\r\r\rA");
}
