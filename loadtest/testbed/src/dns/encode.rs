//! Messages to bytes. The codec stops compressing names after 120 of them, which would halve the addresses that fit; we point at the first.

use std::net::IpAddr;

use hickory_proto::ProtoError;
use hickory_proto::op::{EmitAndCount, Message, emit_message_parts};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};

/// The two bits that make a 16-bit offset a pointer to a name.
const POINTER: u16 = 0xc000;

/// A pointer has 14 bits; only a chain of some hundred aliases leads beyond.
const POINTER_REACH: u16 = 0x4000;

/// Bytes of a record whose name is a pointer, without its data.
const POINTING_RECORD: usize = 12;

/// Bytes of an OPT record without options: kept free so that a cut answer still has it.
const OPT_RECORD: usize = 11;

/// Offset of the third byte of the header, which holds the TC bit.
const FLAGS_AT: usize = 2;

/// The TC bit.
const TRUNCATED: u8 = 0b10;

/// The answer section: records of any kind, then the addresses of one name.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) owner: Name,
    pub(super) ttl: u32,
    pub(super) addresses: Vec<IpAddr>,
}

/// The whole message, and whether it had to be cut at `limit` bytes.
pub(super) fn encode(message: &Message, answers: &Answers, limit: u16) -> Result<(Vec<u8>, bool), ProtoError> {
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(limit);
    let mut section = Section { message, answers, limit: usize::from(limit), cut: false };
    emit_message_parts(
        &message.metadata,
        &mut message.queries.iter(),
        &mut section,
        &mut message.authorities.iter(),
        &mut message.additionals.iter(),
        message.edns.as_ref(),
        None,
        &mut encoder,
    )?;
    let cut = section.cut;
    let Some(flags) = bytes.get_mut(FLAGS_AT) else {
        return Err(ProtoError::Message("no header"));
    };
    if cut {
        *flags |= TRUNCATED;
    }
    // The codec sets the bit itself when the other records did not fit.
    let truncated = *flags & TRUNCATED != 0;
    Ok((bytes, truncated))
}

struct Section<'a> {
    message: &'a Message,
    answers: &'a Answers,
    limit: usize,
    cut: bool,
}

impl EmitAndCount for Section<'_> {
    fn emit(&mut self, encoder: &mut BinEncoder<'_>) -> Result<usize, ProtoError> {
        let mut count = encoder.emit_all(self.message.answers.iter())?;
        let Some((head, tail)) = self.answers.addresses.split_first() else {
            return Ok(count);
        };
        let start = u16::try_from(encoder.offset()).unwrap_or(u16::MAX);
        if start >= POINTER_REACH {
            return Err(ProtoError::Message("the chain of names is too long"));
        }
        self.answers.first(*head).emit(encoder)?;
        count += 1;
        let reserved = match self.message.edns {
            Some(_) => OPT_RECORD,
            None => 0,
        };
        for address in tail {
            let size = POINTING_RECORD + octets(*address).len();
            if encoder.len() + size + reserved > self.limit {
                self.cut = true;
                break;
            }
            self.answers.pointing(start, *address, encoder)?;
            count += 1;
        }
        Ok(count)
    }
}

impl Answers {
    fn first(&self, address: IpAddr) -> Record {
        let data = match address {
            IpAddr::V4(v4) => RData::A(A(v4)),
            IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
        };
        Record::from_rdata(self.owner.clone(), self.ttl, data)
    }

    fn pointing(&self, first: u16, address: IpAddr, encoder: &mut BinEncoder<'_>) -> Result<(), ProtoError> {
        let octets = octets(address);
        let kind = match address {
            IpAddr::V4(_) => RecordType::A,
            IpAddr::V6(_) => RecordType::AAAA,
        };
        encoder.emit_u16(POINTER | first)?;
        encoder.emit_u16(kind.into())?;
        encoder.emit_u16(DNSClass::IN.into())?;
        encoder.emit_u32(self.ttl)?;
        // Sixteen at most.
        encoder.emit_u16(octets.len() as u16)?;
        encoder.emit_vec(&octets)
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
