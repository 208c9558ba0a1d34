//! The functions that templates may call: sprig's, as far as they are here. Checked against sprig itself by a test.

mod collections;
mod encoding;
mod numbers;
mod strings;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use gotmpl::{FuncMap, Result, TemplateError, Value};

/// A function of a template.
type Function = fn(&[Value]) -> Result<Value>;
/// Name, least and greatest number of arguments, and the function.
type Entry = (&'static str, usize, usize, Function);

/// As many arguments as somebody likes to give.
const ANY: usize = usize::MAX;

/// Time and memory for one item.
#[derive(Debug)]
pub(super) struct Budget {
    deadline: Instant,
    memory: AtomicUsize,
    exhausted: AtomicBool,
}

impl Budget {
    pub(super) fn new(deadline: Instant, memory: usize) -> Self {
        Self {
            deadline,
            memory: AtomicUsize::new(memory),
            exhausted: AtomicBool::new(false),
        }
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.exhausted.load(Ordering::Relaxed)
    }

    /// Takes what `value` weighs.
    fn spend(&self, value: &Value) -> Result<()> {
        let weight = weight(value);
        let left = self
            .memory
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(weight)
            });
        if left.is_err() || Instant::now() > self.deadline {
            self.exhausted.store(true, Ordering::Relaxed);
            return Err(fails("out of bounds"));
        }
        Ok(())
    }
}

fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => 16 + text.len(),
        // What is inside was weighed when it was made.
        Value::List(list) => 16 + 32 * list.len(),
        Value::Map(map) => 16 + 64 * map.len(),
        _ => 16,
    }
}

/// Every function, bounded by `budget`.
pub(super) fn all(budget: &Arc<Budget>) -> FuncMap {
    let tables = [
        collections::TABLE,
        encoding::TABLE,
        numbers::TABLE,
        strings::TABLE,
    ];
    let mut functions = FuncMap::new();
    for (name, least, most, function) in tables.into_iter().flatten().copied() {
        let budget = Arc::clone(budget);
        functions.insert(
            name.to_owned(),
            Arc::new(move |arguments: &[Value]| {
                if arguments.len() < least || arguments.len() > most {
                    return Err(TemplateError::ArgCount {
                        name: name.to_owned(),
                        expected: least,
                        got: arguments.len(),
                    });
                }
                let value = function(arguments)?;
                budget.spend(&value)?;
                Ok(value)
            }),
        );
    }
    functions
}

/// A failure; the words are for whoever debugs this program, users never see them.
fn fails(what: &str) -> TemplateError {
    TemplateError::Exec(what.to_owned())
}

/// Argument `n`.
fn argument(arguments: &[Value], n: usize) -> Result<&Value> {
    arguments.get(n).ok_or_else(|| fails("missing argument"))
}

/// Argument `n`, which has to be a string.
fn string(arguments: &[Value], n: usize) -> Result<&str> {
    argument(arguments, n)?
        .as_str()
        .ok_or_else(|| fails("expected a string"))
}

/// Argument `n`, which has to be an integer.
fn integer(arguments: &[Value], n: usize) -> Result<i64> {
    match argument(arguments, n)? {
        Value::Int(number) => Ok(*number),
        Value::Uint(number) => i64::try_from(*number).map_err(|_| fails("integer out of range")),
        _ => Err(fails("expected an integer")),
    }
}

/// Argument `n`, which has to be a list.
fn list(arguments: &[Value], n: usize) -> Result<&[Value]> {
    match argument(arguments, n)? {
        Value::List(list) => Ok(list),
        _ => Err(fails("expected a list")),
    }
}

/// A value as sprig's `toString` prints it.
fn printed(value: &Value) -> String {
    value.to_string()
}

/// Fails before something is made that could not be kept anyway.
fn bounded(bytes: usize) -> Result<()> {
    if bytes > super::MAX_OUTPUT {
        Err(TemplateError::Write)
    } else {
        Ok(())
    }
}

/// sprig's `empty`.
fn is_empty(value: &Value) -> bool {
    !value.is_truthy()
}
