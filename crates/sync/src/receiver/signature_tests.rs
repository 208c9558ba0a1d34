use http::HeaderValue;

use super::*;

const TOKEN: &[u8] = b"It's a Secret to Everybody";
const BODY: &[u8] = b"Hello, World!";
/// GitHub's documentation gives this code for that token and body.
const CODE: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

fn proven(proof: Proof, headers: &[(&'static str, String)], body: &[u8]) -> bool {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, HeaderValue::from_str(value).unwrap());
    }
    let mut check = Check::begin(proof, &Zeroizing::new(TOKEN.to_vec()), &map);
    for piece in body.chunks(5) {
        check.update(piece);
    }
    check.finish()
}

fn hex(algorithm: Algorithm, body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(algorithm, TOKEN), body);
    tag.as_ref()
        .iter()
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

#[test]
fn each_server_is_believed_by_its_own_header() {
    let sha256 = format!("sha256={CODE}");
    for (proof, header, value) in [
        (Proof::GitHub, "x-hub-signature-256", sha256.clone()),
        (Proof::GitHub, "x-gitea-signature", CODE.to_owned()),
        (Proof::GitHub, "x-gitea-signature", CODE.to_uppercase()),
        (Proof::Bitbucket, "x-hub-signature", sha256.clone()),
        (Proof::Generic, "x-signature", sha256.clone()),
        (
            Proof::Generic,
            "x-signature",
            format!("sha1={}", hex(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, BODY)),
        ),
        (
            Proof::Generic,
            "x-signature",
            format!("sha384={}", hex(hmac::HMAC_SHA384, BODY)),
        ),
        (
            Proof::Generic,
            "x-signature",
            format!("sha512={}", hex(hmac::HMAC_SHA512, BODY)),
        ),
    ] {
        let headers = [(header, value)];
        assert!(proven(proof, &headers, BODY), "{headers:?}");
        assert!(!proven(proof, &headers, b"Hello, World?"), "{headers:?}");
        assert!(!proven(proof, &headers, b""), "{headers:?}");
    }
    let token = String::from_utf8(TOKEN.to_vec()).unwrap();
    assert!(proven(Proof::GitLab, &[("x-gitlab-token", token)], BODY));
    assert!(proven(Proof::Path, &[], BODY));
}

#[test]
fn nothing_short_wrong_or_in_the_wrong_place_is_believed() {
    for (proof, header, value) in [
        (Proof::GitHub, "x-other", String::new()),
        (Proof::GitHub, "x-hub-signature-256", String::new()),
        (Proof::GitHub, "x-hub-signature-256", CODE.to_owned()),
        (
            Proof::GitHub,
            "x-hub-signature-256",
            format!("sha256={}", &CODE[..62]),
        ),
        (
            Proof::GitHub,
            "x-hub-signature-256",
            format!("sha256={}", &CODE[..63]),
        ),
        (Proof::GitHub, "x-hub-signature-256", format!("sha256={CODE}00")),
        (Proof::GitHub, "x-hub-signature-256", "sha256=".to_owned()),
        (Proof::GitHub, "x-hub-signature-256", format!("md5={CODE}")),
        // The older header of GitHub, and the algorithm of it.
        (Proof::GitHub, "x-hub-signature", format!("sha256={CODE}")),
        (
            Proof::GitHub,
            "x-hub-signature-256",
            format!("sha1={}", hex(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, BODY)),
        ),
        (
            Proof::Generic,
            "x-signature",
            format!("sha256={}", "zz".repeat(32)),
        ),
        (Proof::Generic, "x-signature", "sha256=".repeat(100)),
        (Proof::Generic, "x-hub-signature-256", format!("sha256={CODE}")),
        (
            Proof::GitLab,
            "x-gitlab-token",
            "It's a Secret to Everybod".to_owned(),
        ),
        (Proof::GitLab, "x-gitlab-token", String::new()),
        (Proof::GitLab, "x-other", String::new()),
    ] {
        assert!(
            !proven(proof, &[(header, value.clone())], BODY),
            "{header}: {value}"
        );
    }
}

#[test]
fn events_have_the_names_of_their_servers() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("x-github-event", "push"),
        ("x-gitlab-event", "Push Hook"),
        ("x-event-key", "repo:push"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    assert_eq!(Proof::GitHub.event(&headers), Some("push"));
    assert_eq!(Proof::GitLab.event(&headers), Some("Push Hook"));
    assert_eq!(Proof::Bitbucket.event(&headers), Some("repo:push"));
    assert_eq!(Proof::Generic.event(&headers), None);
    assert_eq!(Proof::GitHub.event(&HeaderMap::new()), Some(""));
    assert_eq!(Proof::of("dockerhub"), None);
}
