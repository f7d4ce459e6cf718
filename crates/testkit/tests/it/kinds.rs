//! Kinds of media that nothing produces yet go through job store and rows like any other.

use async_trait::async_trait;
use splitreel_backend::JobStore;
use splitreel_backend::conformance::StoreHarness;
use splitreel_backend::conformance::fixture::{self, Stage};
use splitreel_backend::memory::MemoryStore;
use splitreel_core::MediaKind;
use splitreel_core::job::JobState;
use splitreel_core::plan::Media;
use splitreel_core::task::TaskKind;
use splitreel_presentation::Rows;
use std::sync::Arc;

struct InMemory(Arc<MemoryStore>);

#[async_trait]
impl StoreHarness for InMemory {
    async fn open(&self) -> Arc<dyn JobStore> {
        Arc::clone(&self.0) as Arc<_>
    }
}

#[tokio::test]
async fn captions_are_planned_stored_and_read_back_as_a_track_with_a_task_of_its_own() {
    let stage = Stage::probed(&InMemory(Arc::new(MemoryStore::new()))).await;
    let mut plan = fixture::plan(2, 2);
    let captions = plan.tracks.last_mut().unwrap();
    captions.media = Media::Text;
    let id = captions.id.clone();
    assert!(stage.store.record_plan(stage.job, 0, &plan, 0).await.unwrap());
    assert_eq!(stage.store.plan(stage.job).await.unwrap().unwrap(), plan);
    let kinds: Vec<TaskKind> = stage.tasks().await.iter().map(|task| task.spec.kind).collect();
    assert_eq!(kinds[1..], [TaskKind::Segment, TaskKind::Audio, TaskKind::Audio, TaskKind::Segment]);
    for number in 1..=4 {
        stage.finish(number).await;
    }
    assert_eq!(stage.tasks().await.last().unwrap().spec.kind, TaskKind::Assemble);
    let results: Vec<_> = stage.tasks().await.into_iter().filter_map(|task| task.result).collect();
    let rows = Rows::new(&plan, &results);
    let stored = rows.tracks().pop().unwrap();
    assert_eq!((stored.id, stored.kind, stored.init.is_some()), (id.as_str(), MediaKind::Text, true));
    stage.finish(5).await;
    assert_eq!(stage.job().await.state, JobState::Published);
    stage.audit().await;
}
