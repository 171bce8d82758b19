//! Steps that run a few rows at a time, one behind the other.

use super::{Clock, Engine, run_rectangle};
use crate::exec::kernel::Out;
use crate::exec::scratch::Scratch;
use crate::exec::workspace::{Inputs, SomeRows, Workspace};
use crate::lower::{Band, Kept, Numbers};
use crate::pool::share;
use lowbit_kernels::geometry::SLACK;
use lowbit_kernels::team::Team;
use std::ops::Range;

/// Fewest rows of a band's result for a thread: what several threads see of a value, each of them computes.
const LEAST_ROWS: usize = 7;

/// Numbers that bands keep rows of.
trait Number: Scratch {
    fn of_bits(bits: u32) -> Self;
    fn rows(rows: &[Self]) -> SomeRows<'_>;
    fn out(out: &mut [Self]) -> Out<'_>;
}

impl Number for f32 {
    fn of_bits(bits: u32) -> Self {
        Self::from_bits(bits)
    }

    fn rows(rows: &[Self]) -> SomeRows<'_> {
        SomeRows::F32(rows)
    }

    fn out(out: &mut [Self]) -> Out<'_> {
        Out::F32(out)
    }
}

impl Number for u8 {
    fn of_bits(bits: u32) -> Self {
        bits as Self
    }

    fn rows(rows: &[Self]) -> SomeRows<'_> {
        SomeRows::U8(rows)
    }

    fn out(out: &mut [Self]) -> Out<'_> {
        Out::U8(out)
    }
}

/// Some rows of a value.
struct Rows<'a, T> {
    kept: &'a Kept,
    filling: T,
    /// Counted from the first row of the halo on: the row that lies first, and the one behind the last that was computed.
    first: usize,
    end: usize,
    /// With slack behind.
    numbers: &'a mut [T],
}

impl<'a, T: Number> Rows<'a, T> {
    fn new(kept: &'a Kept, filling: T, numbers: &'a mut [T]) -> Self {
        let layout = &kept.layout;
        // What the columns beside the rows hold stays.
        let [left, right] = [layout.halo[1], layout.halo[3]].map(|pixels| pixels * layout.c);
        if left + right > 0 {
            for row in numbers[..kept.len()].chunks_exact_mut(layout.row_stride) {
                row[..left].fill(filling);
                row[layout.row_stride - right..].fill(filling);
            }
        }
        Self {
            kept,
            filling,
            first: 0,
            end: 0,
            numbers,
        }
    }

    /// Makes `seen` the rows that lie here, and returns those of the value that are to be computed: rows in the halo are
    /// filled, and of others what was computed stays.
    fn advance(&mut self, seen: Range<usize>) -> Range<usize> {
        let layout = &self.kept.layout;
        let place = |row: usize, first: usize| (row - first) * layout.row_stride;
        let [above, below] = [layout.halo[0], layout.halo[0] + layout.h];
        if self.end > seen.start {
            let from = place(seen.start, self.first)..place(self.end, self.first);
            self.numbers.copy_within(from, 0);
        }
        self.first = seen.start;
        let new = self.end.max(seen.start)..seen.end;
        self.end = self.end.max(seen.end);
        for row in new.clone().filter(|row| !(above..below).contains(row)) {
            let place = place(row, self.first);
            self.numbers[place..place + layout.row_stride].fill(self.filling);
        }
        let clamped = |row: usize| row.clamp(above, below) - above;
        clamped(new.start)..clamped(new.end)
    }

    /// Where a row of the value goes, from its first pixel on.
    fn place(&self, row: usize) -> usize {
        let layout = &self.kept.layout;
        (row + layout.halo[0] - self.first) * layout.row_stride + layout.halo[1] * layout.c
    }

    /// From a row, counted from the first one of the halo on.
    fn from(&self, row: usize) -> &[T] {
        &self.numbers[(row - self.first) * self.kept.layout.row_stride..]
    }
}

impl Engine {
    /// Bytes of the rows that a band keeps.
    pub(super) fn kept_bytes(&self, band: &Band) -> usize {
        let elements = band.kept.iter().map(|kept| kept.len() + SLACK);
        elements.sum::<usize>() * self.numbers_of(band).size()
    }

    /// What the values between a band's steps are made of.
    fn numbers_of(&self, band: &Band) -> Numbers {
        let value = self.plan.exec.steps[band.steps.start].output;
        self.plan.exec.values[value].numbers
    }

    /// Whether a band is worth it where so many threads share an image; otherwise its steps run one after the other, each over
    /// all of them.
    pub(super) fn suits(&self, band: &Band, threads: usize) -> bool {
        threads == 1 || self.plan.output(band.steps.end - 1).h >= LEAST_ROWS * threads
    }

    /// The steps of a band for image `number` of the chunk, the rows of its result over the team.
    pub(super) fn band(
        &self,
        workspace: &mut Workspace,
        band: &Band,
        number: usize,
        team: Option<&Team>,
        clock: Clock<'_>,
        logits: &mut [f32],
    ) {
        let last = band.steps.end - 1;
        let layout = self.plan.output(last);
        let is_large = |index: usize| self.is_large(&self.plan.exec.steps[index]);
        let team = team.filter(|_| band.steps.clone().any(is_large));
        let numbers = self.numbers_of(band);
        self.with_output(workspace, (last, number), logits, |inputs, out| {
            let run = |rows: Range<usize>, out: Out<'_>, clock: Clock<'_>| match numbers {
                Numbers::F32 => self.rows::<f32>(band, inputs, rows, out, clock),
                Numbers::U8 => self.rows::<u8>(band, inputs, rows, out, clock),
            };
            let Some(team) = team else {
                return run(0..layout.h, out, clock);
            };
            let of_thread = layout.h.div_ceil(team.threads());
            let parts = (0..layout.h).step_by(of_thread);
            let parts = parts.map(|first| first..layout.h.min(first + of_thread));
            match out {
                Out::F32(out) => {
                    let parts = parts.zip(out.chunks_mut(of_thread * layout.row_stride));
                    share(team, parts.collect(), |(rows, out)| {
                        run(rows, Out::F32(out), None)
                    });
                }
                Out::U8(out) => {
                    let parts = parts.zip(out.chunks_mut(of_thread * layout.row_stride));
                    share(team, parts.collect(), |(rows, out)| {
                        run(rows, Out::U8(out), None)
                    });
                }
            }
        });
    }

    /// Some rows of a band's result; `inputs` are those of its last step, and `out` begins at the first row to compute.
    fn rows<T: Number>(
        &self,
        band: &Band,
        inputs: Inputs<'_>,
        rows: Range<usize>,
        mut out: Out<'_>,
        mut clock: Clock<'_>,
    ) {
        let lens = band.kept.iter().map(|kept| kept.len() + SLACK);
        T::with(lens.clone().sum(), |mut rest| {
            let mut kept = Vec::with_capacity(band.kept.len());
            for ((of, len), step) in band.kept.iter().zip(lens).zip(band.steps.clone()) {
                let value = self.plan.exec.steps[step].output;
                let (own, others) = rest.split_at_mut(len);
                rest = others;
                kept.push(Rows::new(of, T::of_bits(self.filling[value]), own));
            }
            let last = kept.len();
            let mut wanted = vec![0..0; last + 1];
            for first in rows.clone().step_by(band.rows) {
                wanted[last] = first..rows.end.min(first + band.rows);
                for at in (0..last).rev() {
                    // The last rows of a step may see nothing new but the halo.
                    wanted[at] = match wanted[at + 1].is_empty() {
                        true => 0..0,
                        false => {
                            let seen = kept[at].kept.window.seen(&wanted[at + 1]);
                            kept[at].advance(seen)
                        }
                    };
                }
                for (at, step) in band.steps.clone().enumerate() {
                    let wanted = wanted[at].clone();
                    if wanted.is_empty() {
                        continue;
                    }
                    let inputs = Inputs {
                        step: &self.plan.exec.steps[step],
                        ..inputs
                    };
                    let (before, behind) = kept.split_at_mut(at);
                    // Rows of the input are counted from the first one that is seen.
                    let (inputs, of) = match before.last() {
                        None => (inputs, wanted.clone()),
                        Some(input) => {
                            let seen = input.kept.window.seen(&wanted);
                            let rows = Some(T::rows(input.from(seen.start)));
                            (Inputs { rows, ..inputs }, 0..wanted.len())
                        }
                    };
                    let columns = 0..self.plan.output(step).w;
                    let kernel = self.kernels[step].as_ref();
                    self.timed(clock.as_deref_mut(), step, &mut || {
                        let out = match behind.first_mut() {
                            Some(to) => {
                                let place = to.place(wanted.start);
                                T::out(&mut to.numbers[place..])
                            }
                            None => {
                                let stride = self.plan.output(step).row_stride;
                                out.from((first - rows.start) * stride)
                            }
                        };
                        run_rectangle(kernel, inputs, of.clone(), columns.clone(), out);
                    });
                }
            }
        });
    }
}

#[cfg(test)]
mod tests;
