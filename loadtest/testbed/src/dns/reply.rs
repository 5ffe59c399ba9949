//! From the bytes of a question to the bytes of an answer.

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, SOA};
use hickory_proto::rr::{DNSClass, LowerName, RData, Record, RecordType};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::index;

use super::encode::{Answers, encode};
use super::script::{Order, Script, fqdn};
use super::zone::Zone;

/// Largest DNS message over TCP: its length prefix has 16 bits.
const MAX_TCP_MESSAGE: u16 = u16::MAX;

/// Payload size that our OPT record offers: what most resolvers offer today.
const OFFERED_PAYLOAD: u16 = 1232;

/// Bits that a wrong message id differs in; any but zero will do.
const WRONG_ID_BITS: u16 = 0x5555;

/// Refresh, retry and expire of the SOA records: nobody transfers these zones.
const SOA_TIMES: (i32, i32, i32) = (7200, 1800, 86400);

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// An encoded answer and when to send it.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) bytes: Vec<u8>,
    pub(super) delay: Duration,
}

/// The answer to a datagram or a TCP message; nothing for silence and for what is not a question.
pub(super) fn reply(zone: &Zone, bytes: &[u8], transport: Transport) -> Option<Reply> {
    let Ok(question) = Message::from_vec(bytes) else {
        return malformed(bytes);
    };
    // Answering answers would let two servers talk for ever.
    if question.metadata.message_type != MessageType::Query {
        return None;
    }
    let (OpCode::Query, [query]) = (question.metadata.op_code, question.queries.as_slice()) else {
        return malformed(bytes);
    };
    let limit = match transport {
        Transport::Udp => question.max_payload(),
        Transport::Tcp => MAX_TCP_MESSAGE,
    };
    let mut draft = Draft::new(&question, query, limit);
    let entry = zone.ask(LowerName::new(query.name()), query.query_type());
    draft.perform(&entry.script, entry.turn());
    draft.finish(transport)
}

/// FORMERR under the id that was asked with, where there is one.
fn malformed(bytes: &[u8]) -> Option<Reply> {
    let id = u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]);
    let message = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
    let bytes = message.to_vec().ok()?;
    let delay = Duration::ZERO;
    Some(Reply { bytes, delay })
}

struct Draft {
    message: Message,
    /// Its owner is the name that the next records belong to.
    answers: Answers,
    kind: RecordType,
    delay: Duration,
    silent: bool,
    truncate_udp: bool,
    limit: u16,
}

impl Draft {
    fn new(question: &Message, query: &Query, limit: u16) -> Self {
        let mut message = Message::response(question.metadata.id, OpCode::Query);
        message.metadata = Metadata::response_from_request(&question.metadata);
        message.metadata.recursion_available = true;
        // The question goes back in the case it came in: resolvers that randomize it (0x20) compare.
        message.add_query(query.clone());
        if question.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(OFFERED_PAYLOAD);
            message.set_edns(edns);
        }
        let kind = match query.query_class() {
            DNSClass::IN => query.query_type(),
            // No address belongs to another class, so the answer is NODATA.
            _ => RecordType::ANY,
        };
        let answers = Answers { owner: query.name().clone(), ttl: 0, addresses: Vec::new() };
        Self { message, answers, kind, delay: Duration::ZERO, silent: false, truncate_udp: false, limit }
    }

    fn perform(&mut self, script: &Script, turn: u64) {
        match script {
            Script::Answer { addresses, ttl } => {
                self.addresses(self.of_family(addresses), *ttl);
            }
            Script::Rotate { pool, per_answer, ttl, order } => {
                let pool = self.of_family(pool);
                self.addresses(part(&pool, *per_answer, *order, turn), *ttl);
            }
            Script::Cname { chain, then } => {
                for (target, ttl) in chain {
                    let alias = std::mem::replace(&mut self.answers.owner, target.clone());
                    let data = RData::CNAME(CNAME(target.clone()));
                    self.message.add_answer(Record::from_rdata(alias, *ttl, data));
                }
                self.perform(then, turn);
            }
            Script::NxDomain { soa_minimum } => {
                self.message.metadata.response_code = ResponseCode::NXDomain;
                self.soa(*soa_minimum);
            }
            Script::NoData { soa_minimum } => self.soa(*soa_minimum),
            Script::ServFail => self.message.metadata.response_code = ResponseCode::ServFail,
            Script::Refused => self.message.metadata.response_code = ResponseCode::Refused,
            Script::Silence => self.silent = true,
            Script::Delay(by, then) => {
                self.delay += *by;
                self.perform(then, turn);
            }
            Script::TruncateUdp(then) => {
                self.truncate_udp = true;
                self.perform(then, turn);
            }
            Script::WrongId(then) => {
                self.message.metadata.id ^= WRONG_ID_BITS;
                self.perform(then, turn);
            }
            Script::WrongQuestion(then) => {
                let wrong = fqdn("nobody-asked.invalid");
                self.message.queries = vec![Query::query(wrong, self.kind)];
                self.perform(then, turn);
            }
        }
    }

    fn of_family(&self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let wanted = |address: &&IpAddr| match self.kind {
            RecordType::A => address.is_ipv4(),
            RecordType::AAAA => address.is_ipv6(),
            _ => false,
        };
        addresses.iter().filter(wanted).copied().collect()
    }

    fn addresses(&mut self, addresses: Vec<IpAddr>, ttl: u32) {
        if addresses.is_empty() {
            return self.soa(ttl);
        }
        self.answers.addresses = addresses;
        self.answers.ttl = ttl;
    }

    fn soa(&mut self, minimum: u32) {
        let zone = self.answers.owner.base_name();
        let (refresh, retry, expire) = SOA_TIMES;
        let soa = SOA::new(fqdn("ns.test"), fqdn("admin.test"), 1, refresh, retry, expire, minimum);
        let record = Record::from_rdata(zone, minimum, RData::SOA(soa));
        self.message.add_authority(record);
    }

    fn finish(mut self, transport: Transport) -> Option<Reply> {
        let forced = self.truncate_udp && transport == Transport::Udp;
        // A silent script still says "too long" over UDP when told to: the client then waits on TCP.
        if self.silent && !forced {
            return None;
        }
        if forced {
            self.empty();
        }
        let (mut bytes, cut) = encode(&self.message, &self.answers, self.limit).ok()?;
        // Over UDP what does not fit becomes an empty answer; over TCP the rest is left out.
        if cut && !forced && transport == Transport::Udp {
            self.empty();
            bytes = encode(&self.message, &self.answers, self.limit).ok()?.0;
        }
        let delay = self.delay;
        Some(Reply { bytes, delay })
    }

    /// Leaves the question and the TC bit.
    fn empty(&mut self) {
        self.message = self.message.truncate();
        self.answers.addresses.clear();
    }
}

fn part(pool: &[IpAddr], per_answer: usize, order: Order, turn: u64) -> Vec<IpAddr> {
    if per_answer >= pool.len() {
        return pool.to_vec();
    }
    match order {
        Order::RoundRobin => {
            // In u128 no number of answers overflows; the remainder fits a usize because it is below the length.
            let start = u128::from(turn) * per_answer as u128 % pool.len() as u128;
            let turned = pool.iter().cycle().skip(start as usize);
            turned.take(per_answer).copied().collect()
        }
        Order::Random { seed } => {
            let mut random = SmallRng::seed_from_u64(seed.wrapping_add(turn));
            let chosen = index::sample(&mut random, pool.len(), per_answer);
            chosen.iter().map(|index| pool[index]).collect()
        }
    }
}
