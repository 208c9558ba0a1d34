//! The functions that templates may call: sprig's, as far as they are here. Checked against sprig itself by a test.

mod builtins;
mod collections;
mod crypto;
mod dates;
mod decimals;
mod encoding;
mod layout;
mod maps;
mod numbers;
mod paths;
mod random;
mod semver;
mod strings;
mod words;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gotmpl::{FuncMap, Result, TemplateError, Value};
use k8s_openapi::jiff::Timestamp;

/// A function of a template.
type Function = fn(&[Value]) -> Result<Value>;
/// Name, least and greatest number of arguments, and the function.
type Entry = (&'static str, usize, usize, Function);

/// A function that needs the clock or randomness, and its entry.
type ImpureFunction = fn(&Surroundings, &[Value]) -> Result<Value>;
type Impure = (&'static str, usize, usize, ImpureFunction);

/// Where randomness comes from; false when there is none.
pub type Random = Arc<dyn Fn(&mut [u8]) -> bool + Send + Sync>;

/// How often the templates of one SealedSecret may call what is slow by design: password hashes of about a tenth of a
/// second each.
const MAX_SLOW_CALLS: usize = 8;
/// The time that such a call is given on top, for pods with little CPU.
const SLOW_CALL: Duration = Duration::from_secs(1);

/// What pure functions do without.
pub(super) struct Surroundings {
    /// The moment of the rendering, the same for all of it.
    pub(super) now: Timestamp,
    /// Randomness.
    pub(super) random: Random,
    budget: Arc<Budget>,
}

impl Surroundings {
    /// Random bytes.
    fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        if (self.random)(bytes) {
            Ok(())
        } else {
            Err(fails("no randomness"))
        }
    }

    /// Before a slow call.
    fn slow(&self) -> Result<()> {
        let calls = self.budget.slow_calls.fetch_add(1, Ordering::Relaxed);
        if calls >= MAX_SLOW_CALLS || self.budget.is_late() {
            self.budget.exhausted.store(true, Ordering::Relaxed);
            return Err(fails("out of bounds"));
        }
        Ok(())
    }
}

/// Functions of sprig that are not there on purpose, and why.
pub(super) fn refused(name: &str) -> Option<&'static str> {
    Some(match name {
        "env" | "expandenv" => "templates do not see the controller's environment",
        "getHostByName" => "templates do not reach the network",
        "set" | "unset" => {
            "maps do not change here: use merge, mergeOverwrite, pick or omit, and their results"
        }
        "genPrivateKey"
        | "genCA"
        | "genCAWithKey"
        | "genSelfSignedCert"
        | "genSelfSignedCertWithKey"
        | "genSignedCert"
        | "genSignedCertWithKey"
        | "buildCustomCert" => {
            "it would make another key whenever the SealedSecret changes: seal a key and its certificate instead"
        }
        _ => return None,
    })
}

/// As many arguments as somebody likes to give.
const ANY: usize = usize::MAX;

/// Time and memory for one item.
#[derive(Debug)]
pub(super) struct Budget {
    deadline: Instant,
    memory: AtomicUsize,
    exhausted: AtomicBool,
    slow_calls: Arc<AtomicUsize>,
}

impl Budget {
    /// `slow_calls` are counted for all items of a SealedSecret together.
    pub(super) fn new(deadline: Instant, memory: usize, slow_calls: &Arc<AtomicUsize>) -> Self {
        Self {
            deadline,
            memory: AtomicUsize::new(memory),
            exhausted: AtomicBool::new(false),
            slow_calls: Arc::clone(slow_calls),
        }
    }

    /// Whether the time is over.
    pub(super) fn is_late(&self) -> bool {
        let slow = self.slow_calls.load(Ordering::Relaxed).min(MAX_SLOW_CALLS);
        Instant::now() > self.deadline + SLOW_CALL * u32::try_from(slow).unwrap_or(0)
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.exhausted.load(Ordering::Relaxed)
    }

    /// Takes what `value` weighs.
    fn spend(&self, value: &Value) -> Result<()> {
        if left(value, MAX_EXPANDED, MAX_DEPTH).is_none() {
            self.exhausted.store(true, Ordering::Relaxed);
            return Err(fails("out of bounds"));
        }
        let weight = weight(value);
        let left = self
            .memory
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(weight)
            });
        if left.is_err() || self.is_late() {
            self.exhausted.store(true, Ordering::Relaxed);
            return Err(fails("out of bounds"));
        }
        Ok(())
    }
}

/// What a value may come to when everything that is shared in it is written out: a list that holds a list twice, which
/// holds one twice, and so on, is small in memory and endless on paper.
const MAX_EXPANDED: usize = 16 << 20;
/// Values nested deeper would need more stack than there is just to be dropped.
const MAX_DEPTH: usize = 200;

/// What is left of `limit` when `value` is written out; `None` when it does not fit. Takes time in proportion to the
/// bound, not to the value.
fn left(value: &Value, limit: usize, depth: usize) -> Option<usize> {
    let depth = depth.checked_sub(1)?;
    let own = limit.checked_sub(16)?;
    match value {
        Value::String(text) => own.checked_sub(text.len()),
        Value::List(list) => list
            .iter()
            .try_fold(own, |limit, value| left(value, limit, depth)),
        Value::Map(map) => map.iter().try_fold(own, |limit, (key, value)| {
            left(value, limit.checked_sub(key.len())?, depth)
        }),
        _ => Some(own),
    }
}

/// What `value` comes to when written out.
fn size_of(value: &Value) -> usize {
    left(value, MAX_EXPANDED, MAX_DEPTH).map_or(usize::MAX, |left| MAX_EXPANDED - left)
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

/// The names of text/template's own functions among [`all`]: bounded here, or with sprig's meaning.
pub(super) fn is_built_in(name: &str) -> bool {
    name == "index" || builtins::TABLE.iter().any(|(own, ..)| *own == name)
}

/// Every function, bounded by `budget`.
pub(super) fn all(budget: &Arc<Budget>, now: Timestamp, random: &Random) -> FuncMap {
    let pure = [
        builtins::TABLE,
        collections::TABLE,
        crypto::TABLE,
        decimals::TABLE,
        encoding::TABLE,
        maps::TABLE,
        numbers::TABLE,
        paths::TABLE,
        semver::TABLE,
        strings::TABLE,
        words::TABLE,
    ];
    let impure = [crypto::IMPURE, dates::TABLE, random::TABLE];
    let surroundings = Arc::new(Surroundings {
        now,
        random: Arc::clone(random),
        budget: Arc::clone(budget),
    });
    let mut functions = FuncMap::new();
    for (name, least, most, function) in pure.into_iter().flatten().copied() {
        functions.insert(name.to_owned(), bound(name, least, most, budget, function));
    }
    for (name, least, most, function) in impure.into_iter().flatten().copied() {
        let surroundings = Arc::clone(&surroundings);
        let call = move |arguments: &[Value]| function(&surroundings, arguments);
        functions.insert(name.to_owned(), bound(name, least, most, budget, call));
    }
    functions
}

/// `function` with the right number of arguments and within the budget.
fn bound(
    name: &'static str,
    least: usize,
    most: usize,
    budget: &Arc<Budget>,
    function: impl Fn(&[Value]) -> Result<Value> + Send + Sync + 'static,
) -> gotmpl::ValueFunc {
    let budget = Arc::clone(budget);
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
    })
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
