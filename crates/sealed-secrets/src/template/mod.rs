//! `spec.template.data`: Go templates over the opened items.
//!
//! Whoever may write SealedSecrets writes these templates, and may not be allowed to read the values: so an error never
//! repeats what was computed, and time, memory and output are bounded.

mod functions;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gotmpl::Value;
use zeroize::Zeroizing;

use self::functions::Budget;
use crate::crypto::Plaintext;

/// A Secret cannot hold more.
const MAX_OUTPUT: usize = 1 << 20;
/// All strings that functions may make while one item is rendered.
const MAX_MEMORY: usize = 16 << 20;
/// All turns of all loops of one item.
const MAX_TURNS: u64 = 100_000;
/// Templates that call each other double the work with every level: with so few, there is not enough to double.
const MAX_CALLS: usize = 16;
/// Time for one SealedSecret.
const MAX_TIME: Duration = Duration::from_secs(2);

/// Why a template did not render. Never quotes a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The text is no template. Nothing has been computed: the parser's words are safe.
    #[error("spec.template.data: {0}")]
    Syntax(String),
    /// A function that is not there.
    #[error(
        "spec.template.data: template: {item}: function {function:?} not defined: the guide lists the functions there are"
    )]
    Function {
        /// The item.
        item: String,
        /// Its name.
        function: String,
    },
    /// It ran out of time, memory, turns or output.
    #[error(
        "spec.template.data: template: {0}: stopped: it needs more time, memory or output than one item may"
    )]
    Bounds(String),
    /// It failed on the values.
    #[error(
        "spec.template.data: template: {0}: failed while executing; the details are withheld because they can contain secret values"
    )]
    Execution(String),
}

/// The items of the Secret: the opened ones, and the rendered ones where no opened one has the same name.
pub fn render(
    templates: Option<&BTreeMap<String, String>>,
    mut items: BTreeMap<String, Plaintext>,
) -> Result<BTreeMap<String, Plaintext>, TemplateError> {
    let Some(templates) = templates.filter(|templates| !templates.is_empty()) else {
        return Ok(items);
    };
    let mut context: BTreeMap<Arc<str>, Value> = templates
        .iter()
        // Templates see the unrendered text of the others, as they do in the original.
        .map(|(key, template)| (Arc::from(key.as_str()), Value::from(template.as_str())))
        .collect();
    context.extend(
        items
            .iter()
            .map(|(key, value)| (Arc::from(key.as_str()), Value::from(text::from_bytes(value)))),
    );
    let context = Value::from(context);
    let deadline = Instant::now() + MAX_TIME;
    for (key, template) in templates {
        if !items.contains_key(key) {
            let rendered = render_one(key, template, &context, deadline)?;
            items.insert(key.clone(), rendered);
        }
    }
    Ok(items)
}

fn render_one(
    key: &str,
    source: &str,
    context: &Value,
    deadline: Instant,
) -> Result<Plaintext, TemplateError> {
    if source.len() > MAX_OUTPUT || calls(source) > MAX_CALLS {
        return Err(TemplateError::Bounds(key.to_owned()));
    }
    let budget = Arc::new(Budget::new(deadline, MAX_MEMORY));
    let template = gotmpl::Template::new(key)
        .max_range_iters(MAX_TURNS)
        .funcs(functions::all(&budget))
        .parse(source)
        .map_err(|error| explain(key, &error, &budget))?;
    let mut output = Bounded {
        text: Zeroizing::new(String::new()),
        deadline,
    };
    template
        .execute_fmt(&mut output, context)
        .map_err(|error| explain(key, &error, &budget))?;
    Ok(Zeroizing::new(text::to_bytes(&output.text)))
}

/// Whether `source` is a template at all. Functions that are not there only show when it is rendered.
pub fn check(key: &str, source: &str) -> Result<(), TemplateError> {
    let budget = Arc::new(Budget::new(Instant::now() + MAX_TIME, MAX_MEMORY));
    if source.len() > MAX_OUTPUT || calls(source) > MAX_CALLS {
        return Err(TemplateError::Bounds(key.to_owned()));
    }
    gotmpl::Template::new(key)
        .funcs(functions::all(&budget))
        .parse(source)
        .map(drop)
        .map_err(|error| explain(key, &error, &budget))
}

/// The names of all functions besides those of text/template itself.
pub fn function_names() -> Vec<String> {
    let budget = Arc::new(Budget::new(Instant::now(), 0));
    functions::all(&budget)
        .into_keys()
        .filter(|name| name != "index")
        .collect()
}

/// How many actions of `source` run another template.
fn calls(source: &str) -> usize {
    source.matches("template").count() + source.matches("block").count()
}

fn explain(key: &str, error: &gotmpl::TemplateError, budget: &Budget) -> TemplateError {
    use gotmpl::TemplateError as E;
    match error {
        E::Parse {
            line, col, message, ..
        }
        | E::Lex {
            line, col, message, ..
        } => TemplateError::Syntax(format!("template: {key}:{line}:{col}: {message}")),
        E::UndefinedFunction(function) => TemplateError::Function {
            item: key.to_owned(),
            function: function.clone(),
        },
        E::RangeIterLimit | E::RecursionLimit | E::Write => TemplateError::Bounds(key.to_owned()),
        _ if budget.is_exhausted() => TemplateError::Bounds(key.to_owned()),
        _ => TemplateError::Execution(key.to_owned()),
    }
}

/// Output up to a size and a moment.
struct Bounded {
    text: Zeroizing<String>,
    deadline: Instant,
}

impl std::fmt::Write for Bounded {
    fn write_str(&mut self, piece: &str) -> std::fmt::Result {
        if self.text.len() + piece.len() > MAX_OUTPUT || Instant::now() > self.deadline {
            return Err(std::fmt::Error);
        }
        self.text.push_str(piece);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render_with(template: &str, items: &[(&str, &[u8])]) -> Result<Vec<u8>, TemplateError> {
        let items = items
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Zeroizing::new(value.to_vec())))
            .collect();
        let templates = BTreeMap::from([("out".to_owned(), template.to_owned())]);
        Ok(render(Some(&templates), items)?["out"].to_vec())
    }

    #[test]
    fn items_win_over_templates_of_the_same_name() {
        let templates = BTreeMap::from([
            ("a".to_owned(), "template".to_owned()),
            ("b".to_owned(), "{{ .a }} {{ .c }}".to_owned()),
            ("c".to_owned(), "{{ .x }}".to_owned()),
        ]);
        let items = BTreeMap::from([("a".to_owned(), Zeroizing::new(b"item".to_vec()))]);
        let rendered = render(Some(&templates), items).unwrap();
        assert_eq!(&*rendered["a"], b"item");
        assert_eq!(&*rendered["b"], b"item {{ .x }}");
        assert_eq!(&*rendered["c"], b"<no value>");
    }

    #[test]
    fn bytes_pass_through() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(
            render_with("<{{ .b }}>", &[("b", &all)]).unwrap(),
            [b"<", &all[..], b">"].concat()
        );
        let claimed = "\u{10ff80}\u{10ffff}é".as_bytes();
        assert_eq!(render_with("{{ .b }}", &[("b", claimed)]).unwrap(), claimed);
    }

    #[test]
    fn errors_do_not_repeat_values() {
        for template in [
            "{{ fail .p }}",
            "{{ mustToDate \"2006\" .p }}",
            "{{ .p.x }}",
            "{{ index .p \"x\" }}",
            "{{ template .p }}",
            "{{ range .p }}{{ end }}",
            "{{ mustRegexMatch .p \"\" }}",
            "{{ include .p }}",
            "{{ call .p }}",
            "{{ slice .p 99 }}",
            "{{ mustFromJson .p }}",
            "{{ semver .p }}",
            "{{ (index . .p).x.y }}",
            "{{ printf .p 1 | fail }}",
        ] {
            if let Err(error) = render_with(template, &[("p", b"hunter2(")]) {
                assert!(!error.to_string().contains("hunter2"), "{template}: {error}");
            }
        }
        let error = render_with("{{ fail .p }}", &[("p", b"x")]).unwrap_err();
        assert_eq!(error, TemplateError::Execution("out".to_owned()));
        let error = render_with("{{ genCA \"x\" 1 }}", &[]).unwrap_err();
        assert!(
            error.to_string().contains("function \"genCA\" not defined"),
            "{error}"
        );
        let error = render_with("{{ .a-b }}", &[]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("spec.template.data: template: out:1:"),
            "{error}"
        );
        assert!(matches!(
            render_with("{{ env \"HOME\" }}", &[]),
            Err(TemplateError::Function { .. })
        ));
    }

    #[test]
    fn bombs_are_stopped_in_time() {
        let call = |n: usize| "{{template \"tN\"}}".replace('N', &n.to_string());
        let define = |n: usize| {
            [
                "{{define \"t",
                &n.to_string(),
                "\"}}",
                &call(n + 1),
                &call(n + 1),
                "{{end}}",
            ]
            .concat()
        };
        let doubling: String = (0..40).map(define).collect();
        let bombs = [
            "{{ range until 2000000000 }}x{{ end }}".to_owned(),
            "{{ repeat 1000000000 \"x\" }}".to_owned(),
            "{{ $x := repeat 1000 \"x\" }}{{ range until 100000 }}{{ $y := repeat 1000 $x }}{{ end }}"
                .to_owned(),
            "{{ range until 99999 }}{{ range until 99999 }}{{ end }}{{ end }}".to_owned(),
            "{{ range 2000000000 }}{{ end }}".to_owned(),
            "{{ define \"a\" }}{{ template \"a\" }}{{ end }}{{ template \"a\" }}".to_owned(),
            "{{ printf \"%999999999d\" 1 | repeat 100000 }}".to_owned(),
            "{{ indent 1000000000 \"x\" }}".to_owned(),
            "{{ untilStep 0 2000000000 1 }}".to_owned(),
            "{{ seq 2000000000 }}".to_owned(),
            doubling + "{{ template \"t0\" }}",
            format!("{}x{}", "{{ if 1 }}".repeat(5000), "{{ end }}".repeat(5000)),
        ];
        for bomb in bombs {
            let begin = Instant::now();
            let short: String = bomb.chars().take(60).collect();
            assert!(render_with(&bomb, &[]).is_err(), "{short}");
            assert!(
                begin.elapsed() < Duration::from_secs(10),
                "{short} took {:?}",
                begin.elapsed()
            );
        }
    }
}
