//! Chance that is the same each time.

/// Chance that is the same each time (SplitMix64).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `least` to `most`, both among them.
    pub(crate) fn of(&mut self, least: i64, most: i64) -> i64 {
        let many = u64::try_from(most - least + 1).expect("not nothing");
        least + i64::try_from(self.next() % many).expect("a small number")
    }

    /// True so many times of a hundred.
    pub(crate) fn percent(&mut self, percent: i64) -> bool {
        self.of(0, 99) < percent
    }

    pub(crate) fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.next() % u64::try_from(of.len()).expect("a few")).expect("a few")]
    }

    pub(crate) fn request_id(&mut self) -> String {
        let bytes = (u128::from(self.next()) << 64 | u128::from(self.next())).to_be_bytes();
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }
}
