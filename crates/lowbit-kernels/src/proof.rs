//! Proofs of instruction sets as types, one for each set of features that kernels are compiled for.
//!
//! A value of [`Isa`] exists where detection found its level, and a proof only where such a value has it. What takes or holds
//! a proof may run the instructions, on the strength of its type. On other processors nothing makes one.

#[cfg(target_arch = "x86_64")]
use crate::{Isa, Level};

/// AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

/// AVX2 and FMA with AVX-VNNI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AvxVnni(());

/// AVX-512 F, BW, DQ, VL and VNNI, with AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

/// The same with VPOPCNTDQ.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512Popcnt(());

/// AMX-INT8, which this process may use, with all of [`Avx512`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amx(());

#[cfg(target_arch = "x86_64")]
impl Isa {
    /// The proof of AVX2, which every level of x86-64 above the portable one includes.
    pub(crate) fn avx2(self) -> Option<Avx2> {
        let has = match self.level() {
            Level::Avx2 | Level::AvxVnni | Level::Avx512 | Level::Amx => true,
            Level::Portable => false,
        };
        has.then_some(Avx2(()))
    }

    /// The proof of AVX-VNNI, as its own level has it: those with AVX-512 have no use for it.
    pub(crate) fn avx_vnni(self) -> Option<AvxVnni> {
        (self.level() == Level::AvxVnni).then_some(AvxVnni(()))
    }

    /// The proof of AVX-512.
    pub(crate) fn avx512(self) -> Option<Avx512> {
        matches!(self.level(), Level::Avx512 | Level::Amx).then_some(Avx512(()))
    }

    /// The proof of VPOPCNTDQ, which not every machine with AVX-512 has.
    pub(crate) fn avx512_popcnt(self) -> Option<Avx512Popcnt> {
        self.avx512()?;
        std::arch::is_x86_feature_detected!("avx512vpopcntdq").then_some(Avx512Popcnt(()))
    }

    /// The proof of AMX-INT8.
    pub(crate) fn amx(self) -> Option<Amx> {
        (self.level() == Level::Amx).then_some(Amx(()))
    }
}

impl From<AvxVnni> for Avx2 {
    fn from(AvxVnni(()): AvxVnni) -> Self {
        Self(())
    }
}

impl From<Avx512Popcnt> for Avx512 {
    fn from(Avx512Popcnt(()): Avx512Popcnt) -> Self {
        Self(())
    }
}

/// The vectors that a proof allows, for what depends on nothing else; on other processors there are none.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Vectors {
    /// 256 bits.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// 512 bits.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

#[cfg(target_arch = "x86_64")]
impl From<Avx2> for Vectors {
    fn from(proof: Avx2) -> Self {
        Self::Avx2(proof)
    }
}

#[cfg(target_arch = "x86_64")]
impl From<AvxVnni> for Vectors {
    fn from(proof: AvxVnni) -> Self {
        Self::Avx2(proof.into())
    }
}

#[cfg(target_arch = "x86_64")]
impl From<Avx512> for Vectors {
    fn from(proof: Avx512) -> Self {
        Self::Avx512(proof)
    }
}

#[cfg(target_arch = "x86_64")]
impl From<Avx512Popcnt> for Vectors {
    fn from(proof: Avx512Popcnt) -> Self {
        Self::Avx512(proof.into())
    }
}
