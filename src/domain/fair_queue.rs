//! A queue that serves its groups in turn, so that one namespace with much to do does not make the others wait.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// First in, first out within a group; groups are served round robin.
#[derive(Clone, Debug)]
pub struct FairQueue<T> {
    groups: BTreeMap<Arc<str>, VecDeque<T>>,
    /// Groups that have items, in the order they are served.
    turn: VecDeque<Arc<str>>,
    len: usize,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { groups: BTreeMap::new(), turn: VecDeque::new(), len: 0 }
    }
}

impl<T> FairQueue<T> {
    /// Adds an item behind the others of its group.
    pub fn push(&mut self, group: &Arc<str>, item: T) {
        let items = self.groups.entry(group.clone()).or_default();
        if items.is_empty() {
            self.turn.push_back(group.clone());
        }
        items.push_back(item);
        self.len += 1;
    }

    /// Takes the next item of the group whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let group = self.turn.pop_front()?;
        let items = self.groups.get_mut(&group)?;
        let item = items.pop_front();
        if items.is_empty() {
            self.groups.remove(&group);
        } else {
            self.turn.push_back(group);
        }
        self.len -= usize::from(item.is_some());
        item
    }

    /// Drops the items for which `keep` is false.
    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        for items in self.groups.values_mut() {
            items.retain(&keep);
        }
        self.groups.retain(|_, items| !items.is_empty());
        self.turn.retain(|group| self.groups.contains_key(group));
        self.len = self.groups.values().map(VecDeque::len).sum();
    }

    /// Takes the first item of the group that is `wanted`, out of turn; the others keep their places.
    pub fn remove(&mut self, group: &Arc<str>, wanted: impl FnMut(&T) -> bool) -> Option<T> {
        let items = self.groups.get_mut(group)?;
        let item = items.iter().position(wanted).and_then(|at| items.remove(at))?;
        if items.is_empty() {
            self.groups.remove(group);
            self.turn.retain(|other| other != group);
        }
        self.len -= 1;
        Some(item)
    }

    /// How many items wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_served_in_turn_and_items_of_a_group_in_order() {
        let (busy, quiet): (Arc<str>, Arc<str>) = ("busy".into(), "quiet".into());
        let mut queue = FairQueue::default();
        for n in 1..=3 {
            queue.push(&busy, n);
        }
        queue.push(&quiet, 10);
        let order: Vec<i32> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [1, 10, 2, 3]);
        assert_eq!((queue.len(), queue.is_empty()), (0, true));
    }

    #[test]
    fn dropped_items_leave_the_order_of_the_others() {
        let (left, right): (Arc<str>, Arc<str>) = ("left".into(), "right".into());
        let mut queue = FairQueue::default();
        for n in 1..=4 {
            queue.push(&left, n);
        }
        queue.push(&right, 5);
        queue.retain(|n| n % 2 == 0);
        assert_eq!(queue.len(), 2);
        queue.push(&right, 6);
        let order: Vec<i32> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [2, 6, 4]);
    }

    #[test]
    fn a_removed_item_leaves_the_order_of_the_others() {
        let (left, right): (Arc<str>, Arc<str>) = ("left".into(), "right".into());
        let mut queue = FairQueue::default();
        for n in 1..=3 {
            queue.push(&left, n);
        }
        queue.push(&right, 10);
        assert_eq!(queue.remove(&left, |n| *n == 2), Some(2));
        assert_eq!(queue.remove(&right, |n| *n == 10), Some(10));
        assert_eq!(queue.remove(&right, |_| true), None);
        queue.push(&right, 11);
        let order: Vec<i32> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [1, 11, 3]);
        assert!(queue.is_empty());
    }
}
