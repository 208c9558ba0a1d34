//! Signatures that the real `git`, `gpg` and `ssh-keygen` made.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, jiff::Timestamp};
use plumbline_sync::{
    git::{Reference, ReferenceSpec, Resolved},
    signature::{Keys, KeysError, Refusal},
};
use plumbline_testkit::git::{GitServer, Repository, Signer};

use super::{World, branch, remote};

fn keys(entries: &[(&str, &str)]) -> Result<Keys, KeysError> {
    let entry = |(name, text): &(&str, &str)| ((*name).to_owned(), ByteString(text.as_bytes().to_vec()));
    Keys::parse(&entries.iter().map(entry).collect::<BTreeMap<_, _>>())
}

fn pgp_keys(signer: &Signer) -> Keys {
    keys(&[("ada.asc", &signer.public_key().unwrap())]).unwrap()
}

impl World {
    fn fetched(&self, reference: &Reference) -> Resolved {
        let mirror = self.mirror();
        let resolved = mirror.resolve(reference).unwrap();
        mirror.fetch(&resolved).unwrap();
        resolved
    }

    fn verify_head(&self, keys: &Keys) -> Result<String, Refusal> {
        let resolved = self.fetched(&branch("main"));
        let signed = self.mirror().signed_commit(resolved.commit).unwrap();
        keys.verify(&signed.content, signed.signature.as_deref(), Timestamp::now())
    }

    fn pgp(&self, algorithm: &str, expires: &str, made: Option<&str>) -> Signer {
        let signer = Signer::pgp(&self.directory.path().join("gpg"), algorithm, expires, made).unwrap();
        signer.use_for(&self.repository).unwrap();
        signer
    }

    /// Commits the content of HEAD's commit, changed by `change`: git does not sign it anew.
    fn forge(&self, change: impl Fn(String) -> String) {
        let raw = self.repository.git(&["cat-file", "commit", "HEAD"]).unwrap() + "\n";
        let file = self.directory.path().join("forged");
        std::fs::write(&file, change(raw)).unwrap();
        let file = file.to_string_lossy();
        let forged = self
            .repository
            .git(&["hash-object", "-t", "commit", "-w", &file])
            .unwrap();
        self.repository
            .git(&["update-ref", "refs/heads/main", &forged])
            .unwrap();
    }
}

fn tag(name: &str) -> Reference {
    Reference::from_spec(ReferenceSpec {
        tag: Some(name),
        ..Default::default()
    })
    .unwrap()
}

#[test]
fn openpgp_keys_of_every_usual_kind_verify() {
    for algorithm in ["ed25519", "rsa3072", "nistp256"] {
        let world = World::new();
        let signer = world.pgp(algorithm, "never", None);
        world.repository.commit("signed").unwrap();
        let by = world.verify_head(&pgp_keys(&signer)).unwrap();
        assert_eq!(by.to_uppercase(), signer.fingerprint(), "{algorithm}");
    }
}

#[test]
fn openssh_keys_of_every_usual_kind_verify() {
    for kind in ["ed25519", "rsa", "ecdsa"] {
        let world = World::new();
        let signer = Signer::ssh(&world.directory.path().join("key"), kind).unwrap();
        signer.use_for(&world.repository).unwrap();
        world.repository.commit("signed").unwrap();
        let public = signer.public_key().unwrap();
        let by = world
            .verify_head(&keys(&[("ada.sshpub", &public)]).unwrap())
            .unwrap();
        assert!(by.starts_with("SHA256:"), "{by}");
    }
}

#[test]
fn one_of_several_keys_is_enough_and_a_stranger_is_named() {
    let world = World::new();
    let signer = world.pgp("ed25519", "never", None);
    world.repository.commit("signed").unwrap();
    let other = Signer::pgp(&world.directory.path().join("o"), "ed25519", "never", None).unwrap();
    let (own, others) = (signer.public_key().unwrap(), other.public_key().unwrap());
    let both = keys(&[("all.asc", &format!("{others}\n{own}"))]).unwrap();
    assert!(world.verify_head(&both).is_ok());
    let stranger = world.verify_head(&pgp_keys(&other)).unwrap_err();
    assert_eq!(
        stranger.to_string().to_uppercase(),
        Refusal::UnknownKey(signer.fingerprint().to_owned())
            .to_string()
            .to_uppercase()
    );
}

#[test]
fn unsigned_changed_and_misread_commits_are_refused() {
    let world = World::new();
    let signer = world.pgp("ed25519", "never", None);
    let keys = pgp_keys(&signer);
    assert_eq!(world.verify_head(&keys), Err(Refusal::Unsigned));
    world.repository.commit("signed").unwrap();
    world.verify_head(&keys).unwrap();
    world.forge(|raw| raw.replace("\nsigned\n", "\nforged\n"));
    assert!(matches!(world.verify_head(&keys), Err(Refusal::Mismatch(_))));
    world.forge(|raw| raw.replace("BEGIN PGP SIGNATURE", "BEGIN PGP NONSENSE"));
    assert!(matches!(world.verify_head(&keys), Err(Refusal::Unreadable(_))));
}

#[test]
fn a_key_that_has_expired_or_was_revoked_does_not_count() {
    let world = World::new();
    let signer = world.pgp("ed25519", "1d", Some("20200101T000000"));
    world.repository.commit("signed in time").unwrap();
    let expired = world.verify_head(&pgp_keys(&signer)).unwrap_err().to_string();
    assert!(expired.contains("expired at 2020-01-02T00:00:00Z"), "{expired}");

    let world = World::new();
    let signer = world.pgp("ed25519", "never", None);
    world.repository.commit("signed before").unwrap();
    world.verify_head(&pgp_keys(&signer)).unwrap();
    signer.revoke().unwrap();
    let revoked = world.verify_head(&pgp_keys(&signer)).unwrap_err().to_string();
    assert!(revoked.contains("was revoked"), "{revoked}");
}

#[test]
fn a_subkey_signs_for_its_certificate() {
    let world = World::new();
    let mut signer = world.pgp("ed25519", "never", None);
    signer.add_subkey("rsa2048", "never").unwrap();
    world.repository.commit("by the subkey").unwrap();
    let used = world.repository.git(&["log", "-1", "--format=%GF %GP"]).unwrap();
    let (subkey, primary) = used.split_once(' ').unwrap();
    assert!(subkey != primary, "gpg did not use the subkey: {used}");
    let by = world.verify_head(&pgp_keys(&signer)).unwrap();
    assert_eq!(by.to_uppercase(), signer.fingerprint());
}

#[test]
fn a_signature_for_something_else_is_none_of_a_commit() {
    let world = World::new();
    let signer = Signer::ssh(&world.directory.path().join("key"), "ed25519").unwrap();
    let content = world.directory.path().join("letter");
    std::fs::write(&content, "a letter").unwrap();
    let status = std::process::Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", "file", "-f"])
        .arg(world.directory.path().join("key/key"))
        .arg(&content)
        .status()
        .unwrap();
    assert!(status.success());
    let signature = std::fs::read(content.with_extension("sig")).unwrap();
    let keys = keys(&[("ada.sshpub", &signer.public_key().unwrap())]).unwrap();
    let refused = keys
        .verify(b"a letter", Some(&signature), Timestamp::now())
        .unwrap_err();
    assert!(
        refused.to_string().contains("for \"file\", not for \"git\""),
        "{refused}"
    );
}

#[test]
fn signed_tags_are_fetched_with_their_commit() {
    let world = World::new();
    let signer = world.pgp("ed25519", "never", None);
    world.repository.commit("first").unwrap();
    world
        .repository
        .git(&["tag", "-s", "-m", "one", "v1.0.0"])
        .unwrap();
    let resolved = world.fetched(&tag("v1.0.0"));
    let found = world
        .mirror()
        .tag(resolved.commit, resolved.tag.unwrap())
        .unwrap();
    assert_eq!(
        (found.name.as_str(), found.commit),
        ("v1.0.0", Some(resolved.commit))
    );
    let keys = pgp_keys(&signer);
    let verify = |signed: &plumbline_sync::git::Signed| {
        keys.verify(&signed.content, signed.signature.as_deref(), Timestamp::now())
    };
    verify(&found.signed).unwrap();
    // The commit is here already: the tag alone is fetched.
    world
        .repository
        .git(&["tag", "-s", "-m", "two", "v1.0.1"])
        .unwrap();
    let resolved = world.fetched(&tag("v1.0.1"));
    verify(
        &world
            .mirror()
            .tag(resolved.commit, resolved.tag.unwrap())
            .unwrap()
            .signed,
    )
    .unwrap();
    // A tag that is only a name has nothing to sign.
    world
        .repository
        .git(&["-c", "tag.gpgsign=false", "tag", "light"])
        .unwrap();
    assert_eq!(world.fetched(&tag("light")).tag, None);
    // The signed tag, under a name it was not signed for.
    world
        .repository
        .git(&["update-ref", "refs/tags/v2.0.0", "refs/tags/v1.0.0"])
        .unwrap();
    let moved = world.fetched(&tag("v2.0.0"));
    assert_eq!(
        world.mirror().tag(moved.commit, moved.tag.unwrap()).unwrap().name,
        "v1.0.0"
    );
}

#[test]
fn repositories_with_sha256_are_signed_too() {
    let directory = tempfile::TempDir::new().unwrap();
    let repository = Repository::init_with(directory.path(), "sha256").unwrap();
    let server = GitServer::http(&repository).unwrap();
    let ada = Signer::pgp(&directory.path().join("gpg"), "ed25519", "never", None).unwrap();
    ada.use_for(&repository).unwrap();
    repository.commit("signed").unwrap();
    let mirrors = plumbline_sync::git::Mirrors::new(&directory.path().join("storage")).unwrap();
    let mirror = mirrors.open(remote(&server.url())).unwrap();
    let resolved = mirror.resolve(&branch("main")).unwrap();
    mirror.fetch(&resolved).unwrap();
    let signed = mirror.signed_commit(resolved.commit).unwrap();
    pgp_keys(&ada)
        .verify(&signed.content, signed.signature.as_deref(), Timestamp::now())
        .unwrap();
}

#[test]
fn keys_that_cannot_be_read_are_named() {
    assert_eq!(keys(&[]).err(), Some(KeysError::Empty));
    let directory = tempfile::TempDir::new().unwrap();
    let authority = Signer::ssh(directory.path(), "ed25519").unwrap();
    let authority = format!("cert-authority {}", authority.public_key().unwrap());
    for (name, text, expected) in [
        (
            "a.asc",
            "nonsense",
            "the entry \"a.asc\" is no OpenPGP public key",
        ),
        (
            "b.sshpub",
            "nonsense",
            "the entry \"b.sshpub\" is no list of OpenSSH public keys",
        ),
        (
            "c.sshpub",
            &authority,
            "options are not understood: \"cert-authority\"",
        ),
    ] {
        let error = keys(&[(name, text)]).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
