//! Maintenance windows: `Mon-Fri 22:00-06:00 Europe/Berlin; Sat 00:00-24:00`. Stateless: what is pending stays so until a
//! window opens, whatever restarts in between. Pure.

use std::{str::FromStr, time::Duration};

use k8s_openapi::jiff::{Timestamp, civil::Weekday, tz::TimeZone};

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAY: u32 = 24 * 60;
/// How far ahead an opening is looked for: a week and a day, by minutes.
const AHEAD: u32 = 8 * DAY;

/// Times at which a workload may be rolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows(Vec<Window>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    // Days on which it opens, Monday first.
    days: [bool; 7],
    // Minutes of the day; an end that is not after the start is on the next day.
    start: u32,
    end: u32,
    zone: TimeZone,
}

/// A text that is no list of windows.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no window: write [DAYS] HH:MM-HH:MM [ZONE], as Mon-Fri 22:00-06:00 Europe/Berlin")]
pub struct Unreadable(String);

impl FromStr for Windows {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let windows: Option<Vec<_>> = text.split(';').map(|part| window(part.trim())).collect();
        windows.map(Self).ok_or_else(|| Unreadable(text.to_owned()))
    }
}

impl Windows {
    /// How long it is until one is open: nothing if one is. At most [`AHEAD`], after which it is to be asked again.
    pub fn until_open(&self, now: Timestamp) -> Duration {
        let waits = self.0.iter().map(|window| window.until_open(now));
        waits.min().unwrap_or(Duration::ZERO)
    }
}

impl Window {
    fn until_open(&self, now: Timestamp) -> Duration {
        if self.open(now) {
            return Duration::ZERO;
        }
        let second = now.as_second().rem_euclid(60);
        let to_minute = Duration::from_secs(u64::try_from(60 - second).unwrap_or(60));
        // Minute by minute: simple, and right on days that are 23 or 25 hours long.
        let opening = (0..AHEAD).map(|minute| to_minute + Duration::from_mins(1) * minute);
        let mut opening = opening.filter(|wait| self.open(now + *wait));
        opening.next().unwrap_or(Duration::from_mins(1) * AHEAD)
    }

    fn open(&self, at: Timestamp) -> bool {
        let at = at.to_zoned(self.zone.clone());
        let minute = u32::from(at.hour().unsigned_abs()) * 60 + u32::from(at.minute().unsigned_abs());
        let today = self.on(at.weekday());
        if self.start < self.end {
            return today && (self.start..self.end).contains(&minute);
        }
        let yesterday = self.on(at.weekday().previous());
        (today && minute >= self.start) || (yesterday && minute < self.end)
    }

    fn on(&self, day: Weekday) -> bool {
        let index = usize::from(day.to_monday_zero_offset().unsigned_abs());
        self.days.get(index) == Some(&true)
    }
}

fn window(text: &str) -> Option<Window> {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let days = if words.first()?.starts_with(|c: char| c.is_ascii_alphabetic()) {
        days(words.remove(0))?
    } else {
        [true; 7]
    };
    let (start, end) = words.first()?.split_once('-')?;
    let zone = match words.get(1..)? {
        [] | ["UTC"] => TimeZone::UTC,
        [name] => TimeZone::get(name).ok()?,
        _ => return None,
    };
    let (start, end) = (minute(start)?, minute(end)?);
    (start < DAY && start != end).then_some(Window {
        days,
        start,
        end,
        zone,
    })
}

fn days(text: &str) -> Option<[bool; 7]> {
    let day = |text: &str| {
        let short = text.get(..3)?.to_ascii_lowercase();
        DAYS.iter().position(|day| *day == short)
    };
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(part)?, day(part)?),
        };
        let length = (last + 7 - first) % 7;
        for offset in 0..=length {
            *days.get_mut((first + offset) % 7)? = true;
        }
    }
    Some(days)
}

fn minute(text: &str) -> Option<u32> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
    let whole = hour * 60 + minute;
    (minute < 60 && whole <= DAY).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(windows: &str, now: &str) -> u64 {
        let windows: Windows = windows.parse().unwrap();
        windows.until_open(now.parse().unwrap()).as_secs() / 60
    }

    // 2026-11-23 is a Monday.
    #[test]
    fn a_window_opens_and_closes() {
        let night = "Mon-Fri 22:00-06:00";
        assert_eq!(until(night, "2026-11-23T22:00:00Z"), 0);
        assert_eq!(
            until(night, "2026-11-24T05:59:30Z"),
            0,
            "Monday's window, on Tuesday"
        );
        assert_eq!(until(night, "2026-11-24T06:00:00Z"), 16 * 60);
        assert_eq!(until(night, "2026-11-23T05:00:00Z"), 17 * 60, "Sunday has none");
        assert_eq!(
            until(night, "2026-11-28T06:00:00Z"),
            2 * 24 * 60 + 16 * 60,
            "over the weekend"
        );
    }

    #[test]
    fn days_may_be_left_out_listed_or_go_round() {
        assert_eq!(until("02:00-03:00", "2026-11-23T01:00:00Z"), 60);
        assert_eq!(until("Tue,Thu 02:00-03:00", "2026-11-23T02:30:00Z"), 23 * 60 + 30);
        assert_eq!(until("Sat-Mon 00:00-24:00", "2026-11-23T12:00:00Z"), 0);
        assert_eq!(
            until("Tue 00:00-01:00; Mon 12:00-13:00", "2026-11-23T11:30:00Z"),
            30
        );
    }

    #[test]
    fn junk_is_none() {
        for junk in [
            "",
            "sometimes",
            "Mon",
            "25:00-26:00",
            "10:00-10:00",
            "Foo 01:00-02:00",
            "01:00-02:00 Nowhere/Land",
        ] {
            assert!(junk.parse::<Windows>().is_err(), "{junk}");
        }
    }
}
