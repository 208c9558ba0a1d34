use super::super::FileUrls;
use super::*;

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn listed(refs: &[(&str, &str)]) -> Vec<ListedRef> {
    refs.iter()
        .map(|(name, id)| ListedRef {
            name: (*name).to_owned(),
            commit: id.parse().unwrap(),
            tag: None,
        })
        .collect()
}

#[test]
fn the_precedence_is_that_of_flux() {
    let all = ReferenceSpec {
        branch: Some("b"),
        tag: Some("t"),
        semver: Some("1.x"),
        name: Some("refs/x"),
        commit: Some(A),
    };
    let choose = |spec| Reference::from_spec(spec).unwrap();
    assert_eq!(
        choose(all),
        Reference::Commit {
            commit: A.parse().unwrap(),
            branch: Some("b".to_owned())
        }
    );
    let all = ReferenceSpec { commit: None, ..all };
    assert_eq!(choose(all), Reference::Name("refs/x".to_owned()));
    let all = ReferenceSpec { name: None, ..all };
    assert_eq!(choose(all), Reference::Semver("1.x".parse().unwrap()));
    let all = ReferenceSpec {
        semver: Some(""),
        ..all
    };
    assert_eq!(choose(all), Reference::Tag("t".to_owned()));
    let all = ReferenceSpec { tag: None, ..all };
    assert_eq!(choose(all), Reference::Branch("b".to_owned()));
    assert_eq!(
        choose(ReferenceSpec::default()),
        Reference::Branch("master".to_owned())
    );
}

#[test]
fn names_that_git_forbids_are_refused() {
    for name in [
        "-main",
        "a..b",
        "a b",
        "a\nb",
        "a\u{1b}[1m",
        "a:b",
        "a^",
        "a/",
        "x.lock",
    ] {
        assert!(
            Reference::from_spec(ReferenceSpec {
                branch: Some(name),
                ..Default::default()
            })
            .is_err(),
            "{name:?}"
        );
    }
    assert!(
        Reference::from_spec(ReferenceSpec {
            name: Some("main"),
            ..Default::default()
        })
        .is_err()
    );
    assert!(
        Reference::from_spec(ReferenceSpec {
            commit: Some("abc"),
            ..Default::default()
        })
        .is_err()
    );
}

#[test]
fn a_branch_is_not_mistaken_for_one_with_a_longer_name() {
    let refs = listed(&[("refs/heads/main-2", A), ("refs/heads/main", B)]);
    let resolved = Reference::Branch("main".to_owned()).select(&refs).unwrap();
    assert_eq!(resolved.revision.to_string(), format!("main@sha1:{B}"));
    assert!(Reference::Branch("mai".to_owned()).select(&refs).is_none());
}

#[test]
fn the_highest_version_in_the_range_is_taken() {
    let refs = listed(&[
        ("refs/tags/v1.9.0", A),
        ("refs/tags/v1.10.0", B),
        ("refs/tags/2.0.0", A),
        ("refs/tags/1.11.0-rc.1", A),
        ("refs/tags/1.99", A),
        ("refs/tags/nightly", A),
    ]);
    let select = |range: &str| {
        Reference::Semver(range.parse().unwrap())
            .select(&refs)
            .map(|it| it.revision.to_string())
    };
    assert_eq!(select("1.x"), Some(format!("v1.10.0@sha1:{B}")));
    assert_eq!(
        select(">=1.0.0-0 <2.0.0-0"),
        Some(format!("1.11.0-rc.1@sha1:{A}"))
    );
    assert_eq!(select("*"), Some(format!("2.0.0@sha1:{A}")));
    assert_eq!(select("3.x"), None);
}

#[test]
fn a_missing_branch_names_a_few_that_exist() {
    let url = RemoteUrl::parse("https://example.com/repo", FileUrls::Refused).unwrap();
    let refs: Vec<ListedRef> = (0..8)
        .flat_map(|n| listed(&[(&format!("refs/heads/b{n}"), A), (&format!("refs/tags/t{n}"), A)]))
        .collect();
    assert_eq!(
        Reference::Branch("main".to_owned())
            .not_found(&url, &refs)
            .to_string(),
        "branch 'main' not found in 'https://example.com/repo' (there are: b0, b1, b2, b3, b4, 3 more)"
    );
}
