use super::*;

fn matcher(spec: Option<&str>, files: &[(&str, &str)]) -> Matcher {
    let files: Vec<_> = files
        .iter()
        .map(|(directory, text)| ((*directory).to_owned(), text.as_bytes().to_vec()))
        .collect();
    IgnoreRules::new(spec).unwrap().matcher(&files).unwrap()
}

#[track_caller]
fn assert_excluded(matcher: &Matcher, excluded: &[&str], kept: &[&str]) {
    for path in excluded {
        assert!(matcher.excludes(path), "{path} must be excluded");
    }
    for path in kept {
        assert!(!matcher.excludes(path), "{path} must be kept");
    }
}

#[test]
fn the_defaults_of_flux_hold_without_other_rules() {
    assert_excluded(
        &matcher(None, &[]),
        &[
            ".gitignore",
            "a/.gitmodules",
            ".github/workflows/ci.yaml",
            "a/logo.png",
            "x.tar.gz",
            ".travis.yml",
            "a/.sops.yaml",
            ".flux.yaml",
        ],
        &["a.yaml", "a/b.yaml", "github/a.yaml", ".sourceignore"],
    );
}

#[test]
fn spec_ignore_replaces_all_defaults_but_those_of_version_control() {
    assert_excluded(
        &matcher(Some("/docs\n*.txt"), &[]),
        &["docs/a.yaml", "a/b.txt", ".gitignore"],
        &["logo.png", ".github/ci.yaml", "a/docs/a.yaml"],
    );
    // An empty one is given all the same.
    assert_excluded(&matcher(Some(""), &[]), &[".gitattributes"], &["logo.png"]);
}

#[test]
fn source_ignore_files_hold_below_their_directory_and_replace_the_defaults() {
    let matcher = matcher(None, &[("", "*.md"), ("apps", "/secret.yaml\ntest/")]);
    assert_excluded(
        &matcher,
        &[
            "README.md",
            "apps/x.md",
            "apps/secret.yaml",
            "apps/test/a.yaml",
            "apps/a/test/b.yaml",
        ],
        &[
            "secret.yaml",
            "test/a.yaml",
            "apps/a/secret.yaml",
            "logo.png",
            "apps2/secret.yaml",
        ],
    );
}

#[test]
fn the_last_match_wins_and_spec_ignore_comes_last() {
    let both = matcher(Some("!keep.md"), &[("", "*.md"), ("a", "!b.md")]);
    assert_excluded(&both, &["x.md", "c/b.md"], &["keep.md", "a/keep.md", "a/b.md"]);
}

#[test]
fn everything_but_one_directory_as_the_flux_guide_writes_it() {
    for spec in [
        "/*\n!/deploy",
        "/*\n!/deploy/",
        "/*\n!/deploy/**",
        "/**\n!/deploy/**",
    ] {
        assert_excluded(
            &matcher(Some(spec), &[]),
            &["a.yaml", "other/a.yaml"],
            &["deploy/a.yaml", "deploy/b/c.yaml"],
        );
    }
}

#[test]
fn a_directory_pattern_does_not_match_a_file() {
    assert_excluded(
        &matcher(Some("build/"), &[]),
        &["build/a", "x/build/a"],
        &["build", "x/build"],
    );
}

#[test]
fn comments_escapes_and_windows_line_ends_are_read() {
    assert_excluded(
        &matcher(Some("# a comment\r\n\\#real\r\n\\!bang\r\n"), &[]),
        &["#real", "!bang"],
        &["a comment"],
    );
}

#[test]
fn rules_are_bounded() {
    let many = "a\n".repeat(RULES + 1);
    assert!(IgnoreRules::new(Some(&many)).is_err());
    assert!(IgnoreRules::new(Some(&"a".repeat(PATTERN + 1))).is_err());
    let files = vec![(String::new(), many.into_bytes())];
    assert!(IgnoreRules::new(None).unwrap().matcher(&files).is_err());
}
