//! Running a plan: chunks of images over threads, one image's pixels over threads, or a whole batch step by step.

mod bands;
mod batch;

use super::LayerProfile;
use super::divide::{divide, load_shared, pixels_of};
use super::kernel::{Call, Kernel, Out};
use super::load::Loader;
use super::workspace::{Buffer, Inputs, Workspace};
use crate::lower::{Band, ExecStep, Layout, Numbers, Plan, Slots, ValueId, Within, Work, assign};
use crate::pool::{for_each_pair, in_team, share, threads};
use lowbit_kernels::team::Team;
use lowbit_kernels::{Isa, Level};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Most images that one thread takes at a time.
const CHUNK: usize = 16;

/// Chunks for each thread, at least: one that is interrupted leaves its last ones to the others.
const CHUNKS_PER_THREAD: usize = 4;

/// A plan with the kernels of its steps and the buffers to run them.
pub(super) struct Engine {
    plan: Plan,
    slots: Arc<Slots>,
    /// With buffers for the values within bands, too: some of them may run step by step, others by rows.
    whole: Arc<Slots>,
    /// The bits of what fills each value's halo.
    filling: Vec<u32>,
    kernels: Vec<Box<dyn Kernel>>,
    loader: Loader,
    isa: Isa,
    spare: Mutex<Vec<Workspace>>,
}

/// Sums the seconds of each layer.
type Clock<'a> = Option<&'a mut [f64]>;

impl Engine {
    /// `filling` gives the bits of what fills a value's halo.
    pub(super) fn new(
        plan: Plan,
        kernels: Vec<Box<dyn Kernel>>,
        loader: Loader,
        isa: Isa,
        filling: impl Fn(usize) -> u32,
    ) -> Self {
        let slots = Arc::new(assign(&plan, Within::Rows, &filling));
        Self {
            whole: match plan.bands.is_empty() {
                true => Arc::clone(&slots),
                false => Arc::new(assign(&plan, Within::Values, &filling)),
            },
            slots,
            filling: (0..plan.layouts.len()).map(filling).collect(),
            plan,
            kernels,
            loader,
            isa,
            spare: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Bytes of the values of one thread that runs `images` images at a time, rows that bands keep included.
    pub(super) fn value_bytes(&self, images: usize) -> usize {
        let kept = self.plan.bands.iter().map(|band| self.kept_bytes(band));
        self.slots.bytes(images.min(CHUNK)) + kept.max().unwrap_or(0)
    }

    pub(super) fn run(&self, images: &[u8], count: usize, logits: &mut [f32]) {
        if count == 0 {
            return;
        }
        if self.plan.whole_batch {
            return self.batch(images, count, None, logits);
        }
        let threads = threads();
        let chunk = match threads {
            1 => count.min(CHUNK),
            _ => count.div_ceil(threads * CHUNKS_PER_THREAD).min(CHUNK),
        };
        let (image_len, classes) = (images.len() / count, logits.len() / count);
        if threads > 1 && count == 1 && self.is_worth_sharing() {
            in_team(threads, |team| {
                self.chunk(images, 1, Some(team), None, logits);
            });
            return;
        }
        if threads == 1 || count == 1 {
            for (images, logits) in images
                .chunks(chunk * image_len)
                .zip(logits.chunks_mut(chunk * classes))
            {
                self.chunk(images, images.len() / image_len, None, None, logits);
            }
            return;
        }
        let (input, output) = ((images, chunk * image_len), (logits, chunk * classes));
        for_each_pair(input, output, |images, logits| {
            self.chunk(images, images.len() / image_len, None, None, logits);
        });
    }

    /// Runs a batch and times its layers, conversions included, on the calling thread alone (but for a program that wants
    /// the whole batch at once).
    pub(super) fn profile(
        &self,
        images: &[u8],
        count: usize,
        logits: &mut [f32],
    ) -> Vec<LayerProfile> {
        let layers = self.plan.exec.program.steps();
        let mut seconds = vec![0.0; layers.len()];
        if count > 0 && self.plan.whole_batch {
            self.batch(images, count, Some(&mut seconds), logits);
        } else if let (Some(image_len), Some(classes)) = (
            images.len().checked_div(count),
            logits.len().checked_div(count),
        ) {
            for (images, logits) in images
                .chunks(CHUNK * image_len)
                .zip(logits.chunks_mut(CHUNK * classes))
            {
                let count = images.len() / image_len;
                self.chunk(images, count, None, Some(&mut seconds), logits);
            }
        }
        let numbers = |layer: usize| {
            let mut works = self.plan.exec.steps.iter();
            works.find_map(|step| match step.work {
                Work::Operator(numbers) if step.layer == layer => Some(numbers),
                _ => None,
            })
        };
        let profile = |(layer, seconds): (usize, f64)| LayerProfile {
            name: layers[layer].name.clone(),
            macs: layers[layer].macs,
            numbers: numbers(layer).expect("every layer has its operator"),
            seconds,
        };
        seconds.into_iter().enumerate().map(profile).collect()
    }

    /// Runs an f32 program image by image on the calling thread and shows every value that is not the logits when it has
    /// been computed, dense rows at a time.
    pub(super) fn observe(
        &self,
        images: &[u8],
        count: usize,
        see: &mut dyn FnMut(ValueId, &[f32]),
    ) {
        let image_len = images.len() / count.max(1);
        let last = self.plan.layouts.len() - 1;
        let mut logits = vec![0.0; self.plan.layouts[last].dense_len()];
        let mut show = |workspace: &Workspace, value: usize| {
            let layout = &self.plan.layouts[value];
            let rows = workspace.f32(value);
            (0..layout.h).for_each(|y| see(value, &rows[layout.row(0, y)]));
        };
        let mut workspace = Workspace::new(&self.plan, &self.whole, 1);
        for image in images.chunks(image_len.max(1)) {
            self.load(&mut workspace, image, 0, None);
            show(&workspace, 0);
            for index in 0..self.plan.exec.steps.len() {
                match index < self.plan.split {
                    true => self.image_step(&mut workspace, index, 0, None, &mut logits),
                    false => self.chunk_step(&mut workspace, index, 1, None, &mut logits),
                }
                let value = self.plan.exec.steps[index].output;
                if value != last {
                    show(&workspace, value);
                }
            }
        }
    }

    /// Multiply-accumulates from which on a step is worth sharing: some 3 µs of work, where sharing takes 1 µs.
    fn least_shared_macs(&self, step: &ExecStep) -> u64 {
        match (step.work, self.isa.level()) {
            (_, Level::Portable) => 1 << 12,
            (Work::Operator(Numbers::F32), _) => 1 << 18,
            (_, Level::Amx) => 1 << 22,
            (_, _) => 1 << 20,
        }
    }

    /// Whether each rectangle costs something by itself, so that threads should share whole rows: matrix tiles have the
    /// weights laid out again for each.
    fn prefers_rows(&self, step: &ExecStep) -> bool {
        step.work == Work::Operator(Numbers::U8) && self.isa.level() == Level::Amx
    }

    fn is_large(&self, step: &ExecStep) -> bool {
        let is_operator = matches!(step.work, Work::Operator(_));
        is_operator && self.plan.exec.layer(step).macs >= self.least_shared_macs(step)
    }

    /// Whether several threads should work on one image.
    fn is_worth_sharing(&self) -> bool {
        self.plan.exec.steps.iter().any(|step| self.is_large(step))
    }

    fn chunk(
        &self,
        images: &[u8],
        count: usize,
        team: Option<&Team>,
        mut clock: Clock<'_>,
        logits: &mut [f32],
    ) {
        let threads = team.map_or(1, Team::threads);
        let suits = |band: &Band| self.suits(band, threads);
        let slots = match self.plan.bands.iter().all(suits) {
            true => &self.slots,
            false => &self.whole,
        };
        let mut workspace = self.workspace(slots, count);
        let image_len = images.len() / count;
        let classes = logits.len() / count;
        // A single image's pixels go to the team.
        let split = match count {
            1 => self.plan.vectors,
            _ => self.plan.split,
        };
        for (number, (image, logits)) in images
            .chunks(image_len)
            .zip(logits.chunks_mut(classes))
            .enumerate()
        {
            self.load(&mut workspace, image, number, team);
            let mut index = 0;
            while index < split {
                if let Some(band) = self.plan.band_from(index).filter(|&band| suits(band)) {
                    let clock = clock.as_deref_mut();
                    self.band(&mut workspace, band, number, team, clock, logits);
                    index = band.steps.end;
                    continue;
                }
                self.timed(clock.as_deref_mut(), index, &mut || {
                    self.image_step(&mut workspace, index, number, team, logits);
                });
                index += 1;
            }
        }
        for index in split..self.plan.exec.steps.len() {
            self.timed(clock.as_deref_mut(), index, &mut || {
                self.chunk_step(&mut workspace, index, count, team, logits);
            });
        }
        self.give_back(workspace);
    }

    fn timed(&self, clock: Clock<'_>, index: usize, work: &mut dyn FnMut()) {
        let Some(clock) = clock else {
            return work();
        };
        let start = Instant::now();
        work();
        let layer = self.plan.exec.steps[index].layer;
        clock[layer] += start.elapsed().as_secs_f64();
    }

    fn load(&self, workspace: &mut Workspace, image: &[u8], number: usize, team: Option<&Team>) {
        let layout = &self.plan.layouts[0];
        let mut buffer = workspace.take(0);
        let start = self.image_start(0, number) + layout.first();
        match &mut buffer {
            Buffer::F32(buffer) => {
                let out = &mut buffer.with_slack_mut()[start..];
                let load = |rows: &[u8], out: &mut [f32]| self.loader.f32(layout, rows, out);
                load_shared(layout, image, out, team, load);
            }
            Buffer::U8(buffer) => {
                let out = &mut buffer.with_slack_mut()[start..];
                let load = |rows: &[u8], out: &mut [u8]| self.loader.u8(layout, rows, out);
                load_shared(layout, image, out, team, load);
            }
            Buffer::Taken => unreachable!("nothing writes to the image"),
        }
        workspace.put(0, buffer);
    }

    fn image_start(&self, value: usize, number: usize) -> usize {
        match self.plan.chunked[value] {
            true => number * self.plan.layouts[value].image_len,
            false => 0,
        }
    }

    fn is_last(&self, index: usize) -> bool {
        index + 1 == self.plan.exec.steps.len()
    }

    /// The inputs of a step from image `number` on.
    pub(super) fn inputs<'a>(
        &'a self,
        workspace: &'a Workspace,
        index: usize,
        number: usize,
    ) -> Inputs<'a> {
        Inputs {
            workspace,
            plan: &self.plan,
            step: &self.plan.exec.steps[index],
            number,
            rows: None,
        }
    }

    /// Runs `work` with a step's inputs from image `number` on, and with its output from that image's first pixel on.
    fn with_output(
        &self,
        workspace: &mut Workspace,
        (index, number): (usize, usize),
        logits: &mut [f32],
        work: impl FnOnce(Inputs<'_>, Out<'_>),
    ) {
        let step = &self.plan.exec.steps[index];
        if self.is_last(index) {
            work(self.inputs(workspace, index, number), Out::F32(logits));
            return;
        }
        let first = match self.kernels[index].writes_halo() {
            true => 0,
            false => self.plan.output(index).first(),
        };
        let start = self.image_start(step.output, number) + first;
        let mut buffer = workspace.take(step.output);
        let out = match &mut buffer {
            Buffer::F32(buffer) => Out::F32(&mut buffer.with_slack_mut()[start..]),
            Buffer::U8(buffer) => Out::U8(&mut buffer.with_slack_mut()[start..]),
            Buffer::Taken => unreachable!("one step runs at a time"),
        };
        work(self.inputs(workspace, index, number), out);
        workspace.put(step.output, buffer);
    }

    /// One step for image `number` of the chunk, its pixels over the team.
    fn image_step(
        &self,
        workspace: &mut Workspace,
        index: usize,
        number: usize,
        team: Option<&Team>,
        logits: &mut [f32],
    ) {
        let kernel = &self.kernels[index];
        let is_shared = kernel.is_divisible()
            && !self.is_last(index)
            && self.is_large(&self.plan.exec.steps[index]);
        let layout = self.plan.output(index);
        let pixels = layout.h * layout.w;
        let by_channels = kernel.shares_channels();
        let enough = |team: &Team| by_channels || pixels >= team.threads();
        let team = team.filter(|team| is_shared && enough(team));
        self.with_output(workspace, (index, number), logits, |inputs, out| {
            let Some(team) = team.filter(|_| !by_channels) else {
                return kernel.run(Call {
                    inputs,
                    rows: 0..layout.h,
                    columns: 0..layout.w,
                    team,
                    images: 1,
                    out,
                });
            };
            let parts = self.parts(index, &layout, team.threads());
            match out {
                Out::F32(out) => {
                    share(team, divide(&layout, &parts, out), |(range, out)| {
                        pixels_of(&layout, range, out, |rows, columns, out| {
                            let out = Out::F32(out);
                            run_rectangle(kernel.as_ref(), inputs, rows, columns, out);
                        });
                    });
                }
                Out::U8(out) => {
                    share(team, divide(&layout, &parts, out), |(range, out)| {
                        pixels_of(&layout, range, out, |rows, columns, out| {
                            let out = Out::U8(out);
                            run_rectangle(kernel.as_ref(), inputs, rows, columns, out);
                        });
                    });
                }
            }
        });
    }

    /// Ranges of pixels in row order, one per thread: whole numbers of grains.
    fn parts(&self, index: usize, layout: &Layout, threads: usize) -> Vec<Range<usize>> {
        let whole_rows = self.prefers_rows(&self.plan.exec.steps[index]).then_some(1);
        let rows = self.kernels[index].shared_rows().or(whole_rows);
        let grain = match rows.filter(|rows| layout.h >= rows * threads) {
            Some(rows) => rows * layout.w,
            None => 1,
        };
        let pixels = layout.h * layout.w;
        let grains = pixels.div_ceil(grain);
        let start_of = |part: usize| (part * grains / threads * grain).min(pixels);
        (0..threads)
            .map(|part| start_of(part)..start_of(part + 1))
            .collect()
    }

    /// One step for all images of the chunk.
    fn chunk_step(
        &self,
        workspace: &mut Workspace,
        index: usize,
        images: usize,
        team: Option<&Team>,
        logits: &mut [f32],
    ) {
        let layout = self.plan.output(index);
        self.with_output(workspace, (index, 0), logits, |inputs, out| {
            self.kernels[index].run(Call {
                inputs,
                rows: 0..layout.h,
                columns: 0..layout.w,
                team,
                images,
                out,
            });
        });
    }

    fn workspace(&self, slots: &Arc<Slots>, chunk: usize) -> Workspace {
        let mut spare = self
            .spare
            .lock()
            .expect("no thread panics while it holds the lock");
        if let Some(at) = spare
            .iter()
            .position(|workspace| workspace.fits(slots, chunk))
        {
            return spare.swap_remove(at);
        }
        drop(spare);
        Workspace::new(&self.plan, slots, chunk)
    }

    fn give_back(&self, workspace: Workspace) {
        self.spare
            .lock()
            .expect("no thread panics while it holds the lock")
            .push(workspace);
    }
}

fn run_rectangle(
    kernel: &dyn Kernel,
    inputs: Inputs<'_>,
    rows: Range<usize>,
    columns: Range<usize>,
    out: Out<'_>,
) {
    kernel.run(Call {
        inputs,
        rows,
        columns,
        team: None,
        images: 1,
        out,
    });
}
