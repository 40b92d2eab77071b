//! What this agent has pulled, in a file beside the ledger. A file that is lost costs nothing but room on the
//! disk.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use shef_common::{files, image::ImageRef};

const FILE: &str = "agent-images.json";

/// The images that were pulled, the latest last.
#[derive(Debug)]
pub struct Pulled {
    path: PathBuf,
    images: RefCell<Vec<ImageRef>>,
}

impl Pulled {
    /// Reads what is in `directory`. An unreadable file counts as empty: then no image is removed.
    #[must_use]
    pub fn open(directory: &Path) -> Self {
        let path = directory.join(FILE);
        let read = match files::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        let images = read.unwrap_or_else(|error| {
            log::warn!(path:? = path, why:% = error; "the list of pulled images cannot be read; images of \
                                                      before are not removed");
            Vec::new()
        });
        Self { path, images: RefCell::new(images) }
    }

    /// The images, the latest last.
    #[must_use]
    pub fn all(&self) -> Vec<ImageRef> {
        self.images.borrow().clone()
    }

    /// An image was pulled.
    pub fn add(&self, image: &ImageRef) {
        self.change(|images| {
            images.retain(|known| known != image);
            images.push(image.clone());
        });
    }

    /// Images are there no more.
    pub fn remove(&self, gone: &BTreeSet<ImageRef>) {
        self.change(|images| images.retain(|image| !gone.contains(image)));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<ImageRef>)) {
        let mut images = self.images.borrow_mut();
        change(&mut images);
        let bytes = serde_json::to_vec(&*images).unwrap_or_default();
        let written = files::replace(&self.path, files::PRIVATE, &bytes);
        if let Err(error) = written {
            log::warn!(path:? = self.path, why:% = error; "the list of pulled images cannot be written");
        }
    }
}

/// Which of the pulled images can be removed: neither held by this host nor needed by a kept generation; the
/// oldest first.
#[must_use]
pub(super) fn unneeded(
    pulled: &[ImageRef],
    held: &BTreeSet<ImageRef>,
    needed: &BTreeSet<ImageRef>,
) -> Vec<ImageRef> {
    pulled.iter().filter(|image| !held.contains(*image) && !needed.contains(*image)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn image(name: &str) -> ImageRef {
        ImageRef::parse(name).unwrap()
    }

    #[test]
    fn what_was_pulled_is_known_to_the_next_agent() {
        let directory = tempfile::tempdir().unwrap();
        let pulled = Pulled::open(directory.path());
        for name in ["a:1", "b:1", "a:1"] {
            pulled.add(&image(name));
        }
        assert_eq!(Pulled::open(directory.path()).all(), [image("b:1"), image("a:1")]);
        pulled.remove(&[image("b:1")].into());
        assert_eq!(Pulled::open(directory.path()).all(), [image("a:1")]);
        fs::write(directory.path().join(FILE), "[").unwrap();
        assert_eq!(Pulled::open(directory.path()).all(), []);
    }

    #[test]
    fn what_is_held_or_needed_stays() {
        let all = ["a:1", "a:2", "a:3", "b:1"].map(image);
        assert_eq!(
            unneeded(&all, &[image("a:3")].into(), &[image("a:2")].into()),
            [image("a:1"), image("b:1")]
        );
        assert_eq!(unneeded(&all, &all.clone().into(), &BTreeSet::new()), []);
    }
}
