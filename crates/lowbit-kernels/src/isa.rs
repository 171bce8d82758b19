//! Which instruction set the kernels use: found once, overridable by `LOWBIT_ISA`.

use std::sync::OnceLock;

/// An instruction-set level that kernels are written for, from the slowest to the fastest.
///
/// A level is a name and proves nothing: [`Isa`] is what kernels take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Level {
    /// Plain Rust, any machine.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// The same with AVX-VNNI, as desktop and laptop processors have it.
    AvxVnni,
    /// x86-64 with AVX-512 F, BW, DQ, VL and VNNI.
    Avx512,
    /// The same with AMX-INT8, in an operating system that lets this process use it.
    Amx,
}

/// A level that this machine has: a value of this type is proof of it, since nothing but detection makes one.
///
/// ```
/// use lowbit_kernels::{Isa, Level};
///
/// let isa = Isa::best();
/// assert!(Isa::available().contains(&isa));
/// assert_eq!(Isa::PORTABLE.level(), Level::Portable);
/// ```
///
/// It cannot be written down for a machine that may lack it:
///
/// ```compile_fail,E0423
/// use lowbit_kernels::{Isa, Level};
///
/// let isa = Isa(Level::Amx);
/// ```
///
/// ```compile_fail,E0599
/// let isa = lowbit_kernels::Isa::Avx512;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Isa(Level);

/// Why a forced level cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IsaError {
    /// The name is not one of the known levels.
    #[error("LOWBIT_ISA={0}: unknown level; use portable, avx2, avxvnni, avx512 or amx")]
    Unknown(String),
    /// The machine does not have the level.
    #[error("LOWBIT_ISA={requested}: this machine has {available}")]
    Unavailable {
        /// The level asked for.
        requested: &'static str,
        /// The levels of this machine.
        available: String,
    },
}

impl Level {
    const ALL: [Level; 5] = [
        Level::Portable,
        Level::Avx2,
        Level::AvxVnni,
        Level::Avx512,
        Level::Amx,
    ];

    /// The name that `LOWBIT_ISA` takes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Avx2 => "avx2",
            Level::AvxVnni => "avxvnni",
            Level::Avx512 => "avx512",
            Level::Amx => "amx",
        }
    }

    /// The proof that this machine has the level, if it has.
    #[must_use]
    pub fn detect(self) -> Option<Isa> {
        self.is_available().then_some(Isa(self))
    }

    #[cfg(target_arch = "x86_64")]
    fn is_available(self) -> bool {
        use std::arch::is_x86_feature_detected as has;
        let avx2 = || has!("avx2") && has!("fma");
        let avx512 = || {
            avx2()
                && has!("avx512f")
                && has!("avx512bw")
                && has!("avx512dq")
                && has!("avx512vl")
                && has!("avx512vnni")
        };
        match self {
            Level::Portable => true,
            Level::Avx2 => avx2(),
            Level::AvxVnni => avx2() && has!("avxvnni"),
            Level::Avx512 => avx512(),
            Level::Amx => avx512() && amx(),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn is_available(self) -> bool {
        self == Level::Portable
    }
}

impl Isa {
    /// Plain Rust, which every machine runs.
    pub const PORTABLE: Isa = Isa(Level::Portable);

    /// The fastest level of this machine.
    #[must_use]
    pub fn best() -> Self {
        let mut fastest_first = Level::ALL.into_iter().rev();
        fastest_first
            .find_map(Level::detect)
            .unwrap_or(Isa::PORTABLE)
    }

    /// All levels of this machine, slowest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        Level::ALL.into_iter().filter_map(Level::detect).collect()
    }

    /// The level named `name`, if this machine has it.
    ///
    /// # Errors
    /// [`IsaError`] when the name is unknown or the machine lacks the level.
    pub fn named(name: &str) -> Result<Self, IsaError> {
        let Some(level) = Level::ALL.into_iter().find(|level| level.name() == name) else {
            return Err(IsaError::Unknown(name.to_owned()));
        };
        level.detect().ok_or_else(|| {
            let available: Vec<_> = Self::available().into_iter().map(Self::name).collect();
            IsaError::Unavailable {
                requested: level.name(),
                available: available.join(", "),
            }
        })
    }

    /// The level in force: `LOWBIT_ISA` if set, else [`Isa::best`]. Read once per process.
    ///
    /// # Errors
    /// As [`Isa::named`], for the value of `LOWBIT_ISA`.
    pub fn current() -> Result<Self, IsaError> {
        static CURRENT: OnceLock<Result<Isa, IsaError>> = OnceLock::new();
        CURRENT
            .get_or_init(|| match std::env::var("LOWBIT_ISA") {
                Ok(name) if !name.is_empty() => Isa::named(&name),
                _ => Ok(Isa::best()),
            })
            .clone()
    }

    /// The level that this machine has been proved to have.
    #[must_use]
    pub fn level(self) -> Level {
        self.0
    }

    /// The name that `LOWBIT_ISA` takes.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name()
    }
}

/// Whether AMX-INT8 is there and this process may use it: Linux wants to be asked, once per process, before any thread
/// touches a tile (`arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`, Linux 5.16 or later).
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn amx() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    const TILE_AND_INT8: u32 = 1 << 24 | 1 << 25;
    static USABLE: OnceLock<bool> = OnceLock::new();
    *USABLE.get_or_init(|| {
        // SAFETY: (both) every x86-64 machine has CPUID, and the system call takes two numbers and changes nothing but
        // this process's permission. It fails where kernel or machine lack AMX.
        #[allow(unused_unsafe)]
        unsafe {
            __cpuid(0).eax >= 7
                && __cpuid_count(7, 0).edx & TILE_AND_INT8 == TILE_AND_INT8
                && libc::syscall(
                    libc::SYS_arch_prctl,
                    ARCH_REQ_XCOMP_PERM,
                    XFEATURE_XTILEDATA,
                ) == 0
        }
    })
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn amx() -> bool {
    false
}

impl std::fmt::Display for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
