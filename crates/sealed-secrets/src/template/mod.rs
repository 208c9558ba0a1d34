//! `spec.template.data`: Go templates over the opened items.
//!
//! Whoever may write SealedSecrets writes these templates, and may not be allowed to read the values: so an error never
//! repeats what was computed, and time, memory and output are bounded.

mod functions;
mod shape;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use gotmpl::Value;
use k8s_openapi::jiff::Timestamp;
use rand::TryRng as _;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

use self::functions::Budget;
pub use self::functions::Random;
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
    /// A function of sprig that is left out on purpose.
    #[error("spec.template.data: template: {item}: function {function:?} is not there: {reason}")]
    Refused {
        /// The item.
        item: String,
        /// Its name.
        function: String,
        /// Why, and what to do instead.
        reason: &'static str,
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

/// The clock and the dice of one rendering.
#[derive(Clone)]
pub struct Environment {
    /// What `now` says, throughout.
    pub now: Timestamp,
    /// Fills a buffer with random bytes; false when it cannot.
    pub random: Random,
}

impl Environment {
    /// The real ones.
    pub fn of_this_machine() -> Self {
        Self {
            now: Timestamp::now(),
            random: Arc::new(|bytes| SysRng.try_fill_bytes(bytes).is_ok()),
        }
    }
}

/// [`render_in`] with the clock and the randomness of this machine.
pub fn render(
    templates: Option<&BTreeMap<String, String>>,
    items: BTreeMap<String, Plaintext>,
) -> Result<BTreeMap<String, Plaintext>, TemplateError> {
    render_in(&Environment::of_this_machine(), templates, items)
}

/// The items of the Secret: the opened ones, and the rendered ones where no opened one has the same name.
pub fn render_in(
    environment: &Environment,
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
    let (deadline, slow_calls) = (Instant::now() + MAX_TIME, Arc::default());
    for (key, template) in templates {
        if !items.contains_key(key) {
            let rendered = render_one(environment, key, template, &context, (deadline, &slow_calls))?;
            items.insert(key.clone(), rendered);
        }
    }
    Ok(items)
}

fn render_one(
    environment: &Environment,
    key: &str,
    source: &str,
    context: &Value,
    (deadline, slow_calls): (Instant, &Arc<AtomicUsize>),
) -> Result<Plaintext, TemplateError> {
    if source.len() > MAX_OUTPUT || calls(source) > MAX_CALLS || !shape::is_flat(source) {
        return Err(TemplateError::Bounds(key.to_owned()));
    }
    let budget = Arc::new(Budget::new(deadline, MAX_MEMORY, slow_calls));
    let template = gotmpl::Template::new(key)
        .max_range_iters(MAX_TURNS)
        .funcs(functions::all(&budget, environment.now, &environment.random))
        .parse(source)
        .map_err(|error| explain(key, &error, &budget))?;
    let mut output = Bounded {
        text: Zeroizing::new(String::new()),
        budget: Arc::clone(&budget),
    };
    template
        .execute_fmt(&mut output, context)
        .map_err(|error| explain(key, &error, &budget))?;
    Ok(Zeroizing::new(text::to_bytes(&output.text)))
}

/// Whether `source` is a template at all. Functions that are not there only show when it is rendered.
pub fn check(key: &str, source: &str) -> Result<(), TemplateError> {
    let budget = Arc::new(Budget::new(
        Instant::now() + MAX_TIME,
        MAX_MEMORY,
        &Arc::default(),
    ));
    if source.len() > MAX_OUTPUT || calls(source) > MAX_CALLS || !shape::is_flat(source) {
        return Err(TemplateError::Bounds(key.to_owned()));
    }
    gotmpl::Template::new(key)
        .funcs(functions::all(&budget, Timestamp::UNIX_EPOCH, &no_random()))
        .parse(source)
        .map(drop)
        .map_err(|error| explain(key, &error, &budget))
}

/// The names of all functions besides those of text/template itself.
pub fn function_names() -> Vec<String> {
    let budget = Arc::new(Budget::new(Instant::now(), 0, &Arc::default()));
    functions::all(&budget, Timestamp::UNIX_EPOCH, &no_random())
        .into_keys()
        .filter(|name| !functions::is_built_in(name))
        .collect()
}

fn no_random() -> Random {
    Arc::new(|_| false)
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
        E::UndefinedFunction(function) => match functions::refused(function) {
            Some(reason) => TemplateError::Refused {
                item: key.to_owned(),
                function: function.clone(),
                reason,
            },
            None => TemplateError::Function {
                item: key.to_owned(),
                function: function.clone(),
            },
        },
        E::RangeIterLimit | E::RecursionLimit | E::Write => TemplateError::Bounds(key.to_owned()),
        _ if budget.is_exhausted() => TemplateError::Bounds(key.to_owned()),
        _ => TemplateError::Execution(key.to_owned()),
    }
}

/// Output up to a size and a moment.
struct Bounded {
    text: Zeroizing<String>,
    budget: Arc<Budget>,
}

impl std::fmt::Write for Bounded {
    fn write_str(&mut self, piece: &str) -> std::fmt::Result {
        if self.text.len() + piece.len() > MAX_OUTPUT || self.budget.is_late() {
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
            error
                .to_string()
                .contains("function \"genCA\" is not there: it would make another key"),
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
            Err(TemplateError::Refused { .. })
        ));
        assert!(matches!(
            render_with("{{ nope }}", &[]),
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
            "{{ randAlphaNum 2000000000 }}".to_owned(),
            "{{ randBytes 2000000000 }}".to_owned(),
            "{{ range until 99999 }}{{ randAlphaNum 1000000 }}{{ end }}".to_owned(),
            "{{ range until 1000 }}{{ $x := bcrypt \"x\" }}{{ end }}".to_owned(),
            "{{ range until 1000 }}{{ $x := derivePassword 1 \"long\" \"x\" \"y\" \"z\" }}{{ end }}".to_owned(),
            "{{ wrapWith 1 (repeat 1000 \"x\") (repeat 100000 \"y\") }}".to_owned(),
            "{{ date (repeat 1000000 \"January\") now }}".to_owned(),
            "{{ range until 99999 }}{{ $x := chunk 1 (until 9999) }}{{ end }}".to_owned(),
            "{{ addf 1e308 1e308 1e300 }}".to_owned(),
            // Text and values that double with every turn.
            "{{ $x := \"x\" }}{{ range until 99 }}{{ $x = print $x $x }}{{ end }}".to_owned(),
            "{{ $x := \"x\" }}{{ range until 99 }}{{ $x = printf \"%[1]s%[1]s\" $x }}{{ end }}".to_owned(),
            "{{ $x := \"<\" }}{{ range until 99 }}{{ $x = html $x }}{{ end }}{{ range until 99999 }}{{ $x = html $x }}{{ end }}"
                .to_owned(),
            "{{ $x := \"x\" }}{{ range until 99 }}{{ $x = list $x $x }}{{ end }}{{ toJson $x }}".to_owned(),
            "{{ $x := dict }}{{ range until 99 }}{{ $x = dict \"a\" $x \"b\" $x }}{{ end }}{{ $x }}".to_owned(),
            "{{ $x := list }}{{ range until 99999 }}{{ $x = list $x }}{{ end }}".to_owned(),
            format!("{{{{ $x := repeat 1000000 \"x\" }}}}{{{{ printf \"{}\" $x }}}}", "%[1]s".repeat(100_000)),
            format!("{{{{ printf \"{}\"{} }}}}", "%65535d".repeat(50_000), " 1".repeat(50_000)),
            format!("{{{{ $x := repeat 1000000 \"x\" }}}}{{{{ $y := print{} }}}}", " $x".repeat(100_000)),
            // Nesting that would take the parser's stack.
            format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000)),
            format!("{{{{ if 0 }}}}{}x{{{{ end }}}}", "{{ else if 0 }}".repeat(60_000)),
            format!("{{{{ {} .a }}}}", "not (".repeat(100_000)),
            "{{ $d := dict \"a\" (dict) }}{{ range until 99999 }}{{ $d = merge (dict \"a\" $d \"b\" $d) $d }}{{ end }}{{ toJson $d }}"
                .to_owned(),
            doubling + "{{ template \"t0\" }}",
            format!("{}x{}", "{{ if 1 }}".repeat(5000), "{{ end }}".repeat(5000)),
        ];
        for bomb in bombs {
            let begin = Instant::now();
            // Two seconds, eight more for slow calls, and the slowness of a test without optimization.
            let short: String = bomb.chars().take(60).collect();
            assert!(render_with(&bomb, &[]).is_err(), "{short}");
            assert!(
                begin.elapsed() < Duration::from_secs(20),
                "{short} took {:?}",
                begin.elapsed()
            );
        }
    }
}
