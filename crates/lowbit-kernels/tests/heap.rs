//! Counts what is on the heap, in a program whose allocator that is. One thread, no test harness: nothing else allocates.

use lowbit_kernels::AlignedBuffer;
use lowbit_kernels::heap::CountedHeap;
use lowbit_kernels::pages::in_large_pages;

#[global_allocator]
static HEAP: CountedHeap = CountedHeap;

fn main() {
    let before = HEAP.now();
    assert!(before > 0);
    let mut one = vec![0_u8; 1000];
    let two: Vec<u8> = Vec::with_capacity(1000);
    assert_eq!(HEAP.now() - before, 2000);
    one[999] = 7;
    one.reserve_exact(4000);
    assert_eq!(one[999], 7);
    let counted = (HEAP.now() - before, HEAP.most() - before);
    assert_eq!(counted, (6000, 6000));
    drop(two);
    HEAP.forget_most();
    let counted = (HEAP.now() - before, HEAP.most() - before);
    assert_eq!(counted, (5000, 5000));
    drop(one);
    let counted = (HEAP.now() - before, HEAP.most() - before);
    assert_eq!(counted, (0, 5000));

    if cfg!(target_os = "linux") {
        large_pages();
    }
    println!("bytes are counted when they come, grow and go");
}

/// Large pages are not the allocator's: they count as far as buffers have them, and the system gets them back.
fn large_pages() {
    let before = HEAP.now();
    let (a, b) = in_large_pages(1 << 20, || {
        let of = AlignedBuffer::<u8>::zeroed;
        (of(100_000), of(1))
    });
    let [first, second] = [&a, &b].map(|buffer| buffer.with_slack().len());
    // What tells of the region itself is a little more.
    let taken = first + second..first + second + 200;
    let all = HEAP.now() - before;
    assert!(taken.contains(&all) && HEAP.most() >= before + all, "{all}");
    drop(a);
    assert_eq!(all - (HEAP.now() - before), first);
    drop(b);
    assert_eq!(HEAP.now(), before);

    let before = mapped_bytes();
    let buffer = AlignedBuffer::<u8>::zeroed(64 << 20);
    assert!(mapped_bytes() - before >= 64 << 20);
    drop(buffer);
    assert_eq!(mapped_bytes(), before);
}

/// What the process has of addresses.
fn mapped_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = text.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    1024 * kib
        .and_then(|kib| kib.parse::<usize>().ok())
        .expect("a size")
}
