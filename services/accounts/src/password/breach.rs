//! Passwords that have been found in breaches, as a file that says of each whether it may be one of them.
//!
//! The file is made of a list of SHA-1 hashes, such as that of Have I Been Pwned, in the order of the hashes. It has a binary
//! fuse filter for each of 4,096 parts of the hashes, of 9 bits an entry: every password of the list is found, and of others
//! one in 256. A check reads one part, so nothing of it is kept in memory.

use std::{
    fs::File,
    io::{self, BufRead, Seek as _, SeekFrom, Write},
    os::unix::fs::FileExt as _,
    path::Path,
};

use aws_lc_rs::digest;
use xorf::{BinaryFuse8, BinaryFuse8Ref, DmaSerializable as _, Filter as _, FilterRef as _};

/// What the file begins with.
const MAGIC: &[u8; 8] = b"DMBREACH";

/// Parts of the hashes, by their first 12 bits.
const PARTS: usize = 4096;

const DESCRIPTOR: usize = BinaryFuse8::DESCRIPTOR_LEN;

/// Bytes of a part in the table behind the beginning: where it is, how long, its checksum, its descriptor.
const ENTRY: usize = 8 + 4 + 4 + DESCRIPTOR;

/// The longest part that is read: more than thrice that of a list of two thousand million entries.
const LONGEST_PART: usize = 2 * 1024 * 1024;

/// The file, opened.
#[derive(Debug)]
pub(crate) struct BreachFilter(File);

/// What a file was made of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Built {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

impl BreachFilter {
    /// Opens the file, and checks that all its parts are there.
    ///
    /// # Errors
    ///
    /// [`io::Error`] for one that cannot be read, is none, or is cut off.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut magic = [0; MAGIC.len()];
        file.read_exact_at(&mut magic, 0)?;
        if &magic != MAGIC {
            return Err(wrong("it is no filter of `accounts breach-filter build`"));
        }
        let mut table = vec![0; PARTS * ENTRY];
        file.read_exact_at(&mut table, MAGIC.len() as u64)?;
        let length = file.metadata()?.len();
        for entry in table.chunks_exact(ENTRY) {
            let part = Part::read(entry)?;
            if part.begin.saturating_add(part.length as u64) > length {
                return Err(wrong("it is cut off"));
            }
        }
        Ok(Self(file))
    }

    /// Whether the password may be one of the list.
    ///
    /// # Errors
    ///
    /// [`io::Error`] for a part that cannot be read, or is damaged.
    pub(crate) fn contains(&self, password: &str) -> io::Result<bool> {
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
        let (part, key) = place(hash.as_ref()).ok_or_else(|| wrong("a hash is too short"))?;
        let mut entry = [0; ENTRY];
        let at = MAGIC.len() + part * ENTRY;
        self.0.read_exact_at(&mut entry, at as u64)?;
        let part = Part::read(&entry)?;
        if part.length == 0 {
            return Ok(false);
        }
        let mut fingerprints = vec![0; part.length];
        self.0.read_exact_at(&mut fingerprints, part.begin)?;
        if checksum_of(part.descriptor, &fingerprints) != part.checksum {
            return Err(wrong("a part is damaged"));
        }
        Ok(BinaryFuse8Ref::from_dma(part.descriptor, &fingerprints).contains(&key))
    }
}

/// An entry of the table.
struct Part<'t> {
    begin: u64,
    /// 0 for a part that no password is in.
    length: usize,
    checksum: u32,
    descriptor: &'t [u8],
}

impl<'t> Part<'t> {
    fn read(entry: &'t [u8]) -> io::Result<Self> {
        let mut rest = entry;
        let part = Self {
            begin: u64::from_le_bytes(take(&mut rest)?),
            length: u32::from_le_bytes(take(&mut rest)?) as usize,
            checksum: u32::from_le_bytes(take(&mut rest)?),
            descriptor: rest,
        };
        if part.length > LONGEST_PART {
            return Err(wrong("a part is too long"));
        }
        Ok(part)
    }
}

/// Makes a filter of `list`, which has a hash of 40 hexadecimal digits on each line, in their order; what follows `:` is passed
/// over. It takes the place of a file that is there once it is whole.
///
/// # Errors
///
/// [`io::Error`] names the line that is no hash, or out of order.
pub(crate) fn build(list: impl BufRead, path: &Path) -> io::Result<Built> {
    let partial = path.with_extension("partial");
    let mut out = io::BufWriter::new(File::create(&partial)?);
    let (mut table, mut built) = (vec![0; PARTS * ENTRY], Built::default());
    out.write_all(MAGIC)?;
    out.write_all(&table)?;
    let mut begin = (MAGIC.len() + table.len()) as u64;
    let (mut part, mut keys) = (0, Vec::new());
    for (number, line) in list.lines().enumerate() {
        let line = line?;
        let text = line.split(':').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        let found = read_hash(text).as_ref().and_then(|hash| place(hash));
        let line = number + 1;
        let (of, key) =
            found.ok_or_else(|| wrong(format!("line {line} is no SHA-1 hash of 40 digits")))?;
        if of < part {
            return Err(wrong(format!("line {line} is out of order: sort the list")));
        }
        if of > part {
            begin = write_part(&mut out, &mut table, (part, begin), &mut keys, &mut built)?;
            part = of;
        }
        keys.push(key);
    }
    begin = write_part(&mut out, &mut table, (part, begin), &mut keys, &mut built)?;
    built.bytes = begin;
    out.seek(SeekFrom::Start(MAGIC.len() as u64))?;
    out.write_all(&table)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    std::fs::rename(&partial, path)?;
    Ok(built)
}

/// Writes a part that begins at `begin`; where the next one does.
fn write_part(
    out: &mut impl Write,
    table: &mut [u8],
    (part, begin): (usize, u64),
    keys: &mut Vec<u64>,
    built: &mut Built,
) -> io::Result<u64> {
    keys.sort_unstable();
    keys.dedup();
    if keys.is_empty() {
        return Ok(begin);
    }
    let filter = BinaryFuse8::try_from(&*keys).map_err(wrong)?;
    let mut descriptor = [0; DESCRIPTOR];
    filter.dma_copy_descriptor_to(&mut descriptor);
    let fingerprints = filter.dma_fingerprints();
    let length = fingerprints.len();
    if length > LONGEST_PART {
        return Err(wrong("the list is too long"));
    }
    let entry = [
        &begin.to_le_bytes()[..],
        &u32::try_from(length).map_err(wrong)?.to_le_bytes(),
        &checksum_of(&descriptor, fingerprints).to_le_bytes(),
        &descriptor,
    ]
    .concat();
    table[part * ENTRY..(part + 1) * ENTRY].copy_from_slice(&entry);
    out.write_all(fingerprints)?;
    built.entries += keys.len() as u64;
    keys.clear();
    Ok(begin + length as u64)
}

/// The part of a hash, and what stands for it there.
fn place(hash: &[u8]) -> Option<(usize, u64)> {
    let first = u16::from_be_bytes(*hash.first_chunk()?);
    let key = u64::from_be_bytes(*hash.get(1..)?.first_chunk()?);
    Some((usize::from(first >> 4), key))
}

fn read_hash(text: &str) -> Option<[u8; 20]> {
    let mut hash = [0; 20];
    if text.len() != 40 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

fn checksum_of(descriptor: &[u8], fingerprints: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(descriptor);
    hasher.update(fingerprints);
    hasher.finalize()
}

fn take<const N: usize>(rest: &mut &[u8]) -> io::Result<[u8; N]> {
    let (first, behind) = rest
        .split_first_chunk()
        .ok_or_else(|| wrong("it is cut off"))?;
    *rest = behind;
    Ok(*first)
}

fn wrong(why: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// A list of the hashes of `passwords`, as dumps have it.
    fn list(passwords: &[String]) -> String {
        let hash = |password: &String| {
            let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
            let digits = hash.as_ref().iter().map(|byte| format!("{byte:02X}"));
            digits.collect::<String>() + ":3\n"
        };
        let mut lines: Vec<String> = passwords.iter().map(hash).collect();
        lines.sort();
        lines.concat()
    }

    #[test]
    fn every_password_of_the_list_is_found_and_few_others_are() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("breached");
        let known: Vec<String> = (0..20_000).map(|it| format!("known {it}")).collect();
        let built = build(list(&known).as_bytes(), &path).expect("built");
        assert_eq!(built.entries, 20_000);
        let length = std::fs::metadata(&path).expect("a file").len();
        assert_eq!(built.bytes, length);
        let filter = BreachFilter::open(&path).expect("opened");
        for password in &known {
            assert!(filter.contains(password).expect("read"), "{password}");
        }
        let others = (0..5_000).map(|it| format!("other {it}"));
        let found = others
            .filter(|it| filter.contains(it).expect("read"))
            .count();
        assert!(found < 60, "{found}");
    }

    #[test]
    fn what_is_no_list_and_what_is_no_filter_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("breached");
        let sorted = list(&["a".to_owned(), "b".to_owned()]);
        let mut lines: Vec<&str> = sorted.lines().collect();
        lines.reverse();
        for (text, expected) in [
            ("not a hash\n".to_owned(), "line 1 is no SHA-1 hash"),
            (lines.join("\n"), "line 2 is out of order"),
        ] {
            let refused = build(text.as_bytes(), &path).expect_err("refused");
            assert!(refused.to_string().contains(expected), "{refused}");
        }
        assert!(!path.exists());
        std::fs::write(&path, "something else").expect("written");
        assert!(BreachFilter::open(&path).is_err());

        build(sorted.as_bytes(), &path).expect("built");
        let mut bytes = std::fs::read(&path).expect("read");
        std::fs::write(&path, &bytes[..bytes.len() - 1]).expect("written");
        let refused = BreachFilter::open(&path).expect_err("cut off");
        assert!(refused.to_string().contains("cut off"), "{refused}");
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        std::fs::write(&path, bytes).expect("written");
        let damaged = BreachFilter::open(&path).expect("opened");
        let read = ["a", "b"].map(|it| damaged.contains(it).is_err());
        assert!(read.contains(&true), "{read:?}");
    }
}
