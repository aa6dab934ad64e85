//! What `power.c` writes down: bytes to operations.

/// Something a process did to a file or a directory. Paths are relative to the directory that is watched; the directory itself
/// is the empty path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    /// A process begins: no file is open.
    Start,
    Open {
        path: String,
        fd: i32,
        /// There was no file of this name.
        creates: bool,
        truncates: bool,
    },
    Write {
        fd: i32,
        offset: u64,
        bytes: Vec<u8>,
    },
    Truncate {
        fd: i32,
        len: u64,
    },
    /// What was done before it is durable once the sync of this number ended.
    SyncBegin {
        fd: i32,
        number: i64,
    },
    SyncEnd {
        number: i64,
    },
    Rename {
        from: String,
        to: String,
    },
    Link {
        from: String,
        to: String,
    },
    Unlink(String),
    MakeDir(String),
    RemoveDir(String),
    Close(i32),
    Dup {
        fd: i32,
        made: i32,
    },
}

/// The journal of the processes since it was last read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Journal {
    /// What was done, in order.
    pub(crate) ops: Vec<Op>,
    /// The process ended during this one: it was done, or not, or a write in part.
    pub(crate) unfinished: Option<Op>,
}

const MAGIC: u32 = 0x5257_5054;
const HEAD: usize = 32;
const CREATES: u16 = 1;
const TRUNCATES: u16 = 2;

/// One record as it is in the file; `struct record` of `power.c`.
struct Record<'a> {
    kind: u16,
    flags: u16,
    fd: i32,
    number: i64,
    first: &'a str,
    second: &'a str,
    data: &'a [u8],
}

impl Journal {
    /// Reads a journal; a record that a kill broke off at its end belongs to an operation that was not begun.
    ///
    /// # Panics
    /// If the bytes are no journal, or the process did something that the model does not know.
    pub(crate) fn read(mut bytes: &[u8]) -> Self {
        let mut journal = Self::default();
        while let Some(record) = next(&mut bytes) {
            match record.kind {
                3 => {
                    let op = journal.unfinished.take().expect("a result follows its operation");
                    journal.ops.extend(finished(op, record.number));
                }
                15 => panic!("the server called what the power model does not know: {}", record.first),
                _ => {
                    assert_eq!(journal.unfinished, None, "an operation without its result");
                    let (op, has_result) = operation(&record);
                    if has_result { journal.unfinished = Some(op) } else { journal.ops.push(op) }
                }
            }
        }
        journal
    }
}

fn next<'a>(bytes: &mut &'a [u8]) -> Option<Record<'a>> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
    let u32_at = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().unwrap());
    let u16_at = |at: usize| u16::from_ne_bytes(head[at..at + 2].try_into().unwrap());
    assert_eq!(u32_at(0), MAGIC, "no record of the journal");
    let (first, rest) = rest.split_at_checked(u32_at(12) as usize)?;
    let (second, rest) = rest.split_at_checked(u32_at(16) as usize)?;
    let (data, rest) = rest.split_at_checked(u32_at(20) as usize)?;
    *bytes = rest;
    Some(Record {
        kind: u16_at(4),
        flags: u16_at(6),
        fd: i32::from_ne_bytes(head[8..12].try_into().unwrap()),
        number: i64::from_ne_bytes(head[24..32].try_into().unwrap()),
        first: std::str::from_utf8(first).unwrap(),
        second: std::str::from_utf8(second).unwrap(),
        data,
    })
}

/// The operation, and whether its result follows.
fn operation(record: &Record<'_>) -> (Op, bool) {
    let (fd, first, second) = (record.fd, record.first.to_owned(), record.second.to_owned());
    let number = || u64::try_from(record.number).expect("an offset or a length");
    match record.kind {
        1 => (Op::Start, false),
        2 => {
            let (creates, truncates) = (record.flags & CREATES != 0, record.flags & TRUNCATES != 0);
            (Op::Open { path: first, fd: -1, creates, truncates }, true)
        }
        4 => (Op::Write { fd, offset: number(), bytes: record.data.to_vec() }, true),
        5 => (Op::Truncate { fd, len: number() }, true),
        6 => (Op::SyncBegin { fd, number: record.number }, false),
        7 => (Op::SyncEnd { number: record.number }, false),
        8 => (Op::Rename { from: first, to: second }, true),
        9 => (Op::Link { from: first, to: second }, true),
        10 => (Op::Unlink(first), true),
        11 => (Op::MakeDir(first), true),
        12 => (Op::RemoveDir(first), true),
        13 => (Op::Close(fd), false),
        14 => (Op::Dup { fd, made: -1 }, true),
        other => panic!("a record of the unknown kind {other}"),
    }
}

/// The operation with its result; `None` if it failed and so did nothing.
fn finished(mut op: Op, result: i64) -> Option<Op> {
    let done = usize::try_from(result).ok()?;
    match &mut op {
        Op::Open { fd, .. } => *fd = i32::try_from(result).unwrap(),
        Op::Dup { made, .. } => *made = i32::try_from(result).unwrap(),
        Op::Write { bytes, .. } => bytes.truncate(done),
        _ => {}
    }
    Some(op)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u16, fd: i32, number: i64, first: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(CREATES.to_ne_bytes());
        bytes.extend(fd.to_ne_bytes());
        for len in [first.len(), 0, data.len()] {
            bytes.extend(u32::try_from(len).unwrap().to_ne_bytes());
        }
        bytes.extend(number.to_ne_bytes());
        bytes.extend(first.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn a_journal_that_breaks_off_anywhere_is_read_up_to_there() {
        let steps = [
            record(1, -1, 7, "", b""),
            record(2, -1, 0, "a", b""),
            record(3, -1, 5, "", b""),
            record(4, 5, 10, "", b"abc"),
            record(3, -1, 2, "", b""),
            record(10, -1, 0, "a", b""),
            record(3, -1, -1, "", b""),
            record(4, 5, 12, "", b"x"),
        ];
        let open = Op::Open { path: "a".to_owned(), fd: 5, creates: true, truncates: false };
        let short = Op::Write { fd: 5, offset: 10, bytes: b"ab".to_vec() };
        let last = Op::Write { fd: 5, offset: 12, bytes: b"x".to_vec() };
        let all = steps.concat();
        let whole = Journal::read(&all);
        assert_eq!(whole, Journal { ops: vec![Op::Start, open, short], unfinished: Some(last) });
        for len in 0..all.len() {
            let part = Journal::read(&all[..len]);
            assert!(whole.ops.starts_with(&part.ops), "{len} bytes");
        }
    }
}
