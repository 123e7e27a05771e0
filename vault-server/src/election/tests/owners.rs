//! What owners write into the containers' metadata, beside the servers.

use super::*;
use crate::limits::LIST_EVERY;
use crate::log::settings::StreamMeta;
use crate::storage::{BlobName, BlobProperties};
use bytes::Bytes;
use vault_format::codec::Codec;
use vault_format::ids::Position;

const OWNER: &str = "vaultstream/shop/orders";

/// A page blob with what is written in it.
struct Kept {
    blob: BlobName,
    properties: BlobProperties,
    written: Vec<(u64, Bytes)>,
}

impl Place {
    async fn meta(&self, container: &ContainerName) -> Option<StreamMeta> {
        let metadata = self.memory.container_metadata(container).await.ok()?;
        Some(StreamMeta::from_metadata(&metadata).unwrap())
    }

    /// Changes what a container says as an operator does.
    async fn set(&self, container: &ContainerName, change: impl FnOnce(&mut StreamMeta)) {
        let target = LeaseTarget::Container(container.clone());
        let lease = self.memory.acquire_lease(&target, LEASE).await.unwrap();
        let mut metadata = self.memory.container_metadata(container).await.unwrap();
        let mut meta = StreamMeta::from_metadata(&metadata).unwrap();
        change(&mut meta);
        meta.write_to(&mut metadata);
        if meta.owner.is_none() {
            metadata.remove("owner");
        }
        self.memory.set_container_metadata(container, &metadata, &lease).await.unwrap();
        self.memory.release_lease(&target, &lease).await.unwrap();
    }

    async fn own(&self, container: &ContainerName) {
        self.set(container, |meta| meta.owner = Some(OWNER.to_owned())).await;
    }

    async fn want_gone(&self, container: &ContainerName) {
        self.set(container, |meta| {
            meta.owner = Some(OWNER.to_owned());
            meta.deleting = true;
        })
        .await;
    }

    /// The page blobs of a container, with what is written in them.
    async fn copy_of(&self, container: &ContainerName) -> Vec<Kept> {
        let mut all = Vec::new();
        for entry in self.memory.list_blobs(container, "").await.unwrap() {
            let blob = BlobName { container: container.clone(), name: entry.name };
            let properties = self.memory.properties(&blob).await.unwrap();
            let mut written = Vec::new();
            for range in self.memory.page_ranges(&blob, 0..properties.bytes).await.unwrap() {
                written.push((range.start, self.memory.read(&blob, range).await.unwrap().bytes));
            }
            all.push(Kept { blob, properties, written });
        }
        all
    }

    /// Makes them again, as they were.
    async fn put_back(&self, all: Vec<Kept>) {
        for Kept { blob, properties, written } in all {
            let fence = properties.sequence_number;
            self.memory.create_page_blob(&blob, properties.bytes, fence).await.unwrap();
            for (at, bytes) in written {
                self.memory.put_pages(&blob, Position(at), bytes, fence, None).await.unwrap();
            }
        }
    }

    /// Makes another stream's container in the place of one.
    async fn remake(&self, container: &ContainerName, meta: &StreamMeta) -> StreamMeta {
        self.delete_container(container).await;
        let mut anew = meta.clone();
        (anew.id, anew.begun, anew.owner) = (self.env.stream_id(), false, Some(OWNER.to_owned()));
        self.memory.create_container(container, &anew.to_metadata()).await.unwrap();
        anew
    }
}

fn container(name: &str) -> ContainerName {
    let prefix = Prefix::new("mv-").unwrap();
    prefix.container(&prefix.stream(name).unwrap())
}

async fn with_orders(seed: u64) -> (Place, Server, Server) {
    let place = Place::new(seed);
    let (a, b) = place.pair().await;
    a.create("orders").await;
    a.create("others").await;
    assert_eq!(a.append("orders", "a").await, 0);
    assert_eq!(a.append("others", "a").await, 0);
    place.rest(3 * SECOND).await;
    assert!(b.lists("orders"));
    (place, a, b)
}

#[tokio::test(start_paused = true)]
async fn what_an_owner_sets_comes_into_force_everywhere_and_nothing_else_does() {
    let (place, a, b) = with_orders(1).await;
    for (name, owner) in [("orders", Some(OWNER.to_owned())), ("others", None)] {
        let change = |meta: &mut StreamMeta| {
            meta.owner = owner;
            meta.settings.codec = Codec::Zstd;
            meta.settings.append_bytes_per_second = Some(2_048);
            meta.settings.account = Some("elsewhere".to_owned());
        };
        place.set(&container(name), change).await;
    }
    place.rest(LIST_EVERY + SECOND).await;
    let settings = a.stream("orders").meta().settings;
    let expected = (Codec::Zstd, Some(2_048), None);
    assert_eq!((settings.codec, settings.append_bytes_per_second, settings.account), expected);
    let settings = a.stream("others").meta().settings;
    assert_eq!((settings.codec, settings.append_bytes_per_second), (Codec::None, None));
    let (listed, _) = b.vault.list("orders", None, 1);
    assert_eq!(listed[0].meta().settings.codec, Codec::Zstd, "followers are told");
    // The burst, and then no more.
    let orders = a.stream("orders");
    let large = || append(&orders, "b", 1_000_000);
    let mut refused = false;
    for _ in 0..8 {
        refused |= large().await.is_err();
    }
    assert!(refused, "the rate is in force");
}

/// The last wishes of an owner who lets a stream go count as well.
#[tokio::test(start_paused = true)]
async fn what_an_owner_sets_as_it_lets_go_is_taken_over() {
    let (place, a, _b) = with_orders(1).await;
    place.own(&container("orders")).await;
    place.rest(LIST_EVERY + SECOND).await;
    let change = |meta: &mut StreamMeta| {
        meta.owner = None;
        meta.settings.max_bytes = Some(1 << 30);
    };
    place.set(&container("orders"), change).await;
    place.rest(LIST_EVERY + SECOND).await;
    let meta = a.stream("orders").meta();
    assert_eq!((meta.owner, meta.settings.max_bytes), (None, Some(1 << 30)));
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_began_before_a_change_does_not_take_it_back() {
    let (place, a, _b) = with_orders(1).await;
    place.own(&container("orders")).await;
    place.rest(LIST_EVERY + SECOND).await;
    a.faulty.on(Operation::ListContainers).then(Fault::LateAnswer(2 * SECOND));
    let slow = a.vault.clone();
    let listing = tokio::spawn(async move { slow.refresh(crate::log::vault::Absent::IsMissing).await });
    place.rest(SECOND).await;
    // The owner has gone meanwhile, and somebody changes what is theirs by now.
    place.set(&container("orders"), |meta| meta.owner = None).await;
    a.stream("orders").set_owner(None);
    let patch = SettingsPatch { max_bytes: Some(Some(1 << 30)), ..SettingsPatch::default() };
    a.vault.change(&a.name("orders"), patch).await.unwrap();
    listing.await.unwrap().unwrap();
    let meta = a.stream("orders").meta();
    assert_eq!((meta.owner, meta.settings.max_bytes), (None, Some(1 << 30)));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_its_owner_wants_gone_goes_and_is_missed_by_nobody() {
    let (place, a, b) = with_orders(1).await;
    let term = a.term();
    place.set(&container("others"), |meta| meta.deleting = true).await;
    place.want_gone(&container("orders")).await;
    let orders = a.stream("orders");
    place.rest(LIST_EVERY + 2 * SECOND).await;
    assert!(place.meta(&container("orders")).await.is_none());
    assert!(!a.lists("orders") && !b.lists("orders"));
    assert!(append(&orders, "late", 10).await.unwrap_err().to_string().contains("does not exist"));
    assert!(place.meta(&container("others")).await.is_some(), "without an owner the word means nothing");
    assert_eq!((a.append("others", "b").await, a.term()), (1, term), "the others go on under the same term");
    a.die().await;
    b.leads().await;
    assert!(!b.lists("orders"));
    b.create("orders").await;
    assert_eq!(b.append("orders", "b").await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_deletes_what_is_to_go() {
    let (place, a, b) = with_orders(1).await;
    a.die().await;
    place.want_gone(&container("orders")).await;
    b.leads().await;
    place.rest(2 * SECOND).await;
    assert!(!b.lists("orders") && place.meta(&container("orders")).await.is_none());
    assert_eq!(b.append("others", "b").await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_storage_refuses_is_tried_again_and_holds_up_no_other_stream() {
    let (place, a, b) = with_orders(1).await;
    let term = a.term();
    let refused = StorageError::Refused("somebody has locked it".to_owned());
    a.faulty.on(Operation::DeleteContainer).times(2).then(Fault::Fail(refused));
    place.want_gone(&container("orders")).await;
    place.rest(LIST_EVERY + 2 * SECOND).await;
    assert!(place.meta(&container("orders")).await.is_some());
    assert!(append(&a.stream("orders"), "late", 10).await.is_err(), "it has begun to go");
    assert_eq!((a.append("others", "b").await, a.term()), (1, term));
    assert!(place.page().await.deleting, "whoever leads next must know");
    place.rest(2 * LIST_EVERY).await;
    assert!(!a.lists("orders") && !b.lists("orders"));
    assert!(place.meta(&container("orders")).await.is_none());
    place.rest(SECOND).await;
    assert!(!place.page().await.deleting);
    assert_eq!((a.append("others", "c").await, a.term()), (2, term));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_whose_answer_got_lost_is_none_that_lost_data() {
    let (place, a, b) = with_orders(1).await;
    a.faulty.on(Operation::DeleteContainer).then(Fault::AppliedButLost);
    place.want_gone(&container("orders")).await;
    place.rest(LIST_EVERY + 2 * SECOND).await;
    place.rest(LIST_EVERY).await;
    assert!(!a.lists("orders") && !b.lists("orders"));
    a.create("orders").await;
    assert_eq!(a.append("orders", "b").await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_successor_goes_on_with_a_deletion_and_takes_nothing_for_lost() {
    for applied in [false, true] {
        let (place, a, b) = with_orders(1).await;
        let fault = if applied {
            Fault::AppliedButLost
        } else {
            Fault::Fail(StorageError::Unavailable("away".to_owned()))
        };
        a.faulty.on(Operation::DeleteContainer).always().then(fault);
        place.want_gone(&container("orders")).await;
        place.rest(LIST_EVERY + 2 * SECOND).await;
        a.die().await;
        b.leads().await;
        place.rest(2 * SECOND).await;
        assert!(!b.lists("orders"), "{applied}");
        assert!(place.meta(&container("orders")).await.is_none());
        b.create("orders").await;
        assert_eq!(b.append("orders", "b").await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_may_think_better_of_it_while_storage_refuses() {
    let (place, a, _b) = with_orders(1).await;
    let refused = StorageError::Refused("somebody has locked it".to_owned());
    a.faulty.on(Operation::DeleteContainer).then(Fault::Fail(refused));
    place.want_gone(&container("orders")).await;
    place.rest(LIST_EVERY + 2 * SECOND).await;
    assert!(append(&a.stream("orders"), "late", 10).await.is_err());
    place.set(&container("orders"), |meta| meta.deleting = false).await;
    place.rest(LIST_EVERY + 10 * SECOND).await;
    assert_eq!(a.append("orders", "b").await, 1);
    assert_eq!(labels(&a.stream("orders")).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stream_made_anew_for_one_whose_data_is_missing_takes_its_place() {
    let (place, a, b) = with_orders(1).await;
    let before = a.stream("orders").meta();
    place.delete_container(&container("orders")).await;
    place.rest(LIST_EVERY + SECOND).await;
    assert_eq!(a.stream("orders").status().condition, Condition::DataMissing);
    let mut anew = before.clone();
    (anew.id, anew.begun) = (place.env.stream_id(), false);
    place.memory.create_container(&container("orders"), &anew.to_metadata()).await.unwrap();
    place.rest(LIST_EVERY + 2 * SECOND).await;
    assert_eq!(a.stream("orders").meta().id, anew.id);
    assert_eq!(b.vault.list("orders", None, 1).0[0].meta().id, anew.id, "followers are told");
    assert_eq!(a.append("orders", "b").await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_made_anew_between_two_listings_begins_at_the_beginning() {
    for listed_first in [true, false] {
        let (place, a, b) = with_orders(1).await;
        let old = a.stream("orders");
        let anew = place.remake(&container("orders"), &old.meta()).await;
        if !listed_first {
            // The old one's writer does not know.
            assert!(append(&old, "lost", 10).await.is_err());
        }
        place.rest(LIST_EVERY + 2 * SECOND).await;
        assert!(append(&old, "lost", 10).await.is_err(), "the old stream takes nothing any more");
        assert_eq!(a.stream("orders").meta().id, anew.id);
        assert_eq!(b.vault.list("orders", None, 1).0[0].meta().id, anew.id);
        assert_eq!(a.append("orders", "b").await, 0);
        let labels = labels(&a.stream("orders")).await;
        assert_eq!(labels, [(0, "b".to_owned())]);
    }
}

/// A stream without a segment would make its first one: in the new container, under the old id.
#[tokio::test(start_paused = true)]
async fn an_empty_stream_does_not_begin_in_the_container_of_another() {
    let place = Place::new(1);
    let (a, _b) = place.pair().await;
    let old = a.create("orders").await;
    old.until_opened().await;
    let anew = place.remake(&container("orders"), &old.meta()).await;
    assert!(append(&old, "lost", 10).await.is_err());
    assert_eq!(place.meta(&container("orders")).await, Some(anew.clone()), "the new one has not begun");
    place.rest(LIST_EVERY + 2 * SECOND).await;
    assert_eq!(a.stream("orders").meta().id, anew.id);
    assert_eq!(a.append("orders", "b").await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_container_is_restored_goes_on() {
    let (place, a, b) = with_orders(1).await;
    let (name, before) = (container("orders"), a.stream("orders").meta());
    let metadata = place.memory.container_metadata(&name).await.unwrap();
    let kept = place.copy_of(&name).await;
    place.delete_container(&name).await;
    place.rest(LIST_EVERY + SECOND).await;
    assert!(append(&a.stream("orders"), "refused", 10).await.is_err());
    place.memory.create_container(&name, &metadata).await.unwrap();
    place.put_back(kept).await;
    place.rest(LIST_EVERY + 10 * SECOND).await;
    assert_eq!(a.stream("orders").meta().id, before.id);
    assert_eq!(a.append("orders", "b").await, 1, "it goes on behind what was there");
    assert_eq!(labels(&a.stream("orders")).await.len(), 2);
    assert_eq!(b.vault.list("orders", None, 1).0[0].meta().id, before.id);
}

/// As `az storage container restore` brings it back: with the fence of the term that goes on.
#[tokio::test(start_paused = true)]
async fn what_was_on_its_way_to_a_deleted_stream_does_no_harm_when_its_container_is_restored() {
    let (place, a, b) = with_orders(1).await;
    let (name, before) = (container("orders"), a.stream("orders").meta());
    let late = Hold::new();
    a.faulty.on(Operation::PutPages).blob("orders").then(Fault::Hold(late.clone()));
    let stream = a.stream("orders");
    let unknown = tokio::spawn(async move { append(&stream, "late", 10).await });
    late.arrived(1).await;
    let metadata = place.memory.container_metadata(&name).await.unwrap();
    let kept = place.copy_of(&name).await;
    a.vault.delete(&a.name("orders")).await.unwrap();
    assert!(unknown.await.unwrap().is_err());
    place.memory.create_container(&name, &metadata).await.unwrap();
    place.put_back(kept).await;
    place.rest(LIST_EVERY + 10 * SECOND).await;
    assert_eq!(a.stream("orders").meta().id, before.id);
    assert!(b.lists("orders"), "followers are told of it");
    assert_eq!(a.append("orders", "after").await, 1);
    late.release().await;
    a.end().await;
    b.leads().await;
    let stored: Vec<_> = labels(&b.stream("orders")).await.into_iter().map(|(_, label)| label).collect();
    assert_eq!(stored, ["a", "after"]);
}

/// What stands under the name now is not what the caller means, nor what the old one's owner wanted gone.
#[tokio::test(start_paused = true)]
async fn a_deletion_spares_a_stream_made_anew() {
    let (place, a, _b) = with_orders(1).await;
    let before = a.stream("orders").meta();
    place.delete_container(&container("orders")).await;
    place.rest(LIST_EVERY + SECOND).await;
    let mut anew = before.clone();
    (anew.id, anew.begun) = (place.env.stream_id(), false);
    place.memory.create_container(&container("orders"), &anew.to_metadata()).await.unwrap();
    a.vault.delete(&a.name("orders")).await.unwrap();
    assert_eq!(place.meta(&container("orders")).await, Some(anew.clone()));
    place.rest(LIST_EVERY + SECOND).await;
    assert_eq!(a.stream("orders").meta().id, anew.id);
}
