//! The state file, looked at without being touched: what is read comes from it, what is written stays in memory.
//!
//! Opening a database may write to it (recovery after a power cut, marks of who has it open). A file that is damaged or of
//! another version must be left exactly as it is for whoever comes to look at it, and one on a full disk must be
//! readable all the same. So it is always opened like this first.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use redb::StorageBackend;

const BLOCK: u64 = 4096;

/// A file and what has been written over it.
#[derive(Debug)]
pub(super) struct Shadow {
    file: File,
    over: Mutex<Over>,
}

#[derive(Debug)]
struct Over {
    len: u64,
    /// What counts of the file itself: less than its length once it was cut short here.
    of_file: u64,
    blocks: HashMap<u64, Vec<u8>>,
}

impl Shadow {
    pub(super) fn of(file: File) -> io::Result<Shadow> {
        let len = file.metadata()?.len();
        Ok(Shadow { file, over: Mutex::new(Over { len, of_file: len, blocks: HashMap::new() }) })
    }

    /// A block as it is now; zeros where nothing is.
    fn block(&self, over: &Over, number: u64) -> io::Result<Vec<u8>> {
        if let Some(block) = over.blocks.get(&number) {
            return Ok(block.clone());
        }
        let mut block = vec![0; BLOCK as usize];
        let there = over.of_file.saturating_sub(number * BLOCK).min(BLOCK) as usize;
        self.file.read_exact_at(&mut block[..there], number * BLOCK)?;
        Ok(block)
    }
}

/// Walks over the blocks of a range: number, place in the block, place in the range.
fn blocks(
    offset: u64,
    length: usize,
) -> impl Iterator<Item = (u64, std::ops::Range<usize>, std::ops::Range<usize>)> {
    let end = offset + length as u64;
    (offset / BLOCK..end.div_ceil(BLOCK)).map(move |number| {
        let (from, to) = (offset.max(number * BLOCK), end.min((number + 1) * BLOCK));
        let in_block = (from - number * BLOCK) as usize..(to - number * BLOCK) as usize;
        (number, in_block, (from - offset) as usize..(to - offset) as usize)
    })
}

impl StorageBackend for Shadow {
    fn len(&self) -> io::Result<u64> {
        Ok(self.over.lock().unwrap_or_else(PoisonError::into_inner).len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        if offset.saturating_add(out.len() as u64) > over.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (number, in_block, in_out) in blocks(offset, out.len()) {
            out[in_out].copy_from_slice(&self.block(&over, number)?[in_block]);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        if len < over.len {
            let partial = self.block(&over, len / BLOCK)?;
            over.blocks.retain(|number, _| *number < len / BLOCK);
            let mut partial = partial;
            partial[(len % BLOCK) as usize..].fill(0);
            over.blocks.insert(len / BLOCK, partial);
            over.of_file = over.of_file.min(len);
        }
        over.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, in_block, in_data) in blocks(offset, data.len()) {
            let mut block = self.block(&over, number)?;
            block[in_block].copy_from_slice(&data[in_data]);
            over.blocks.insert(number, block);
        }
        over.len = over.len.max(offset + data.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_the_file_stays_as_it_is() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&[7; 10_000]).expect("written");
        let shadow = Shadow::of(file.try_clone().expect("cloned")).expect("a shadow");
        let read = |offset, length| {
            let mut out = vec![1; length];
            shadow.read(offset, &mut out).map(|()| out)
        };
        shadow.write(4090, &[9; 12]).expect("written");
        assert_eq!(read(4088, 16).expect("read"), [[7; 2].as_slice(), &[9; 12], &[7; 2]].concat());
        shadow.set_len(4100).expect("cut");
        assert!(read(4096, 5).is_err(), "past the end");
        shadow.set_len(20_000).expect("grown");
        assert_eq!(read(4098, 8).expect("read"), [9, 9, 0, 0, 0, 0, 0, 0], "new bytes are zero");
        assert_eq!(read(9_990, 20).expect("read"), [0; 20]);
        let mut now = vec![0; 10_000];
        file.read_exact_at(&mut now, 0).expect("read");
        assert_eq!((now, file.metadata().expect("its length").len()), (vec![7; 10_000], 10_000));
    }
}
