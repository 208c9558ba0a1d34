//! Conditions in CEL, the Common Expression Language: `spec.healthCheckExprs` and `spec.dependsOn[].readyExpr`. Their authors
//! need not be trusted: what an expression may cost is known before it runs.

use std::{collections::HashMap, sync::Arc, thread};

use cel::{
    Context, Env, ExecutionError, Program,
    common::ast::{CallExpr, EntryExpr, Expr, IdedEntryExpr, IdedExpr},
    objects::{Key, Value as CelValue},
};
use serde_json::Value;

/// Bytes of an expression.
const LENGTH: usize = 2048;
/// Brackets inside of one another.
const DEPTH: usize = 24;
/// What is deep needs stack, and a stack that overflows would end the process.
const STACK: usize = 256 << 20;
/// What evaluating one may cost: about one for each step.
const COST: u64 = 100_000;
/// Bytes of text that a function looks at for the cost of a step.
const TEXT: usize = 4096;
/// A pattern has to be read before it is looked for.
const PATTERN: u64 = 50;

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CelError {
    /// It is wrong whatever it is applied to, or on what it was applied to.
    #[error("{0}")]
    Invalid(String),
    /// A field is not there; it may come.
    #[error("no such field: {0} (has() asks for it)")]
    Missing(String),
}

fn invalid<T>(message: impl Into<String>) -> Result<T, CelError> {
    Err(CelError::Invalid(message.into()))
}

/// A condition.
#[derive(Debug)]
pub struct Condition(Program);

impl Condition {
    /// Reads an expression.
    pub fn parse(text: &str) -> Result<Self, CelError> {
        if text.len() > LENGTH {
            return invalid(format!("it has more than {LENGTH} bytes"));
        }
        if depth(text) > DEPTH {
            return invalid(format!("it has more than {DEPTH} brackets inside of one another"));
        }
        apart(|| {
            let program = Program::compile(text).map_err(|error| {
                let text = error.to_string();
                CelError::Invalid(text.lines().take(3).collect::<Vec<_>>().join(" "))
            })?;
            // What does not depend on the data: nothing may grow within a loop.
            cost(program.expression(), &Size::of(program.expression(), &[]), false)?;
            Ok(Self(program))
        })
    }

    /// Whether it holds for these variables.
    pub fn holds(&self, variables: &[(&str, &Value)]) -> Result<bool, CelError> {
        apart(|| {
            let size = Size::of(self.0.expression(), variables);
            let cost = cost(self.0.expression(), &size, false)?;
            if cost > COST {
                return invalid(format!(
                    "it may take {cost} steps on an object of this size, and {COST} are allowed: use fewer loops inside of \
                     loops"
                ));
            }
            let mut context = Context::with_env(Arc::new(Env::stdlib()));
            for (name, value) in variables {
                context.add_variable_from_value(*name, convert(value));
            }
            match self.0.execute(&context) {
                Ok(CelValue::Bool(holds)) => Ok(holds),
                Ok(other) => invalid(format!("it is {}, and not true or false", other.type_of())),
                Err(error) => Err(explain(&error)),
            }
        })
    }
}

/// On a thread of its own: neither a panic nor a deep expression in code that is not ours may end the process.
fn apart<T: Send>(work: impl FnOnce() -> Result<T, CelError> + Send) -> Result<T, CelError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("cel".into()).stack_size(STACK);
        match thread
            .spawn_scoped(scope, work)
            .map(thread::ScopedJoinHandle::join)
        {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => invalid("it cannot be evaluated"),
            Err(error) => invalid(format!("it cannot be evaluated now: {error}")),
        }
    })
}

/// How deep the brackets are; those in texts count, too.
fn depth(text: &str) -> usize {
    let (mut depth, mut most) = (0_usize, 0);
    for c in text.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        most = most.max(depth);
    }
    most
}

/// The words for an error; most variants quote values, which may be a Secret's.
fn explain(error: &ExecutionError) -> CelError {
    match error {
        ExecutionError::NoSuchKey(key) => CelError::Missing(key.to_string()),
        ExecutionError::UndeclaredReference(_)
        | ExecutionError::NoSuchOverload(_)
        | ExecutionError::UnexpectedType { .. }
        | ExecutionError::InvalidArgumentCount { .. } => CelError::Invalid(error.to_string()),
        ExecutionError::IndexOutOfBounds(_) => CelError::Missing("an item of a list".into()),
        _ => CelError::Invalid("its values do not fit its operators".into()),
    }
}

/// Kubernetes' integers are signed.
fn convert(value: &Value) -> CelValue {
    match value {
        Value::Null => CelValue::Null,
        Value::Bool(it) => CelValue::Bool(*it),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(it), _) => CelValue::Int(it),
            (None, Some(it)) => CelValue::UInt(it),
            (None, None) => CelValue::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => CelValue::String(Arc::new(text.clone())),
        Value::Array(items) => CelValue::List(Arc::new(items.iter().map(convert).collect())),
        Value::Object(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| (Key::from(key.clone()), convert(value)));
            CelValue::Map(entries.collect::<HashMap<Key, CelValue>>().into())
        }
    }
}

/// What an expression is applied to.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    /// Items of the longest list or mapping that can be there, so rounds of a loop.
    items: u64,
    /// Bytes of the longest text.
    text: usize,
}

impl Size {
    /// Of variables, and of the lists that the expression itself can make of them.
    fn of(expression: &IdedExpr, variables: &[(&str, &Value)]) -> Self {
        let mut size = Self::default();
        for (_, value) in variables {
            size.measure(value);
        }
        let mut literals = Literals::default();
        literals.count(expression);
        size.items = size.items.max(literals.longest).max(1);
        size.items = size.items.saturating_mul(literals.additions + 1);
        size
    }

    fn measure(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.text = self.text.max(text.len()),
            Value::Array(items) => {
                self.items = self.items.max(number(items.len()));
                for item in items {
                    self.measure(item);
                }
            }
            Value::Object(entries) => {
                self.items = self.items.max(number(entries.len()));
                for (key, value) in entries {
                    self.text = self.text.max(key.len());
                    self.measure(value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

fn number(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// What of an expression makes lists longer than those it is given.
#[derive(Debug, Default)]
struct Literals {
    longest: u64,
    additions: u64,
}

impl Literals {
    fn count(&mut self, expression: &IdedExpr) {
        match &expression.expr {
            Expr::List(list) => self.longest = self.longest.max(number(list.elements.len())),
            Expr::Map(map) => self.longest = self.longest.max(number(map.entries.len())),
            Expr::Call(call) if grows(call) => self.additions += 1,
            _ => {}
        }
        for part in parts(expression) {
            self.count(part);
        }
    }
}

/// The expressions that one is made of.
fn parts(expression: &IdedExpr) -> Vec<&IdedExpr> {
    match &expression.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
        Expr::Select(select) => vec![&select.operand],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(entry_parts).collect(),
        Expr::Struct(fields) => fields.entries.iter().flat_map(entry_parts).collect(),
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::Comprehension(it) => {
            vec![
                &it.iter_range,
                &it.accu_init,
                &it.loop_cond,
                &it.loop_step,
                &it.result,
            ]
        }
    }
}

fn entry_parts(entry: &IdedEntryExpr) -> Vec<&IdedExpr> {
    match &entry.expr {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

/// The most steps that an expression takes.
fn cost(expression: &IdedExpr, size: &Size, in_loop: bool) -> Result<u64, CelError> {
    let sum = |parts: &[&IdedExpr], in_loop: bool| {
        parts.iter().try_fold(1_u64, |sum, part| {
            Ok::<_, CelError>(sum.saturating_add(cost(part, size, in_loop)?))
        })
    };
    match &expression.expr {
        Expr::Call(call) => {
            if in_loop && grows(call) {
                return invalid("+ inside of a loop is not allowed: what it makes could grow without bounds");
            }
            let pattern = if call.func_name == "matches" { PATTERN } else { 0 };
            let own = pattern.saturating_add(number(size.text / TEXT));
            Ok(sum(&parts(expression), in_loop)?.saturating_add(own))
        }
        Expr::Comprehension(it) => {
            let once = sum(&[&it.iter_range, &it.accu_init], in_loop)?;
            let round = sum(&[&it.loop_cond, &it.loop_step, &it.result], true)?;
            Ok(once.saturating_add(size.items.saturating_mul(round)))
        }
        _ => sum(&parts(expression), in_loop),
    }
}

/// An addition that is not a loop's own way to collect its result. Nobody can write a name that begins as that one does.
fn grows(call: &CallExpr) -> bool {
    let collects = |part: &IdedExpr| matches!(&part.expr, Expr::Ident(name) if name.starts_with('@'));
    call.func_name == "_+_" && !call.args.first().is_some_and(collects)
}

#[cfg(test)]
#[path = "cel_tests.rs"]
mod tests;
