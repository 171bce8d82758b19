//! One painter per class.
//!
//! Colors are rough surface reflectances as Sentinel-2's red, green and blue bands see them, brightened for the eye.

use std::f32::consts::{PI, TAU};

use lowbit_kernels::random::{RngCore, below, normal, uniform};

use super::canvas::{Canvas, Color, Noise, SIDE, mix, shade, tint, vary, winding_path};

const SOIL: Color = [0.50, 0.42, 0.36];
const STRAW: Color = [0.58, 0.52, 0.38];
const SPROUT: Color = [0.34, 0.43, 0.30];
const CROP: Color = [0.22, 0.36, 0.22];
const GRASS: Color = [0.31, 0.42, 0.27];
const HEATH: Color = [0.40, 0.39, 0.29];
const WOOD: Color = [0.14, 0.24, 0.19];
const ASPHALT: Color = [0.46, 0.46, 0.48];
const WATER: Color = [0.13, 0.22, 0.30];
const SILT: Color = [0.30, 0.34, 0.32];

/// Paints a scene of `class`, an index into `CLASSES`.
pub(crate) fn paint(rng: &mut impl RngCore, class: usize, canvas: &mut Canvas) {
    match class {
        0 => annual_crop(rng, canvas),
        1 => forest(rng, canvas),
        2 => herbaceous(rng, canvas),
        3 => highway(rng, canvas),
        4 => industrial(rng, canvas),
        5 => pasture(rng, canvas),
        6 => permanent_crop(rng, canvas),
        7 => residential(rng, canvas),
        8 => river(rng, canvas),
        _ => sea_lake(rng, canvas),
    }
}

/// What grows on one field: a color, crop rows and unevenness.
struct Field {
    color: Color,
    angle: f32,
    period: f32,
    rows: f32,
    patches: Noise,
    unevenness: f32,
}

impl Field {
    fn plowed(rng: &mut impl RngCore, strength: f32) -> Self {
        let kinds = [SOIL, STRAW, SPROUT, CROP, GRASS];
        let kind = kinds[below(rng, kinds.len() as u32) as usize];
        Self {
            color: vary(rng, kind, 0.12),
            angle: uniform(rng) * PI,
            period: 2.2 + 2.0 * uniform(rng),
            rows: strength * (0.2 + 0.8 * uniform(rng)),
            patches: Noise::new(rng, 14.0),
            unevenness: 0.03 + 0.08 * uniform(rng),
        }
    }

    fn at(&self, x: f32, y: f32) -> Color {
        let (sin, cos) = self.angle.sin_cos();
        let row = ((x * cos + y * sin) * TAU / self.period).sin();
        let factor = 1.0 + self.rows * row + self.unevenness * self.patches.at(x, y);
        shade(self.color, factor)
    }
}

/// Fields of straight borders, about `size` pixels wide.
fn fields(rng: &mut impl RngCore, canvas: &mut Canvas, size: f32, strength: f32) {
    let (sin, cos) = (uniform(rng) * PI).sin_cos();
    let (width, height) = (
        size * (0.7 + uniform(rng)),
        size * (0.7 + 0.6 * uniform(rng)),
    );
    let (shift_u, shift_v) = (uniform(rng) * width, uniform(rng) * height);
    let plots: Vec<Field> = (0..9).map(|_| Field::plowed(rng, strength)).collect();
    let margin = 0.4 * uniform(rng);
    canvas.repaint(|x, y, _| {
        let (u, v) = (x * cos + y * sin + shift_u, y * cos - x * sin + shift_v);
        let (column, row) = ((u / width).floor(), (v / height).floor());
        let plot = (column as i64 * 2 + row as i64 * 5).rem_euclid(plots.len() as i64);
        let color = plots[plot as usize].at(x, y);
        let edge = (u - column * width).min(v - row * height);
        if edge < 1.0 {
            shade(color, 1.0 - margin)
        } else {
            color
        }
    });
}

/// A bare texture: a color with coarse and fine unevenness.
fn ground(
    rng: &mut impl RngCore,
    canvas: &mut Canvas,
    color: Color,
    (coarse, coarse_period): (f32, f32),
    (fine, fine_period): (f32, f32),
) {
    let hills = Noise::new(rng, coarse_period);
    let grain = Noise::new(rng, fine_period);
    canvas.repaint(|x, y, _| shade(color, 1.0 + coarse * hills.at(x, y) + fine * grain.at(x, y)));
}

/// Single trees or bushes, anywhere.
fn trees(rng: &mut impl RngCore, canvas: &mut Canvas, count: u32, color: Color) {
    for _ in 0..count {
        let center = anywhere(rng);
        let radius = 0.7 + 1.3 * uniform(rng);
        let crown = vary(rng, color, 0.15);
        canvas.disk(center, radius, crown);
    }
}

fn anywhere(rng: &mut impl RngCore) -> (f32, f32) {
    (uniform(rng) * SIDE as f32, uniform(rng) * SIDE as f32)
}

/// Land that roads and rivers run through: mostly fields, else grass or wood.
fn countryside(rng: &mut impl RngCore, canvas: &mut Canvas) {
    match below(rng, 5) {
        0..3 => fields(rng, canvas, 22.0, 0.08),
        3 => {
            let color = vary(rng, GRASS, 0.15);
            ground(rng, canvas, color, (0.15, 18.0), (0.1, 3.0));
            trees(rng, canvas, 40, WOOD);
        }
        _ => {
            let color = vary(rng, HEATH, 0.15);
            ground(rng, canvas, color, (0.2, 12.0), (0.2, 2.5));
        }
    }
}

fn annual_crop(rng: &mut impl RngCore, canvas: &mut Canvas) {
    let size = 26.0 + 34.0 * uniform(rng);
    fields(rng, canvas, size, 0.1);
    if below(rng, 4) == 0 {
        let path = winding_path(rng, 1.0);
        let dirt = vary(rng, SOIL, 0.15);
        canvas.line(&path, 1.0, dirt);
    }
}

fn forest(rng: &mut impl RngCore, canvas: &mut Canvas) {
    let color = vary(rng, WOOD, 0.2);
    let crowns = (0.1 + 0.2 * uniform(rng), 2.0 + uniform(rng));
    ground(rng, canvas, color, (0.15, 16.0), crowns);
    let clearings = below(rng, 3);
    for _ in 0..clearings {
        let center = anywhere(rng);
        let radius = 2.0 + 5.0 * uniform(rng);
        let color = vary(rng, mix(WOOD, GRASS, 0.7), 0.1);
        canvas.disk(center, radius, color);
    }
}

fn herbaceous(rng: &mut impl RngCore, canvas: &mut Canvas) {
    let share = uniform(rng);
    let color = vary(rng, mix(HEATH, mix(GRASS, WOOD, 0.3), share), 0.15);
    let fine = 0.1 + 0.25 * uniform(rng);
    ground(rng, canvas, color, (0.25, 11.0), (fine, 2.6));
    let bushes = below(rng, 120);
    trees(rng, canvas, bushes, mix(WOOD, HEATH, 0.4));
}

fn pasture(rng: &mut impl RngCore, canvas: &mut Canvas) {
    let color = tint(rng, GRASS, SPROUT, 0.5, 0.14);
    let fine = 0.02 + 0.08 * uniform(rng);
    ground(rng, canvas, color, (0.14, 24.0), (fine, 3.0));
    let hedges = below(rng, 3);
    for _ in 0..hedges {
        let path = winding_path(rng, 2.0);
        let hedge = vary(rng, mix(WOOD, GRASS, 0.3), 0.15);
        let width = 0.8 + 1.5 * uniform(rng);
        canvas.line(&path, width, hedge);
    }
    let single = below(rng, 25);
    trees(rng, canvas, single, WOOD);
}

/// Rows of single trees on bare soil or grass.
fn permanent_crop(rng: &mut impl RngCore, canvas: &mut Canvas) {
    fields(rng, canvas, 40.0, 0.06);
    let (sin, cos) = (uniform(rng) * PI).sin_cos();
    let (between_rows, between_trees) = (3.2 + 3.0 * uniform(rng), 2.2 + 2.6 * uniform(rng));
    let strength = 0.12 + 0.35 * uniform(rng);
    let tree = vary(rng, mix(WOOD, CROP, 0.5), 0.15);
    let growth = Noise::new(rng, 16.0);
    canvas.repaint(|x, y, under| {
        let (u, v) = (x * cos + y * sin, y * cos - x * sin);
        let row = 0.5 + 0.5 * (u * TAU / between_rows).cos();
        let stem = 0.5 + 0.5 * (v * TAU / between_trees).cos();
        let stands = (0.8 + 0.6 * growth.at(x, y)).clamp(0.0, 1.0);
        mix(
            under,
            tree,
            strength * stands * (row * (0.6 + 0.8 * stem)).min(1.0),
        )
    });
}

fn highway(rng: &mut impl RngCore, canvas: &mut Canvas) {
    countryside(rng, canvas);
    let bend = 7.0 * uniform(rng);
    let path = winding_path(rng, bend);
    let width = 2.4 + 2.6 * uniform(rng);
    let verge = tint(rng, GRASS, SOIL, 1.0, 0.1);
    let road = vary(rng, ASPHALT, 0.16);
    canvas.line(&path, width + 2.0 * uniform(rng), verge);
    canvas.line(&path, width, road);
    if below(rng, 2) == 0 {
        let median = vary(rng, GRASS, 0.15);
        canvas.line(&path, 0.6, median);
    }
    let side_roads = below(rng, 3);
    for _ in 0..side_roads {
        let path = winding_path(rng, 4.0);
        canvas.line(&path, 0.8 + 0.8 * uniform(rng), road);
    }
    let houses = below(rng, 6);
    buildings(rng, canvas, houses, (0.8, 2.5));
}

/// Roofs of `count` buildings, each half as wide and high as `sizes` says, anywhere.
fn buildings(rng: &mut impl RngCore, canvas: &mut Canvas, count: u32, sizes: (f32, f32)) {
    let angle = uniform(rng) * PI;
    for _ in 0..count {
        let center = anywhere(rng);
        let mut side = || sizes.0 + (sizes.1 - sizes.0) * uniform(rng) * uniform(rng);
        let half = (side(), side());
        let roof = roof(rng);
        canvas.rectangle(center, half, angle, roof);
    }
}

fn roof(rng: &mut impl RngCore) -> Color {
    let kinds: [Color; 4] = [
        [0.72, 0.72, 0.74],
        [0.55, 0.56, 0.60],
        [0.56, 0.42, 0.37],
        [0.40, 0.39, 0.41],
    ];
    let kind = kinds[below(rng, 4) as usize];
    vary(rng, kind, 0.14)
}

fn industrial(rng: &mut impl RngCore, canvas: &mut Canvas) {
    let yard = tint(rng, ASPHALT, mix(GRASS, SOIL, 0.5), 0.6, 0.12);
    ground(rng, canvas, yard, (0.15, 12.0), (0.15, 2.5));
    let angle = uniform(rng) * PI;
    let halls = 6 + below(rng, 16);
    for _ in 0..halls {
        let center = anywhere(rng);
        let half = (
            1.5 + 8.0 * uniform(rng) * uniform(rng),
            1.5 + 5.0 * uniform(rng),
        );
        let turn = angle + 0.05 * normal(rng) + if below(rng, 2) == 0 { PI / 2.0 } else { 0.0 };
        let (roof, shadow) = (roof(rng), (center.0 + 0.9, center.1 + 0.9));
        canvas.rectangle(shadow, half, turn, [0.16, 0.16, 0.18]);
        canvas.rectangle(center, half, turn, roof);
    }
    let green = below(rng, 30);
    trees(rng, canvas, green, CROP);
}

/// Small roofs and gardens along the streets of a grid.
fn residential(rng: &mut impl RngCore, canvas: &mut Canvas) {
    let garden = tint(rng, GRASS, SOIL, 0.4, 0.14);
    ground(rng, canvas, garden, (0.15, 12.0), (0.2, 2.2));
    let angle = uniform(rng) * PI;
    let (sin, cos) = angle.sin_cos();
    let (block_u, block_v) = (8.0 + 7.0 * uniform(rng), 12.0 + 14.0 * uniform(rng));
    let street = vary(rng, ASPHALT, 0.12);
    let width = 1.0 + 0.8 * uniform(rng);
    canvas.repaint(|x, y, under| {
        let (u, v) = (x * cos + y * sin + 200.0, y * cos - x * sin + 200.0);
        let near = (u % block_u).min(v % block_v);
        mix(under, street, (width - near + 0.5).clamp(0.0, 1.0))
    });
    let spacing = 3.4 + 1.6 * uniform(rng);
    let occupied = 0.5 + 0.5 * uniform(rng);
    let tiles = roof(rng);
    let steps = (96.0 / spacing) as i32;
    for row in 0..steps {
        for column in 0..steps {
            let present = uniform(rng) < occupied;
            let (u, v) = (
                (column as f32 + 0.3 * normal(rng)) * spacing - 48.0,
                (row as f32 + 0.3 * normal(rng)) * spacing - 48.0,
            );
            let half = (0.7 + 0.7 * uniform(rng), 0.6 + 0.5 * uniform(rng));
            let color = vary(rng, tiles, 0.18);
            if present {
                let center = (32.0 + u * cos - v * sin, 32.0 + u * sin + v * cos);
                canvas.rectangle(center, half, angle, color);
            }
        }
    }
    let green = 20 + below(rng, 80);
    trees(rng, canvas, green, WOOD);
}

fn river(rng: &mut impl RngCore, canvas: &mut Canvas) {
    countryside(rng, canvas);
    let bend = 4.0 + 9.0 * uniform(rng);
    let path = winding_path(rng, bend);
    let width = 3.0 + 12.0 * uniform(rng) * uniform(rng).sqrt();
    let bank = tint(rng, WOOD, SOIL, 0.6, 0.15);
    canvas.line(&path, width + 1.0 + 3.0 * uniform(rng), bank);
    let water = tint(rng, WATER, SILT, 1.0, 0.14);
    canvas.line(&path, width, water);
    let houses = below(rng, 8);
    buildings(rng, canvas, houses, (0.7, 2.0));
}

fn sea_lake(rng: &mut impl RngCore, canvas: &mut Canvas) {
    let color = tint(rng, WATER, mix(SILT, WOOD, 0.5), 0.7, 0.18);
    let swell = 0.02 + 0.05 * uniform(rng);
    ground(rng, canvas, color, (0.08, 30.0), (swell, 2.4));
    if below(rng, 3) == 0 {
        let mut shore = Canvas::new();
        countryside(rng, &mut shore);
        let share = 0.4 * uniform(rng);
        canvas.cover(rng, &shore, share);
    }
}
