//! For tests: bytes behind whose last one nothing can be read.

use std::ops::Deref;

/// A copy of some bytes that ends where readable memory ends: a kernel that reads too far is killed, whether a sanitizer
/// watches it or not (none sees into assembly).
#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
pub(crate) struct AtTheEnd {
    mapped: *mut u8,
    length: usize,
    bytes: std::ops::Range<usize>,
}

#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
impl AtTheEnd {
    const PAGE: usize = 4096;

    pub(crate) fn of(bytes: &[u8]) -> Self {
        let readable = bytes.len().next_multiple_of(Self::PAGE).max(Self::PAGE);
        let length = readable + Self::PAGE;
        // SAFETY: a fresh private mapping, of which the last page is never touched and the bytes fit before it.
        unsafe {
            let (access, kind) = (
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            );
            let mapped = libc::mmap(std::ptr::null_mut(), length, access, kind, -1, 0);
            assert_ne!(mapped, libc::MAP_FAILED, "no memory");
            let mapped: *mut u8 = mapped.cast();
            let last = mapped.add(readable).cast();
            assert_eq!(libc::mprotect(last, Self::PAGE, libc::PROT_NONE), 0);
            let first = readable - bytes.len();
            mapped
                .add(first)
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            Self {
                mapped,
                length,
                bytes: first..readable,
            }
        }
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
impl Deref for AtTheEnd {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the bytes were written and stay mapped as long as this value lives.
        unsafe { std::slice::from_raw_parts(self.mapped.add(self.bytes.start), self.bytes.len()) }
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
impl Drop for AtTheEnd {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own.
        unsafe { libc::munmap(self.mapped.cast(), self.length) };
    }
}

/// A copy of some bytes in an allocation of its own.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(miri))))]
pub(crate) struct AtTheEnd(Box<[u8]>);

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(miri))))]
impl AtTheEnd {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(miri))))]
impl Deref for AtTheEnd {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
