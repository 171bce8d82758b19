//! What a task is, from its own records first and from what the scheduler says second.

use crate::folder::Records;
use crate::records::{End, Interruption};
use serde::{Deserialize, Serialize};

/// A task must be absent from the queue for this long, without a break, before it counts as lost.
pub const PATIENCE_S: u64 = 300;

/// Seconds that a record may take to be seen through a network file system after the scheduler says that the task ended.
const SETTLE_S: u64 = 30;

/// What a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Never sent.
    NotSubmitted,
    /// In the queue, for the first time or again.
    Waiting,
    /// At work.
    Running,
    /// The scheduler says that it ended; its records are awaited.
    Ending,
    /// The scheduler cannot be asked, or does not name it at the moment.
    Unknown,
    /// Ended well, with results.
    Done,
    /// Ended with an error.
    Failed,
    /// Its time was up for good.
    TimedOut,
    /// Stopped by the scheduler for good.
    Preempted,
    /// Stopped by a person.
    Cancelled,
    /// Began, and is gone without a word; or what it made is gone.
    Lost,
    /// Sent, and is gone without having begun.
    NeverStarted,
}

impl State {
    /// All states.
    pub const ALL: [Self; 12] = [
        Self::NotSubmitted,
        Self::Waiting,
        Self::Running,
        Self::Ending,
        Self::Unknown,
        Self::Done,
        Self::Failed,
        Self::TimedOut,
        Self::Preempted,
        Self::Cancelled,
        Self::Lost,
        Self::NeverStarted,
    ];

    /// Returns whether it stays so until somebody submits again.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        self >= Self::Done
    }

    /// Returns whether a second submission sends it.
    #[must_use]
    pub fn is_to_send(self) -> bool {
        self == Self::NotSubmitted || (self.is_terminal() && self != Self::Done)
    }

    /// Returns its name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotSubmitted => "not submitted",
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Ending => "ending",
            Self::Unknown => "unknown",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::TimedOut => "timed out",
            Self::Preempted => "preempted",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
            Self::NeverStarted => "never started",
        }
    }
}

/// What a scheduler says about a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// It waits.
    Waiting,
    /// It runs.
    Running,
    /// It is being cleaned up.
    Ending,
    /// It ended with exit code 0.
    Completed,
    /// It ended otherwise.
    Failed,
    /// The scheduler ended it at its time limit.
    TimedOut,
    /// It was cancelled.
    Cancelled,
    /// It was preempted, and may come back.
    Preempted,
    /// Its node failed, and it may come back.
    NodeFailed,
    /// It is certain to be gone, and how it ended is not known.
    Gone,
}

/// A scheduler's view of one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// The scheduler could not be asked.
    Unasked,
    /// The scheduler answered and did not name the task, since this time without a break.
    Absent {
        /// Seconds since 1970.
        since: u64,
        /// When it was asked last, seconds since 1970.
        asked: u64,
    },
    /// The scheduler named it.
    Seen {
        /// In our words.
        word: Word,
        /// In its own.
        says: String,
        /// Since when it says so without a break, seconds since 1970.
        since: u64,
        /// When it was asked last, seconds since 1970.
        asked: u64,
    },
}

/// Decides what a task is. A record that the task ended is final, as long as what it made is there; the scheduler's state comes before any exit code; what is
/// not known is not a failure; and gone from the queue is not success.
#[must_use]
pub fn decide(
    records: &Records,
    submitted: bool,
    sight: &Sight,
    now: u64,
) -> (State, Option<String>) {
    if let Some(lost) = &records.lost {
        return (State::Lost, Some(lost.clone()));
    }
    if let Some(outcome) = &records.outcome {
        return (of_end(outcome.end), outcome.reason.clone());
    }
    if !submitted {
        return (State::NotSubmitted, None);
    }
    let began = records.started.is_some();
    let gone = if began {
        State::Lost
    } else {
        State::NeverStarted
    };
    let (word, says, since, asked) = match sight {
        Sight::Unasked => return (State::Unknown, Some("the scheduler does not answer".into())),
        Sight::Absent { .. } if records.cancelled => return (State::Cancelled, None),
        Sight::Absent { asked, .. } if is_at_work(records, *asked) => {
            return (State::Running, None);
        }
        Sight::Absent { since, .. } => {
            let seconds = now.saturating_sub(*since);
            let reason = Some(format!(
                "not in the queue for {seconds} s, and left no record of its end"
            ));
            let state = if seconds < PATIENCE_S {
                State::Unknown
            } else {
                gone
            };
            return (state, reason);
        }
        Sight::Seen {
            word,
            says,
            since,
            asked,
        } => (*word, says, now.saturating_sub(*since), *asked),
    };
    let reason = Some(says.clone());
    let ended = |state: State| {
        if since < SETTLE_S {
            (State::Ending, reason.clone())
        } else if began {
            (state, reason.clone())
        } else {
            (State::NeverStarted, reason.clone())
        }
    };
    match word {
        // The task's own word is newer than the scheduler's: it is asked once in ten seconds.
        Word::Waiting if is_at_work(records, asked) => (State::Running, None),
        Word::Waiting => (State::Waiting, waiting_reason(records, says)),
        Word::Running => (State::Running, None),
        Word::Ending => (State::Ending, reason),
        Word::Cancelled if records.cancelled || began => (State::Cancelled, reason),
        Word::Cancelled => ended(State::Cancelled),
        Word::Completed => match ended(State::Failed) {
            (State::Failed, _) => (
                State::Failed,
                Some(format!("{says}, but it left no result")),
            ),
            other => other,
        },
        Word::Failed => ended(State::Failed),
        Word::TimedOut => ended(State::TimedOut),
        Word::Preempted | Word::NodeFailed if since < PATIENCE_S => (
            State::Waiting,
            Some(format!("{says}; the scheduler may bring it back")),
        ),
        Word::Preempted if began => (State::Preempted, reason),
        Word::Preempted | Word::NodeFailed | Word::Gone => (gone, reason),
    }
}

/// Returns the state of a task that left a record of its end.
#[must_use]
pub fn of_end(end: End) -> State {
    match end {
        End::Done => State::Done,
        End::Failed => State::Failed,
        End::TimedOut => State::TimedOut,
        End::Preempted => State::Preempted,
        End::Cancelled => State::Cancelled,
    }
}

/// Whether an attempt began after the scheduler was asked.
fn is_at_work(records: &Records, asked: u64) -> bool {
    let started = records.started.as_ref();
    started.is_some_and(|started| started.interrupted.is_none() && started.unix >= asked)
}

fn waiting_reason(records: &Records, says: &str) -> Option<String> {
    let before = records.started.as_ref().and_then(|started| {
        let why = match started.interrupted? {
            Interruption::TimeLimit => "its time limit",
            Interruption::Asked => "a preemption",
            Interruption::Killed => "a kill",
        };
        Some(format!("goes on after {why}"))
    });
    match (before, says) {
        (None, "") => None,
        (None, says) => Some(says.into()),
        (Some(before), "") => Some(before),
        (Some(before), says) => Some(format!("{before}; {says}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{Outcome, Started};

    fn records(began: bool) -> Records {
        let started = Started {
            attempt: 1,
            idle: 0,
            checkpoints: 0,
            host: "n1".into(),
            pid: 1,
            job: None,
            log: None,
            unix: 0,
            interrupted: None,
        };
        Records {
            started: began.then_some(started),
            ..Records::default()
        }
    }

    fn seen(word: Word, since: u64) -> Sight {
        let says = format!("{word:?}");
        Sight::Seen {
            word,
            says,
            since,
            asked: since,
        }
    }

    fn state(began: bool, sight: Sight, now: u64) -> State {
        decide(&records(began), true, &sight, now).0
    }

    #[test]
    fn a_record_of_the_end_stands_whatever_the_scheduler_says() {
        for (end, state) in [
            (End::Done, State::Done),
            (End::Failed, State::Failed),
            (End::TimedOut, State::TimedOut),
            (End::Preempted, State::Preempted),
            (End::Cancelled, State::Cancelled),
        ] {
            let outcome = Outcome {
                end,
                reason: None,
                exit_code: Some(0),
                attempts: 1,
                seconds: 1,
                host: String::new(),
                job: None,
                unix: 0,
                progress: None,
            };
            let records = Records {
                outcome: Some(outcome),
                ..records(true)
            };
            for sight in [
                Sight::Unasked,
                Sight::Absent {
                    since: 0,
                    asked: 1000,
                },
                seen(Word::Failed, 0),
                seen(Word::Completed, 0),
            ] {
                assert_eq!(decide(&records, true, &sight, 9999).0, state);
            }
        }
    }

    #[test]
    fn gone_from_the_queue_or_completed_without_a_result_is_not_success() {
        assert_eq!(state(true, seen(Word::Completed, 0), 100), State::Failed);
        assert_eq!(
            state(
                true,
                Sight::Absent {
                    since: 0,
                    asked: 1000
                },
                1000
            ),
            State::Lost
        );
    }

    #[test]
    fn unknown_is_not_failed() {
        assert_eq!(state(true, Sight::Unasked, 9_999_999), State::Unknown);
        assert_eq!(state(false, Sight::Unasked, 9_999_999), State::Unknown);
    }

    #[test]
    fn a_task_is_lost_after_five_minutes_of_continuous_absence_only() {
        assert_eq!(
            state(
                true,
                Sight::Absent {
                    since: 1000,
                    asked: 1300
                },
                1000
            ),
            State::Unknown
        );
        assert_eq!(
            state(
                true,
                Sight::Absent {
                    since: 1000,
                    asked: 1300
                },
                1299
            ),
            State::Unknown
        );
        assert_eq!(
            state(
                true,
                Sight::Absent {
                    since: 1000,
                    asked: 1300
                },
                1300
            ),
            State::Lost
        );
        assert_eq!(
            state(
                false,
                Sight::Absent {
                    since: 1000,
                    asked: 1300
                },
                1300
            ),
            State::NeverStarted
        );
    }

    #[test]
    fn a_preempted_task_or_a_failed_node_may_come_back_for_five_minutes() {
        for (word, end) in [
            (Word::Preempted, State::Preempted),
            (Word::NodeFailed, State::Lost),
        ] {
            assert_eq!(state(true, seen(word, 0), 299), State::Waiting);
            assert_eq!(state(true, seen(word, 0), 300), end);
            assert_eq!(state(false, seen(word, 0), 300), State::NeverStarted);
        }
    }

    #[test]
    fn the_scheduler_s_time_out_is_no_success_and_no_failure() {
        assert_eq!(state(true, seen(Word::TimedOut, 0), 60), State::TimedOut);
    }

    #[test]
    fn no_start_marker_means_that_it_never_ran() {
        for word in [
            Word::Failed,
            Word::Completed,
            Word::TimedOut,
            Word::Cancelled,
        ] {
            assert_eq!(
                state(false, seen(word, 0), 60),
                State::NeverStarted,
                "{word:?}"
            );
        }
        assert_eq!(state(true, seen(Word::Cancelled, 0), 60), State::Cancelled);
        let asked = Records {
            cancelled: true,
            ..records(false)
        };
        assert_eq!(
            decide(&asked, true, &seen(Word::Cancelled, 0), 0).0,
            State::Cancelled
        );
    }

    #[test]
    fn a_task_that_began_after_the_scheduler_was_asked_is_running() {
        let asked_at = |asked| Sight::Seen {
            word: Word::Waiting,
            says: String::new(),
            since: 0,
            asked,
        };
        let mut records = records(true);
        records.started.as_mut().unwrap().unix = 50;
        assert_eq!(decide(&records, true, &asked_at(49), 60).0, State::Running);
        assert_eq!(decide(&records, true, &asked_at(51), 60).0, State::Waiting);
        records.started.as_mut().unwrap().interrupted = Some(Interruption::Asked);
        assert_eq!(decide(&records, true, &asked_at(49), 60).0, State::Waiting);
    }

    #[test]
    fn records_are_awaited_for_a_while_after_the_scheduler_saw_the_end() {
        assert_eq!(state(true, seen(Word::Failed, 100), 110), State::Ending);
        assert_eq!(state(true, seen(Word::Failed, 100), 130), State::Failed);
    }

    #[test]
    fn what_failed_or_is_missing_is_sent_again_and_what_is_under_way_is_not() {
        let sent: Vec<_> = State::ALL
            .into_iter()
            .filter(|state| state.is_to_send())
            .collect();
        let expected = [
            State::NotSubmitted,
            State::Failed,
            State::TimedOut,
            State::Preempted,
            State::Cancelled,
            State::Lost,
            State::NeverStarted,
        ];
        assert_eq!(sent, expected);
    }
}
