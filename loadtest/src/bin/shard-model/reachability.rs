//! From which states can a wanted one still be reached?
//!
//! stateright's `eventually` holds only where no path comes back to a state it has been in, and here every renewal does
//! that. So this builds the graph of all reachable states and looks at it backwards from the wanted ones.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};

use stateright::Model;

/// What is asked of a graph.
pub struct Question<M: Model> {
    /// The steps that may lead to a wanted state.
    pub allowed: fn(&M::Action) -> bool,
    /// From which states it must be reachable.
    pub asked: fn(&M, &M::State) -> bool,
    pub wanted: fn(&M, &M::State) -> bool,
}

/// What came of it.
pub struct Reachability<M: Model> {
    pub steps: usize,
    pub states: usize,
    pub depth: usize,
    /// The shortest way to a state from which no wanted one can be reached, and how many such states there are.
    pub stuck: Option<Stuck<M>>,
}

pub struct Stuck<M: Model> {
    pub count: usize,
    pub actions: Vec<M::Action>,
    pub states: Vec<M::State>,
}

/// All states by number, in the order of their discovery.
struct Graph {
    numbers: HashMap<u64, u32, BuildHasherDefault<DefaultHasher>>,
    parents: Vec<u32>,
    /// Allowed steps, from and to.
    edges: Vec<(u32, u32)>,
    asked: Vec<bool>,
    wanted: Vec<bool>,
    steps: usize,
    depth: usize,
}

impl<M: Model> Question<M>
where
    M::State: Hash + PartialEq + Clone,
    M::Action: Copy,
{
    /// Explores the model and answers.
    pub fn ask(&self, model: &M) -> Reachability<M> {
        let graph = self.explore(model);
        let able = graph.able();
        let stuck: Vec<usize> = (0..able.len()).filter(|&state| graph.asked[state] && !able[state]).collect();
        let stuck = stuck.first().map(|&first| {
            let (actions, states) = graph.path(model, first);
            Stuck { count: stuck.len(), actions, states }
        });
        Reachability { steps: graph.steps, states: graph.parents.len(), depth: graph.depth, stuck }
    }

    fn explore(&self, model: &M) -> Graph {
        let mut graph = Graph {
            numbers: HashMap::default(),
            parents: Vec::new(),
            edges: Vec::new(),
            asked: Vec::new(),
            wanted: Vec::new(),
            steps: 0,
            depth: 0,
        };
        let mut level = Vec::new();
        for state in model.init_states() {
            let number = graph.parents.len() as u32;
            self.add(&mut graph, model, &state, number);
            level.push((number, state));
        }
        let mut actions = Vec::new();
        while !level.is_empty() {
            graph.depth += 1;
            let mut next_level = Vec::new();
            for (number, state) in level {
                model.actions(&state, &mut actions);
                for action in actions.drain(..) {
                    let allowed = (self.allowed)(&action);
                    let Some(next) = model.next_state(&state, action) else { continue };
                    graph.steps += 1;
                    let known = graph.numbers.get(&fingerprint(&next)).copied();
                    let to = known.unwrap_or_else(|| self.add(&mut graph, model, &next, number));
                    if allowed {
                        graph.edges.push((number, to));
                    }
                    if known.is_none() {
                        next_level.push((to, next));
                    }
                }
            }
            level = next_level;
        }
        graph
    }

    fn add(&self, graph: &mut Graph, model: &M, state: &M::State, parent: u32) -> u32 {
        let number = graph.parents.len() as u32;
        graph.numbers.insert(fingerprint(state), number);
        graph.parents.push(parent);
        graph.asked.push((self.asked)(model, state));
        graph.wanted.push((self.wanted)(model, state));
        number
    }
}

impl Graph {
    /// Which states a wanted one can be reached from.
    fn able(&self) -> Vec<bool> {
        let mut starts = vec![0_u32; self.parents.len() + 1];
        for &(_, to) in &self.edges {
            starts[to as usize + 1] += 1;
        }
        for state in 1..starts.len() {
            starts[state] += starts[state - 1];
        }
        let mut next_free = starts.clone();
        let mut sources = vec![0_u32; self.edges.len()];
        for &(from, to) in &self.edges {
            sources[next_free[to as usize] as usize] = from;
            next_free[to as usize] += 1;
        }
        let mut able = self.wanted.clone();
        let mut pending: Vec<usize> = (0..able.len()).filter(|&state| able[state]).collect();
        while let Some(state) = pending.pop() {
            for &source in &sources[starts[state] as usize..starts[state + 1] as usize] {
                if !std::mem::replace(&mut able[source as usize], true) {
                    pending.push(source as usize);
                }
            }
        }
        able
    }

    /// The steps that led to a state first.
    fn path<M: Model>(&self, model: &M, end: usize) -> (Vec<M::Action>, Vec<M::State>)
    where
        M::State: Hash + Clone,
        M::Action: Copy,
    {
        let mut numbers = vec![end as u32];
        while let Some(&last) = numbers.last()
            && self.parents[last as usize] != last
        {
            numbers.push(self.parents[last as usize]);
        }
        let number = |state: &M::State| self.numbers.get(&fingerprint(state)).copied();
        let start = model.init_states().into_iter().find(|state| number(state) == numbers.last().copied());
        let mut states: Vec<M::State> = start.into_iter().collect();
        let mut actions = Vec::new();
        for &wanted in numbers.iter().rev().skip(1) {
            let step = states
                .last()
                .and_then(|state| model.next_steps(state).into_iter().find(|(_, next)| number(next) == Some(wanted)));
            let Some((action, next)) = step else { break };
            actions.push(action);
            states.push(next);
        }
        (actions, states)
    }
}

fn fingerprint<S: Hash>(state: &S) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(state)
}
