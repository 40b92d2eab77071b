//! The digests by which an engine knows the images of containers.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use bollard::Docker;

/// How long a list may inspect images. The next list inspects the remaining ones.
const LOOK_LIMIT: Duration = Duration::from_secs(2);

/// By the images' ids. An engine that cannot show them counts as one that knows none.
#[derive(Default)]
pub(super) struct Digests(RefCell<HashMap<String, Arc<[String]>>>);

impl Digests {
    /// A list shows containers of `images`: only these are kept. Each that has no digest is asked about once,
    /// however many containers were made of it: one that was built on the host may have been pulled since.
    pub(super) async fn listed(&self, client: &Docker, images: BTreeSet<String>) {
        self.0.borrow_mut().retain(|image, digests| images.contains(image) && !digests.is_empty());
        let ask = async {
            for image in images {
                self.of(client, Some(&image)).await;
            }
        };
        // The list itself does not wait for an engine that is slow to inspect images.
        let _ = tokio::time::timeout(LOOK_LIMIT, ask).await;
    }

    /// The known facts about the image with this id.
    pub(super) fn known(&self, image: Option<&str>) -> Arc<[String]> {
        image.and_then(|image| self.0.borrow().get(image).cloned()).unwrap_or_default()
    }

    /// Those of the image with this id.
    pub(super) async fn of(&self, client: &Docker, image: Option<&str>) -> Arc<[String]> {
        let Some(image) = image else { return Arc::default() };
        if let Some(known) = self.0.borrow().get(image) {
            return known.clone();
        }
        let found = client.inspect_image(image).await.ok().and_then(|found| found.repo_digests);
        let found: Arc<[String]> = found.unwrap_or_default().into();
        self.0.borrow_mut().insert(image.to_owned(), found.clone());
        found
    }
}
