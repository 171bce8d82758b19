//! Plain loops, compiled once per instruction set.

/// Runs a closure compiled for the ISA's vector width: the compiler inlines it into a function with those features and
/// vectorizes it there. Results do not depend on the ISA: nothing is contracted or reassociated.
macro_rules! vectorized {
    ($isa:expr, $body:expr) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn avx512<R>(body: impl FnOnce() -> R) -> R {
            body()
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        fn avx2<R>(body: impl FnOnce() -> R) -> R {
            body()
        }
        match $isa.level() {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a value of `Isa` is proof that its features are available.
            $crate::Level::Avx512 | $crate::Level::Amx => unsafe { avx512($body) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            $crate::Level::Avx2 | $crate::Level::AvxVnni => unsafe { avx2($body) },
            _ => $body(),
        }
    }};
}
pub(crate) use vectorized;
