use serde_json::json;

use super::*;

fn variables() -> Variables {
    let values = [
        ("port", "8080"),
        ("yes", "true"),
        ("name", "web"),
        ("quote", "\""),
        ("list", r#"["a", "b"]"#),
        ("evil", "x\nspec: {hostNetwork: true} # ${name}"),
        ("colon", "a: b"),
        ("empty", ""),
    ];
    let values = values.map(|(name, value)| (name.to_owned(), Zeroizing::new(value.to_owned())));
    Variables::new(values.into())
}

fn substituted(mut object: Value) -> Value {
    variables().substitute(&mut object).unwrap();
    object
}

#[test]
fn values_are_read_as_flux_reads_them_and_stay_one_value() {
    let object = substituted(json!({
        "metadata": {"name": "${name}-x", "labels": {"port": "${port}", "${name}": "y"}, "annotations": {"on": "${yes}"}},
        "data": {"port": "${port}", "list": "${list}"},
        "spec": {
            "port": "${port}", "on": "${yes}", "quoted": "${quote}${port}${quote}", "none": "${empty}",
            "list": "${list}", "in": "x${list}", "evil": "${evil}", "colon": "${colon}", "text": "${port} # no",
            "env": [{"name": "P", "value": "${port}"}], "args": ["${port}"], "other": [{"value": "${port}"}],
            "lines": "a\n${port}\n", "kept": "$${port} $$ $x ${port}"
        },
    }));
    let expected = json!({
        "metadata": {"name": "web-x", "labels": {"port": "8080", "web": "y"}, "annotations": {"on": "true"}},
        "data": {"port": "8080", "list": "[\"a\", \"b\"]"},
        "spec": {
            "port": 8080, "on": true, "quoted": "8080", "none": null,
            "list": ["a", "b"], "in": "x[\"a\", \"b\"]", "evil": "x\nspec: {hostNetwork: true} # ${name}", "colon": "a: b", "text": "8080 # no",
            "env": [{"name": "P", "value": "8080"}], "args": ["8080"], "other": [{"value": 8080}],
            "lines": "a\n8080\n", "kept": "${port} $ $x 8080"
        },
    });
    assert_eq!(object, expected);
}

#[test]
fn it_can_be_forbidden_and_errors_name_the_field_and_no_value() {
    let disabled = json!({"metadata": {"annotations": {"kustomize.toolkit.fluxcd.io/substitute": "disabled"}}, "a": "${nobody}"});
    assert_eq!(substituted(disabled.clone()), disabled);
    let mut object = json!({"spec": {"a": [{"b": "${port}${nobody}"}]}});
    let (at, error) = variables().substitute(&mut object).unwrap_err();
    assert_eq!(at, "spec.a.0.b");
    assert!(error.to_string().contains("\"nobody\" is not set") && !error.to_string().contains("8080"));
    let mut twice = json!({"spec": {"${name}": 1, "web": 2}});
    assert!(variables().substitute(&mut twice).is_err());
    assert!(!format!("{:?}", variables()).contains("8080"));
}

#[test]
fn nothing_takes_long() {
    let many = "x".repeat(200_000);
    let values = [
        ("long".to_owned(), Zeroizing::new(many)),
        ("a".to_owned(), Zeroizing::new("a".repeat(16_000))),
    ];
    let variables = Variables::new(values.into());
    let stars = format!("${{a##{}b}}", "*a".repeat(400));
    let nested = format!("{}${{a}}{}", "${b:=".repeat(1000), "}".repeat(1000));
    for text in [
        &*"${long}".repeat(1000),
        "${long//x/${long}}",
        "${long#*x}",
        &stars,
        &nested,
        &"${".repeat(10_000),
    ] {
        let begin = std::time::Instant::now();
        let mut object = json!({ "a": text });
        drop(variables.substitute(&mut object));
        assert!(begin.elapsed().as_secs() < 5, "{}", &text[..20]);
    }
}
