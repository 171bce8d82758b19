//! Groups of channels that plain loops handle at a time, so that the compiler makes vectors of them.

/// Channels that are handled at a time.
pub(crate) const LANES: usize = 16;

/// [`LANES`] channels, or fewer at the end of a pixel.
pub(crate) type Lanes<T> = [T; LANES];

/// The channels from `at` on; those beyond `lanes` are the default.
#[inline(always)]
pub(crate) fn load<T: Copy + Default>(from: &[T], at: usize, lanes: usize) -> Lanes<T> {
    if lanes == LANES {
        return *from[at..].first_chunk().expect("a full group");
    }
    let mut loaded = [T::default(); LANES];
    for (to, &value) in loaded.iter_mut().zip(&from[at..at + lanes]) {
        *to = value;
    }
    loaded
}

/// Writes the first `lanes` channels from `at` on.
#[inline(always)]
pub(crate) fn store<T: Copy>(to: &mut [T], at: usize, lanes: usize, values: Lanes<T>) {
    if lanes == LANES {
        *to[at..].first_chunk_mut().expect("a full group") = values;
        return;
    }
    for (to, value) in to[at..at + lanes].iter_mut().zip(values) {
        *to = value;
    }
}

/// `f` per lane.
#[inline(always)]
pub(crate) fn lanewise<T: Copy + Default>(f: impl Fn(usize) -> T) -> Lanes<T> {
    let mut result = [T::default(); LANES];
    for (lane, value) in result.iter_mut().enumerate() {
        *value = f(lane);
    }
    result
}

/// Calls `visit` with the first channel and the number of each group of [`LANES`] channels.
#[inline(always)]
pub(crate) fn each_group(channels: usize, mut visit: impl FnMut(usize, usize)) {
    for start in (0..channels).step_by(LANES) {
        visit(start, (channels - start).min(LANES));
    }
}
