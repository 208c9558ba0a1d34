use proptest::prelude::*;

use super::*;

/// As long as a ciphertext needs to be to be taken for one.
const NEW: &str = "AgBnewnewnewnew=";

fn manifest(text: &str) -> Manifest {
    Manifest::parse(Path::new("x.yaml"), text.to_owned()).unwrap()
}

fn with(text: &str, key: &str, change: Change) -> Result<String, Error> {
    let manifest = manifest(text);
    let edit = manifest.objects[0].item(key, change);
    manifest.edited(&[edit])
}

#[track_caller]
fn becomes(before: &str, key: &str, change: Change, after: &str) {
    assert_eq!(with(before, key, change).unwrap(), after);
}

fn set() -> Change {
    Change::Set(NEW.to_owned())
}

#[test]
fn a_value_is_replaced_in_the_style_it_has() {
    let head = "# c\nkind: SealedSecret # d\nspec:\n  encryptedData: # e\n";
    for (before, after) in [
        (
            "    a: AgBold # f\n    b: AgB\n",
            "    a: AgBnewnewnewnew= # f\n    b: AgB\n",
        ),
        ("    a: \"AgBold\"\n", "    a: \"AgBnewnewnewnew=\"\n"),
        ("    'a': 'AgBold'   \n", "    'a': 'AgBnewnewnewnew='   \n"),
        (
            "    a: |-\n      AgB\n      old\n    b: x\n",
            "    a: |-\n      AgBnewnewnewnew=\n    b: x\n",
        ),
        (
            "    a: |\n      AgB\n      old\n\n# end\n",
            "    a: |\n      AgBnewnewnewnew=\n\n# end\n",
        ),
        (
            "    a: >\n      AgB\n      old\n",
            "    a: >\n      AgBnewnewnewnew=\n",
        ),
        (
            "    a: AgB\n      old\n    b: x",
            "    a: AgBnewnewnewnew=\n    b: x",
        ),
        ("    a:\n    b: x", "    a: AgBnewnewnewnew=\n    b: x"),
        (
            "    a: # none\n    b: x",
            "    a: AgBnewnewnewnew= # none\n    b: x",
        ),
        (
            "    ? a\n    : AgBold\n    b: x\n",
            "    ? a\n    : AgBnewnewnewnew=\n    b: x\n",
        ),
        ("    a: !!str AgBold\n", "    a: !!str AgBnewnewnewnew=\n"),
        ("    {a: AgBold, b: x}\n", "    {a: AgBnewnewnewnew=, b: x}\n"),
    ] {
        becomes(&format!("{head}{before}"), "a", set(), &format!("{head}{after}"));
    }
    becomes(
        "kind: SealedSecret\r\nspec:\r\n  encryptedData:\r\n    a: AgBold\r\n",
        "a",
        set(),
        "kind: SealedSecret\r\nspec:\r\n  encryptedData:\r\n    a: AgBnewnewnewnew=\r\n",
    );
}

#[test]
fn a_value_is_added_where_there_is_room() {
    for (before, after) in [
        (
            "kind: SealedSecret\nspec:\n  encryptedData:\n    a: AgB # x\n  template: {}\n",
            "kind: SealedSecret\nspec:\n  encryptedData:\n    a: AgB # x\n    new: AgBnewnewnewnew=\n  template: {}\n",
        ),
        (
            "kind: SealedSecret\nspec:\n  encryptedData:\n    a: |\n      AgB\n\n---\nx: y\n",
            "kind: SealedSecret\nspec:\n  encryptedData:\n    a: |\n      AgB\n    new: AgBnewnewnewnew=\n\n---\nx: y\n",
        ),
        (
            "kind: SealedSecret\nspec:\n  encryptedData:\n    a: AgB",
            "kind: SealedSecret\nspec:\n  encryptedData:\n    a: AgB\n    new: AgBnewnewnewnew=",
        ),
        (
            "kind: SealedSecret\nspec:\n  encryptedData: {}\n  template: {}\n",
            "kind: SealedSecret\nspec:\n  encryptedData:\n    new: AgBnewnewnewnew=\n  template: {}\n",
        ),
        (
            "kind: SealedSecret\nspec:\n  encryptedData: # none\n  template: {}\n",
            "kind: SealedSecret\nspec:\n  encryptedData: # none\n    new: AgBnewnewnewnew=\n  template: {}\n",
        ),
        (
            "kind: SealedSecret\nspec:\n  template:\n    type: Opaque\n",
            "kind: SealedSecret\nspec:\n  template:\n    type: Opaque\n  encryptedData:\n    new: AgBnewnewnewnew=\n",
        ),
        (
            "kind: SealedSecret\nmetadata: {}\n",
            "kind: SealedSecret\nmetadata: {}\nspec:\n  encryptedData:\n    new: AgBnewnewnewnew=\n",
        ),
        (
            "kind: SealedSecret\r\nspec:\r\n  encryptedData:\r\n    a: AgB\r\n",
            "kind: SealedSecret\r\nspec:\r\n  encryptedData:\r\n    a: AgB\r\n    new: AgBnewnewnewnew=\r\n",
        ),
        (
            "kind: SealedSecret\nspec: {encryptedData: {a: AgB}}\n",
            "kind: SealedSecret\nspec: {encryptedData: {a: AgB, \"new\": \"AgBnewnewnewnew=\"}}\n",
        ),
        (
            "kind: SealedSecret\nspec: {\n  encryptedData: {}\n}\n",
            "kind: SealedSecret\nspec: {\n  encryptedData: {\"new\": \"AgBnewnewnewnew=\"}\n}\n",
        ),
        (
            "{\"kind\": \"SealedSecret\", \"spec\": {\"encryptedData\": {}}}",
            "{\"kind\": \"SealedSecret\", \"spec\": {\"encryptedData\": {\"new\": \"AgBnewnewnewnew=\"}}}",
        ),
        (
            "{\n\t\"kind\": \"SealedSecret\",\n\t\"spec\": {\n\t\t\"encryptedData\": {\n\t\t\t\"a\": \"x\"\n\t\t}\n\t}\n}\n",
            "{\n\t\"kind\": \"SealedSecret\",\n\t\"spec\": {\n\t\t\"encryptedData\": {\n\t\t\t\"a\": \"x\",\n\t\t\t\"new\": \"AgBnewnewnewnew=\"\n\t\t}\n\t}\n}\n",
        ),
        (
            "kind: List\nitems:\n- kind: SealedSecret\n  spec:\n    encryptedData:\n      a: AgB\n- kind: Other\n",
            "kind: List\nitems:\n- kind: SealedSecret\n  spec:\n    encryptedData:\n      a: AgB\n      new: AgBnewnewnewnew=\n- kind: Other\n",
        ),
        (
            "\u{feff}# ä\nkind: SealedSecret\nspec:\n  encryptedData:\n    a: AgB # ü\n",
            "\u{feff}# ä\nkind: SealedSecret\nspec:\n  encryptedData:\n    a: AgB # ü\n    new: AgBnewnewnewnew=\n",
        ),
    ] {
        becomes(before, "new", set(), after);
    }
}

#[test]
fn a_value_is_removed_with_its_line() {
    for (before, after) in [
        (
            "kind: SealedSecret\nspec:\n  encryptedData:\n    # one\n    a: AgB # x\n    # two\n    b: AgB\n",
            "kind: SealedSecret\nspec:\n  encryptedData:\n    # one\n    # two\n    b: AgB\n",
        ),
        (
            "kind: SealedSecret\nspec:\n  encryptedData:\n    b: AgB\n    a: |\n      AgB\n      x\n  template: {}\n",
            "kind: SealedSecret\nspec:\n  encryptedData:\n    b: AgB\n  template: {}\n",
        ),
        (
            "kind: SealedSecret\nspec:\n  encryptedData:\n    a: AgB # x\n",
            "kind: SealedSecret\nspec:\n  encryptedData:\n    {} # x\n",
        ),
        (
            "kind: SealedSecret\nspec: {encryptedData: {a: AgB, b: x}}\n",
            "kind: SealedSecret\nspec: {encryptedData: {b: x}}\n",
        ),
        (
            "{\"kind\": \"SealedSecret\", \"spec\": {\"encryptedData\": {\"b\": \"x\", \"a\": \"x\"}}}",
            "{\"kind\": \"SealedSecret\", \"spec\": {\"encryptedData\": {\"b\": \"x\"}}}",
        ),
        (
            "{\"kind\": \"SealedSecret\", \"spec\": {\"encryptedData\": {\"a\": \"x\"}}}",
            "{\"kind\": \"SealedSecret\", \"spec\": {\"encryptedData\": {}}}",
        ),
    ] {
        becomes(before, "a", Change::Remove, after);
    }
}

#[test]
fn what_would_change_more_is_refused() {
    for text in [
        // Whoever uses the anchor would change, too.
        "kind: SealedSecret\nspec:\n  encryptedData:\n    a: &x AgBold\n    b: *x\n",
        "kind: SealedSecret\nspec: &x {encryptedData: {a: AgB}}\nother: *x\n",
        "kind: SealedSecret\nspec:\n  encryptedData: [a]\n",
    ] {
        let said = with(text, "a", set()).unwrap_err().to_string();
        assert!(said.contains("nothing was written"), "{said}");
    }
    // An alias alone is replaced like any value.
    becomes(
        "x: &x AgB\nkind: SealedSecret\nspec:\n  encryptedData:\n    a: *x\n",
        "a",
        set(),
        "x: &x AgB\nkind: SealedSecret\nspec:\n  encryptedData:\n    a: AgBnewnewnewnew=\n",
    );
}

#[test]
fn annotations_are_text_fields_like_any() {
    let text = "kind: SealedSecret\nmetadata:\n  name: a\nspec: {}\n";
    let at = manifest(text);
    let edit = at.objects[0].edit(
        &["metadata", "annotations", "x/y"],
        Change::Set("a=SHA256:b, c".into()),
    );
    let text = at.edited(&[edit]).unwrap();
    assert_eq!(
        text,
        "kind: SealedSecret\nmetadata:\n  name: a\n  annotations:\n    x/y: \"a=SHA256:b, c\"\nspec: {}\n"
    );
    let at = manifest(&text);
    let edit = at.objects[0].edit(
        &["metadata", "annotations", "x/y"],
        Change::Set("SHA256:z".into()),
    );
    assert!(at.edited(&[edit]).unwrap().contains("x/y: \"SHA256:z\"\n"));
}

/// A value in some style, indented for a block; its rendering with `X` in place of the ciphertext.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("X".to_owned()),
        Just("\"X\"".to_owned()),
        Just("'X'".to_owned()),
        Just("|-\n      X".to_owned()),
        Just("|\n      X".to_owned()),
        Just(">-\n      X".to_owned()),
        Just("X # comment: \"x\" {".to_owned()),
        Just("\"X\"   ".to_owned()),
    ]
}

fn noise() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("    # a: AgBold\n".to_owned()),
        Just("\n".to_owned()),
        Just("    # ü … {\n".to_owned()),
    ]
}

proptest! {
    /// Everything but ciphertexts stays byte for byte, whatever the style.
    #[test]
    fn only_ciphertexts_change(
        items in proptest::collection::vec((noise(), value(), "[A-Za-z0-9+/]{16,40}={0,2}"), 1..5),
        before in prop_oneof![Just(""), Just("# head\n---\n"), Just("kind: ConfigMap\ndata: {a: 'b'}\n---\n")],
        after in prop_oneof![Just(""), Just("  template: {type: Opaque}\n"), Just("---\n{a: b}\n"), Just("\n\n# end")],
    ) {
        let mut pattern = format!("{before}kind: SealedSecret\nspec:\n  encryptedData:\n");
        for (number, (noise, value, _)) in items.iter().enumerate() {
            let value = value.replace('X', &format!("<{number}>"));
            pattern.extend([noise, &format!("    k{number}: {value}\n")].map(String::as_str));
        }
        pattern += after;
        let fill = |ciphertext: &dyn Fn(usize) -> String| {
            (0..items.len()).fold(pattern.clone(), |text, number| {
                text.replace(&format!("<{number}>"), &ciphertext(number))
            })
        };
        let old = fill(&|number| format!("Ag{}", items[number].2));
        let new = |number: usize| format!("AgBnewer{number}/{}", "x".repeat(number * 7));
        let at = manifest(&old);
        let edits: Vec<Edit> = (0..items.len())
            .map(|number| at.objects[0].item(&format!("k{number}"), Change::Set(new(number))))
            .collect();
        prop_assert_eq!(at.edited(&edits).map_err(|error| TestCaseError::fail(error.to_string()))?, fill(&new), "{}", old);
    }

    /// Any text is edited exactly or refused, and nothing panics.
    #[test]
    fn damaged_texts_are_refused(
        text in "(kind: SealedSecret\n|spec:\n|  encryptedData:|    a: AgB\n| |\n|\\{|\\}|\"|'|&x |\\*x|,|- |# |\t|---\n|\\||>|[a-z:]){0,24}",
    ) {
        if let Ok(at) = Manifest::parse(Path::new("x"), text) {
            for object in &at.objects {
                for change in [set(), Change::Remove] {
                    drop(at.edited(&[object.item("a", change)]));
                }
            }
        }
    }
}
