//! A set of shards.

/// One bit for each shard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct ShardSet(u8);

impl ShardSet {
    pub const EMPTY: Self = Self(0);

    pub fn contains(self, shard: usize) -> bool {
        self.0 >> shard & 1 == 1
    }

    pub fn with(self, shard: usize) -> Self {
        Self(self.0 | 1 << shard)
    }

    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..8).filter(move |&shard| self.contains(shard))
    }
}

impl FromIterator<usize> for ShardSet {
    fn from_iter<I: IntoIterator<Item = usize>>(shards: I) -> Self {
        shards.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl std::fmt::Display for ShardSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.iter().map(|shard| format!("s{shard}")).collect();
        f.write_str(&names.join(" and "))
    }
}
