//! A deterministic random number generator as a value: the same seed gives the same numbers.

use std::time::Duration;

/// A generator of random numbers (SplitMix64).
#[derive(Debug, Clone)]
pub struct DeterministicRng(pub u64);

impl DeterministicRng {
    /// The generator of this seed for the item of this number.
    #[must_use]
    pub fn of(seed: u64, number: u64) -> Self {
        let mut rng = Self(seed ^ number.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        rng.bits();
        rng
    }

    /// The next number.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`, which must not be zero.
    pub fn below(&mut self, end: u64) -> u64 {
        self.bits() % end
    }

    /// A number from `first` to `last`, both included.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// A duration between two numbers of milliseconds.
    pub fn millis(&mut self, first: u64, last: u64) -> Duration {
        Duration::from_millis(self.between(first, last))
    }

    /// An index into a collection of this length.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }

    /// A number below `end` that is a function of a seed and a name, whenever it is asked for.
    pub fn named(seed: u64, name: &str, end: u64) -> u64 {
        let mixed = name.bytes().fold(Self(seed), |mut chance, byte| Self(chance.bits() ^ u64::from(byte)));
        Self(mixed.0).below(end)
    }

    /// True this many times in a thousand.
    pub fn permille(&mut self, share: u64) -> bool {
        self.below(1_000) < share
    }

    /// A number in 0..1.
    pub fn unit(&mut self) -> f64 {
        f64::from(u32::try_from(self.below(1 << 20)).unwrap()) / f64::from(1 << 20)
    }
}
