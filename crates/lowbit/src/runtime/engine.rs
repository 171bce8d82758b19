//! Running a plan: chunks of images over threads, or one image's pixels over threads, for any kind of number.

use super::LayerProfile;
use super::plan::Plan;
use crate::graph::BlockKind;
use crate::pool::{in_team, share};
use lowbit_kernels::AlignedBuffer;
use lowbit_kernels::buffer::Number;
use lowbit_kernels::team::Team;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Mutex;
use std::time::Instant;

/// The arithmetic of one kind of model: what a block does to its inputs.
pub(super) trait Arithmetic: Sync {
    /// What values between the blocks are made of.
    type Item: Number;

    fn plan(&self) -> &Plan;

    /// What fills the halo around `value`.
    fn halo_value(&self, value: usize) -> Self::Item;

    /// Brings rows of an image `[h, w, c]` into the layout of value 0, the first pixel to `out[0]`.
    fn load(&self, rows: &[u8], out: &mut [Self::Item]);

    /// Multiply-accumulates from which on a block is worth sharing: some 3 µs of work, where sharing takes 1 µs.
    fn least_shared_macs(&self) -> u64;

    /// Whether each rectangle of a convolution costs something by itself, so that threads should share whole rows.
    fn prefers_rows(&self) -> bool {
        false
    }

    /// Computes a rectangle of one block for one image, or a whole block for a chunk of images.
    fn block(&self, call: Call<'_, Self::Item>);
}

/// One piece of work for [`Arithmetic::block`].
pub(super) struct Call<'a, T> {
    /// Which block.
    pub(super) index: usize,
    /// The input values from their first element (halo included), with slack behind; one image's, or the chunk's.
    pub(super) inputs: [&'a [T]; 2],
    /// Rows to compute (after pooling).
    pub(super) rows: Range<usize>,
    /// Columns to compute (after pooling); all of them but for convolutions.
    pub(super) columns: Range<usize>,
    /// Threads that may share the work.
    pub(super) team: Option<&'a Team>,
    /// Images to compute (more than one only for vectors).
    pub(super) images: usize,
    /// Where they go.
    pub(super) out: Out<'a, T>,
}

/// Where a block's results go.
pub(super) enum Out<'a, T> {
    /// Into a value: from the first pixel to compute.
    Value(&'a mut [T]),
    /// Into the logits, `[images, classes]`.
    Logits(&'a mut [f32]),
}

/// Buffers of one thread.
struct Workspace<T> {
    values: Vec<AlignedBuffer<T>>,
    chunk: usize,
}

/// Most images that one thread takes at a time.
const CHUNK: usize = 16;

/// Bytes of an image from which on threads share bringing it into its layout.
const LARGE_IMAGE: usize = 32 << 10;

/// Chunks for each thread, at least: one that is interrupted leaves its last ones to the others.
const CHUNKS_PER_THREAD: usize = 4;

/// An arithmetic with the buffers to run it.
pub(super) struct Engine<A: Arithmetic> {
    pub(super) arithmetic: A,
    spare: Mutex<Vec<Workspace<A::Item>>>,
}

impl<A: Arithmetic> Engine<A> {
    pub(super) fn new(arithmetic: A) -> Self {
        Self {
            arithmetic,
            spare: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn run(&self, images: &[u8], count: usize, logits: &mut [f32]) {
        if count == 0 {
            return;
        }
        let threads = rayon::current_num_threads();
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
        images
            .par_chunks(chunk * image_len)
            .zip(logits.par_chunks_mut(chunk * classes))
            .with_max_len(1)
            .for_each(|(images, logits)| {
                self.chunk(images, images.len() / image_len, None, None, logits);
            });
    }

    pub(super) fn profile(
        &self,
        images: &[u8],
        count: usize,
        logits: &mut [f32],
    ) -> Vec<LayerProfile> {
        let blocks = self.arithmetic.plan().blocks.list();
        let mut seconds = vec![0.0; blocks.len()];
        let (image_len, classes) = (images.len() / count, logits.len() / count);
        for (images, logits) in images
            .chunks(CHUNK * image_len)
            .zip(logits.chunks_mut(CHUNK * classes))
        {
            let mut clock = |index: usize, spent: f64| seconds[index] += spent;
            self.chunk(
                images,
                images.len() / image_len,
                None,
                Some(&mut clock),
                logits,
            );
        }
        let profile = |(block, seconds): (&crate::graph::Block, f64)| LayerProfile {
            name: block.name.clone(),
            macs: block.macs,
            seconds,
        };
        blocks.iter().zip(seconds).map(profile).collect()
    }

    /// Runs image by image on the calling thread and shows every value that is not the logits, dense rows at a time.
    pub(super) fn observe(
        &self,
        images: &[u8],
        count: usize,
        see: &mut dyn FnMut(usize, &[A::Item]),
    ) {
        let plan = self.arithmetic.plan();
        let image_len = images.len() / count.max(1);
        let classes = plan.layouts[plan.layouts.len() - 1].c;
        let mut logits = vec![0.0; classes];
        for image in images.chunks(image_len.max(1)) {
            let mut workspace = self.workspace(1);
            self.chunk_in(&mut workspace, image, 1, None, None, &mut logits);
            for (value, layout) in plan.layouts[..plan.layouts.len() - 1].iter().enumerate() {
                for row in 0..layout.h {
                    let start = layout.offset(0) + row * layout.row_stride;
                    see(
                        value,
                        &workspace.values[value][start..][..layout.w * layout.c],
                    );
                }
            }
            self.give_back(workspace);
        }
    }

    /// Whether several threads should work on one image.
    fn is_worth_sharing(&self) -> bool {
        let blocks = self.arithmetic.plan().blocks.list();
        let least = self.arithmetic.least_shared_macs();
        blocks.iter().any(|block| block.macs >= least)
    }

    fn chunk(
        &self,
        images: &[u8],
        count: usize,
        team: Option<&Team>,
        clock: Option<&mut dyn FnMut(usize, f64)>,
        logits: &mut [f32],
    ) {
        let mut workspace = self.workspace(count);
        self.chunk_in(&mut workspace, images, count, team, clock, logits);
        self.give_back(workspace);
    }

    fn chunk_in(
        &self,
        workspace: &mut Workspace<A::Item>,
        images: &[u8],
        count: usize,
        team: Option<&Team>,
        mut clock: Option<&mut dyn FnMut(usize, f64)>,
        logits: &mut [f32],
    ) {
        let plan = self.arithmetic.plan();
        let image_len = images.len() / count;
        let classes = logits.len() / count;
        let mut timed = |index: usize, work: &mut dyn FnMut()| match clock.as_deref_mut() {
            None => work(),
            Some(clock) => {
                let start = Instant::now();
                work();
                clock(index, start.elapsed().as_secs_f64());
            }
        };
        for (number, (image, logits)) in images
            .chunks(image_len)
            .zip(logits.chunks_mut(classes))
            .enumerate()
        {
            let layout = &plan.layouts[0];
            let start = image_start(plan, 0, number) + layout.offset(0);
            let out = &mut workspace.values[0].with_slack_mut()[start..];
            match team {
                Some(team) if size_of::<A::Item>() * layout.image_len >= LARGE_IMAGE => {
                    let rows = layout.h.div_ceil(team.threads());
                    let parts = image.chunks(rows * layout.w * layout.c);
                    let parts = parts.zip(out.chunks_mut(rows * layout.row_stride));
                    share(team, parts.collect(), |(rows, out)| {
                        self.arithmetic.load(rows, out)
                    });
                }
                _ => self.arithmetic.load(image, out),
            }
            for index in 0..plan.split {
                timed(index, &mut || {
                    self.image_block(workspace, index, number, team, logits)
                });
            }
        }
        for index in plan.split..plan.blocks.list().len() {
            timed(index, &mut || {
                self.chunk_block(workspace, index, count, team, logits)
            });
        }
    }

    /// One block for image `number` of the chunk, its pixels over the team.
    fn image_block(
        &self,
        workspace: &mut Workspace<A::Item>,
        index: usize,
        number: usize,
        team: Option<&Team>,
        logits: &mut [f32],
    ) {
        let plan = self.arithmetic.plan();
        let block = &plan.blocks.list()[index];
        let (inputs, out) = workspace.values.split_at_mut(index + 1);
        let input = |which: usize| {
            let value = block.inputs[which.min(block.inputs.len() - 1)];
            &inputs[value].with_slack()[image_start(plan, value, number)..]
        };
        let inputs = [input(0), input(1)];
        let layout = plan.output(index);
        if index + 1 == plan.blocks.list().len() {
            let out = Out::Logits(logits);
            self.arithmetic.block(Call {
                index,
                inputs,
                rows: 0..1,
                columns: 0..1,
                team: None,
                images: 1,
                out,
            });
            return;
        }
        let start = image_start(plan, index + 1, number) + layout.offset(0);
        let out = &mut out[0].with_slack_mut()[start..];
        let divisible = matches!(block.kind, BlockKind::Conv { .. })
            && block.macs >= self.arithmetic.least_shared_macs();
        let pixels = layout.h * layout.w;
        let Some(team) = team.filter(|team| divisible && pixels >= team.threads()) else {
            let out = Out::Value(out);
            self.arithmetic.block(Call {
                index,
                inputs,
                rows: 0..layout.h,
                columns: 0..layout.w,
                team: None,
                images: 1,
                out,
            });
            return;
        };
        let count = team.threads();
        // Parts are whole numbers of grains.
        let grain = match self.arithmetic.prefers_rows() && layout.h >= count {
            true => layout.w,
            false => 1,
        };
        let start_of = |part: usize| part * (pixels / grain) / count * grain;
        let mut parts = Vec::with_capacity(count);
        let (mut rest, mut taken) = (out, 0);
        for part in 0..count {
            let range = start_of(part)..start_of(part + 1);
            let end = layout.pixel(range.end);
            let (own, others) = rest.split_at_mut(end.min(taken + rest.len()) - taken);
            (rest, taken) = (others, end);
            parts.push((range, own));
        }
        share(team, parts, |(range, out)| {
            self.pixels(index, inputs, range, out)
        });
    }

    /// A range of one block's pixels in row order, as rectangles: the end of a row, whole rows, the start of a row.
    fn pixels(
        &self,
        index: usize,
        inputs: [&[A::Item]; 2],
        range: Range<usize>,
        out: &mut [A::Item],
    ) {
        let layout = self.arithmetic.plan().output(index);
        let first = layout.pixel(range.start);
        let mut pixel = range.start;
        while pixel < range.end {
            let (row, column, left) = (pixel / layout.w, pixel % layout.w, range.end - pixel);
            let (rows, columns) = if column == 0 && left >= layout.w {
                (row..range.end / layout.w, 0..layout.w)
            } else {
                (row..row + 1, column..layout.w.min(column + left))
            };
            let start = layout.pixel(pixel) - first;
            pixel += rows.len() * columns.len();
            self.arithmetic.block(Call {
                index,
                inputs,
                rows,
                columns,
                team: None,
                images: 1,
                out: Out::Value(&mut out[start..]),
            });
        }
    }

    /// One block for all images of the chunk.
    fn chunk_block(
        &self,
        workspace: &mut Workspace<A::Item>,
        index: usize,
        images: usize,
        team: Option<&Team>,
        logits: &mut [f32],
    ) {
        let plan = self.arithmetic.plan();
        let block = &plan.blocks.list()[index];
        let (inputs, out) = workspace.values.split_at_mut(index + 1);
        let input =
            |which: usize| inputs[block.inputs[which.min(block.inputs.len() - 1)]].with_slack();
        let inputs = [input(0), input(1)];
        let out = if index + 1 == plan.blocks.list().len() {
            Out::Logits(logits)
        } else {
            Out::Value(out[0].with_slack_mut())
        };
        self.arithmetic.block(Call {
            index,
            inputs,
            rows: 0..1,
            columns: 0..1,
            team,
            images,
            out,
        });
    }

    fn workspace(&self, chunk: usize) -> Workspace<A::Item> {
        let mut spare = self
            .spare
            .lock()
            .expect("no thread panics while it holds the lock");
        if let Some(at) = spare.iter().position(|workspace| workspace.chunk >= chunk) {
            return spare.swap_remove(at);
        }
        drop(spare);
        let plan = self.arithmetic.plan();
        let buffer = |value: usize| {
            let mut buffer = AlignedBuffer::zeroed(plan.buffer_len(value, chunk));
            if plan.layouts[value].halo > 0 {
                // The interior is overwritten by every image; the halo stays.
                buffer.fill(self.arithmetic.halo_value(value));
            }
            buffer
        };
        Workspace {
            values: (0..plan.layouts.len()).map(buffer).collect(),
            chunk,
        }
    }

    fn give_back(&self, workspace: Workspace<A::Item>) {
        self.spare
            .lock()
            .expect("no thread panics while it holds the lock")
            .push(workspace);
    }
}

fn image_start(plan: &Plan, value: usize, number: usize) -> usize {
    let layout = &plan.layouts[value];
    if layout.chunked {
        number * layout.image_len
    } else {
        0
    }
}
