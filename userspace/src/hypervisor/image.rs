//! The golden image: what an overlay on it must know.
//!
//! Only headers are read, and nothing is ever written: every member of the pair depends on this file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What a golden image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its format, by libvirt's name: an overlay records it, so that QEMU never has to guess.
    pub format: Format,
    /// Bytes that the guest sees.
    pub virtual_size: u64,
}

/// A disk image's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// QEMU's own.
    Qcow2,
    /// The bytes as they are.
    Raw,
}

impl Format {
    /// libvirt's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Format::Qcow2 => "qcow2",
            Format::Raw => "raw",
        }
    }
}

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It cannot be read.
    #[error("cannot read the golden image {}: {source}. `image` names a disk image that exists and is readable", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is something else.
    #[error("{} is not a disk image: {why}", path.display())]
    NotAnImage {
        /// Which.
        path: PathBuf,
        /// What it is.
        why: &'static str,
    },
}

impl Image {
    /// Looks into the file.
    ///
    /// # Errors
    /// When it cannot be read, or is a directory, empty, or a qcow2 file with an unknown version.
    pub fn probe(path: &Path) -> Result<Image, ImageError> {
        let unreadable = |source| ImageError::Unreadable { path: path.to_owned(), source };
        let not = |why| ImageError::NotAnImage { path: path.to_owned(), why };
        let mut file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if metadata.is_dir() {
            return Err(not("it is a directory"));
        }
        if metadata.len() < 512 {
            return Err(not("it is smaller than one sector"));
        }
        let mut header = [0; 32];
        file.read_exact(&mut header).map_err(unreadable)?;
        // docs/interop/qcow2.txt of QEMU: magic "QFI\xfb", version (bytes 4-7), virtual size (bytes 24-31), big endian.
        if header[..4] != *b"QFI\xfb" {
            return Ok(Image { format: Format::Raw, virtual_size: metadata.len() });
        }
        let [version, size] = [&header[4..8], &header[24..32]];
        if !matches!(version, [0, 0, 0, 2 | 3]) {
            return Err(not("it is a qcow2 file of an unknown version"));
        }
        let virtual_size = size.iter().fold(0, |size, byte| size << 8 | u64::from(*byte));
        Ok(Image { format: Format::Qcow2, virtual_size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    fn qcow2(version: u8) -> Vec<u8> {
        let mut content = vec![0; 1024];
        content[..8].copy_from_slice(&[b'Q', b'F', b'I', 0xfb, 0, 0, 0, version]);
        content[24..32].copy_from_slice(&(5u64 << 30).to_be_bytes());
        content
    }

    #[test]
    fn a_qcow2_image_is_known_by_its_header_and_gives_its_virtual_size() {
        let image = Image::probe(file(&qcow2(3)).path()).unwrap();
        assert_eq!(image, Image { format: Format::Qcow2, virtual_size: 5 << 30 });
    }

    #[test]
    fn anything_else_is_raw_and_as_large_as_the_file() {
        let image = Image::probe(file(&[1; 4096]).path()).unwrap();
        assert_eq!(image, Image { format: Format::Raw, virtual_size: 4096 });
    }

    #[test]
    fn what_is_no_image_is_refused_with_the_reason() {
        let text = |path: &Path| Image::probe(path).unwrap_err().to_string();
        assert!(text(Path::new("/nonexistent/web.qcow2")).contains("/nonexistent/web.qcow2: No such file"));
        assert!(text(Path::new("/tmp")).contains("is a directory"));
        assert!(text(file(b"").path()).contains("smaller than one sector"));
        assert!(text(file(&qcow2(9)).path()).contains("unknown version"));
    }
}
