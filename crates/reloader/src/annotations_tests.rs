use super::*;

fn map(entries: &[(&str, &str)]) -> Annotations {
    entries
        .iter()
        .map(|(key, value)| ((*key).into(), (*value).into()))
        .collect()
}

const AUTO: &str = "reloader.stakater.com/auto";
const CM_AUTO: &str = "configmap.reloader.stakater.com/auto";
const SECRET_AUTO: &str = "secret.reloader.stakater.com/auto";
const CLASS_AUTO: &str = "secretproviderclass.reloader.stakater.com/auto";
const CM: &str = "configmap.reloader.stakater.com/reload";
const SECRET: &str = "secret.reloader.stakater.com/reload";
const SEARCH: &str = "reloader.stakater.com/search";
const CM_EXCLUDE: &str = "configmaps.exclude.reloader.stakater.com/reload";

const PLAIN: Relation<'_> = Relation {
    name: "app",
    marks: &Marks {
        shared_with: None,
        ignore: false,
        search_match: false,
    },
    referenced: true,
    auto_all: false,
};

#[track_caller]
fn check(
    workload: &[(&str, &str)],
    template: &[(&str, &str)],
    relation: Relation<'_>,
    expected: Option<Cause>,
) {
    let policy = Policy::parse(Some(&map(workload)), Some(&map(template)), &Keys::default());
    assert_eq!(
        policy.config_map.cause(relation),
        expected,
        "{workload:?} {template:?} {relation:?}"
    );
}

#[test]
fn auto_takes_gos_booleans() {
    for yes in ["1", "t", "T", "true", "True", "TRUE"] {
        check(&[(AUTO, yes)], &[], PLAIN, Some(Cause::Auto));
    }
    for no in ["", "0", "false", "yes", "on", " true"] {
        check(&[(AUTO, no)], &[], PLAIN, None);
    }
}

#[test]
fn auto_needs_a_reference() {
    let unreferenced = Relation {
        referenced: false,
        ..PLAIN
    };
    check(&[(AUTO, "true")], &[], unreferenced, None);
    check(
        &[(SEARCH, "true")],
        &[],
        Relation {
            marks: &Marks {
                shared_with: None,
                search_match: true,
                ignore: false,
            },
            ..unreferenced
        },
        None,
    );
}

#[test]
fn typed_auto_is_for_its_type_only_and_ored_with_auto() {
    check(&[(CM_AUTO, "true")], &[], PLAIN, Some(Cause::Auto));
    check(
        &[(AUTO, "false"), (CM_AUTO, "true")],
        &[],
        PLAIN,
        Some(Cause::Auto),
    );
    check(
        &[(AUTO, "true"), (CM_AUTO, "false")],
        &[],
        PLAIN,
        Some(Cause::Auto),
    );
    check(&[(SECRET_AUTO, "true")], &[], PLAIN, None);
    let policy = Policy::parse(Some(&map(&[(SECRET_AUTO, "true")])), None, &Keys::default());
    assert_eq!(policy.secret.cause(PLAIN), Some(Cause::Auto));
    let policy = Policy::parse(Some(&map(&[(CLASS_AUTO, "true")])), None, &Keys::default());
    assert_eq!(policy.class.cause(PLAIN), Some(Cause::Auto));
    assert_eq!(policy.secret.cause(PLAIN), None);
    let unreferenced = Relation {
        referenced: false,
        ..PLAIN
    };
    let named = (keys::CLASS_NAMED, "a.p");
    let policy = Policy::parse(Some(&map(&[named])), None, &Keys::default());
    assert_eq!(policy.class.cause(unreferenced), Some(Cause::Named));
    assert_eq!(policy.secret.cause(unreferenced), None);
    let policy = Policy::parse(
        Some(&map(&[named, (keys::CLASS_EXCLUDE, "app")])),
        None,
        &Keys::default(),
    );
    assert_eq!(policy.class.cause(unreferenced), None);
}

#[test]
fn named_sources_need_no_reference_and_are_expressions() {
    let unreferenced = Relation {
        referenced: false,
        ..PLAIN
    };
    check(&[(CM, "app")], &[], unreferenced, Some(Cause::Named));
    check(&[(CM, " other , app ")], &[], unreferenced, Some(Cause::Named));
    check(&[(CM, "a.*")], &[], unreferenced, Some(Cause::Named));
    check(&[(CM, "ap")], &[], unreferenced, None);
    check(&[(CM, "pp")], &[], unreferenced, None);
    check(&[(CM, "")], &[], unreferenced, None);
    check(&[(CM, ",, ,")], &[], unreferenced, None);
    check(&[(SECRET, "app")], &[], unreferenced, None);
}

#[test]
fn an_alternative_means_prefix_or_suffix() {
    for (name, expected) in [
        ("app", true),
        ("app-x", true),
        ("x-db", true),
        ("db", true),
        ("x-app", false),
        ("db-x", false),
    ] {
        let relation = Relation { name, ..PLAIN };
        check(&[(CM, "app|db")], &[], relation, expected.then_some(Cause::Named));
    }
}

#[test]
fn a_dot_in_a_name_is_any_character() {
    check(
        &[(CM, "my.app")],
        &[],
        Relation {
            name: "my-app",
            ..PLAIN
        },
        Some(Cause::Named),
    );
}

#[test]
fn one_bad_expression_is_told_and_the_others_hold() {
    let policy = Policy::parse(Some(&map(&[(CM, "(, app")])), None, &Keys::default());
    assert_eq!(policy.config_map.cause(PLAIN), Some(Cause::Named));
    let [problem] = policy.problems.as_slice() else {
        panic!("{:?}", policy.problems)
    };
    assert_eq!((problem.key.as_str(), problem.value.as_str()), (CM, "("));
    assert_eq!(
        problem.to_string(),
        format!("annotation {CM}: \"(\" is ignored: unclosed group")
    );
}

#[test]
fn an_expression_cannot_take_the_memory() {
    let policy = Policy::parse(Some(&map(&[(CM, "(a{1000}){1000}")])), None, &Keys::default());
    assert_eq!(policy.problems.len(), 1);
}

#[test]
fn search_is_exactly_true_and_meets_match() {
    let matched = Relation {
        marks: &Marks {
            shared_with: None,
            search_match: true,
            ignore: false,
        },
        ..PLAIN
    };
    check(&[(SEARCH, "true")], &[], matched, Some(Cause::Search));
    check(&[(SEARCH, "true")], &[], PLAIN, None);
    check(&[(SEARCH, "True")], &[], matched, None);
    check(&[(SEARCH, "1")], &[], matched, None);
}

#[test]
fn marks_are_exactly_true() {
    let keys = Keys::default();
    for (value, expected) in [("true", true), ("True", false), ("1", false), ("", false)] {
        let annotations = map(&[(&keys.ignore, value), (&keys.search_match, value)]);
        let marks = Marks::parse(Some(&annotations), &keys);
        assert_eq!(
            marks,
            Marks {
                shared_with: None,
                ignore: expected,
                search_match: expected
            },
            "{value}"
        );
    }
}

#[test]
fn ignore_beats_everything() {
    let ignored = Relation {
        marks: &Marks {
            shared_with: None,
            ignore: true,
            search_match: true,
        },
        auto_all: true,
        ..PLAIN
    };
    check(
        &[(CM, "app"), (AUTO, "true"), (SEARCH, "true")],
        &[],
        ignored,
        None,
    );
}

#[test]
fn exclude_beats_named_search_and_auto() {
    let matched = Relation {
        marks: &Marks {
            shared_with: None,
            search_match: true,
            ignore: false,
        },
        auto_all: true,
        ..PLAIN
    };
    let all = [(CM, "app"), (AUTO, "true"), (SEARCH, "true")];
    check(
        &[&all[..], &[(CM_EXCLUDE, " x , app")]].concat(),
        &[],
        matched,
        None,
    );
    check(
        &[&all[..], &[(CM_EXCLUDE, "ap.")]].concat(),
        &[],
        matched,
        Some(Cause::Named),
    );
    check(&[], &[&all[..], &[(CM_EXCLUDE, "app")]].concat(), matched, None);
}

#[test]
fn named_comes_before_search_and_search_before_auto() {
    let matched = Relation {
        marks: &Marks {
            shared_with: None,
            search_match: true,
            ignore: false,
        },
        auto_all: true,
        ..PLAIN
    };
    check(
        &[(CM, "app"), (AUTO, "true"), (SEARCH, "true")],
        &[],
        matched,
        Some(Cause::Named),
    );
    check(
        &[(AUTO, "true"), (SEARCH, "true")],
        &[],
        matched,
        Some(Cause::Search),
    );
    check(&[(AUTO, "true")], &[], matched, Some(Cause::Auto));
    check(&[], &[], matched, Some(Cause::AutoAll));
}

#[test]
fn auto_for_all_is_refused_by_any_value_but_does_not_stop_the_others() {
    let all = Relation {
        auto_all: true,
        ..PLAIN
    };
    check(&[], &[], all, Some(Cause::AutoAll));
    check(&[(AUTO, "")], &[], all, Some(Cause::AutoAll));
    check(&[(AUTO, "false")], &[], all, None);
    check(&[(AUTO, "yes")], &[], all, None);
    check(&[(CM_AUTO, "false")], &[], all, None);
    check(&[(SECRET_AUTO, "false")], &[], all, Some(Cause::AutoAll));
    check(&[(AUTO, "false"), (CM, "app")], &[], all, Some(Cause::Named));
}

#[test]
fn the_template_counts_only_where_the_workload_has_no_key() {
    check(&[], &[(AUTO, "true")], PLAIN, Some(Cause::Auto));
    check(&[], &[(CM, "app")], PLAIN, Some(Cause::Named));
    for key in [AUTO, CM_AUTO, CM, SEARCH] {
        for value in ["", "false"] {
            check(&[(key, value)], &[(AUTO, "true"), (CM, "app")], PLAIN, None);
        }
    }
    // Per kind of source: a Secret's key on the workload leaves ConfigMaps to the template.
    check(&[(SECRET, "db")], &[(AUTO, "true")], PLAIN, Some(Cause::Auto));
    let policy = Policy::parse(
        Some(&map(&[(SECRET, "db")])),
        Some(&map(&[(AUTO, "true")])),
        &Keys::default(),
    );
    assert_eq!(policy.secret.cause(PLAIN), None);
}

#[test]
fn opting_in_is_any_way_of_being_rolled() {
    for (annotations, auto_all, expected) in [
        (map(&[]), false, false),
        (map(&[]), true, true),
        (map(&[(AUTO, "false")]), false, false),
        (map(&[(AUTO, "false")]), true, false),
        (map(&[(AUTO, "true")]), false, true),
        (map(&[(SECRET, "db")]), false, true),
        (map(&[(SEARCH, "true")]), false, true),
    ] {
        let policy = Policy::parse(Some(&annotations), None, &Keys::default());
        assert_eq!(policy.opted_in(auto_all), expected, "{annotations:?} {auto_all}");
    }
}

#[test]
fn keys_can_be_renamed() {
    let keys = Keys {
        auto: "example.com/auto".into(),
        ..Keys::default()
    };
    let policy = Policy::parse(Some(&map(&[("example.com/auto", "true")])), None, &keys);
    assert_eq!(policy.config_map.auto, Auto::On);
    let policy = Policy::parse(Some(&map(&[(AUTO, "true")])), None, &keys);
    assert_eq!(policy.config_map.auto, Auto::Unset);
}
